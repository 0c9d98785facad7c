//! Open the store, make a container of each line, print its line.

use cli::{During, Failure, Stage};
use store::Store;

use crate::args::Args;
use crate::create::Maker;
use crate::idfile::IdFile;
use crate::{names, remove, rename, volume};

/// Runs the tool.
pub(crate) fn run(args: Args, stage: &mut Stage) -> Result<u8, Failure> {
    let store = Store::open(args.common.store.as_deref()).during(|| "store".into())?;
    if args.remove {
        return remove::all(
            stage,
            &store,
            &args.removed,
            remove::How { force: args.force, volumes: args.volumes },
        );
    }
    if let Some(to) = &args.rename {
        return rename::one(stage, &store, &args.removed, to).map(|()| 0);
    }
    if args.create_volume {
        return volume::create(stage, &store, &args.removed, &args.volume_label);
    }
    if let Some(word) = args.removed.first() {
        return Err(Failure::usage("command line", format!("{word:?} is no option")).with_hint(
            "the container's command follows --; names of containers go with --remove or --rename",
        ));
    }
    let maker = Maker {
        store: &store,
        lease: store.lease(),
        choices: &args.choices,
        command: &args.command,
        force: args.force,
        id_file: args.choices.cidfile.as_deref().map(IdFile::make).transpose()?.into(),
    };
    let one = args.choices.cidfile.is_some();
    if one || maker.choices.name.as_deref().is_some_and(|name| !names::is_template(name)) {
        let line = stage.single("--name takes a single line, or has {n} in it; --cidfile one alone")?;
        maker.line(stage, &cli::rootfs_line(line)?, 1)?;
        return Ok(0);
    }
    let mut n = 0;
    let lines = stage.lines()?;
    Ok(stage.for_each(lines, |stage, line| {
        n += 1;
        maker.line(stage, &cli::rootfs_line(line)?, n)
    }))
}
