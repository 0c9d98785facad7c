//! Find what nothing uses, remove it, say what it was.

use cli::{During, Failure, Stage, human_bytes};
use store::filter::Of;
use store::{Filters, Store};

use crate::args::Args;
use crate::{caches, containers, content, images, volumes};

/// What a call does with what it finds.
#[derive(Debug)]
pub(crate) struct Broom<'a> {
    pub(crate) store: &'a Store,
    pub(crate) filters: &'a Filters,
    /// What is kept otherwise goes, too.
    pub(crate) all: bool,
    pub(crate) dry_run: bool,
    /// Bytes on the disk.
    pub(crate) freed: u64,
}

/// Runs the tool.
pub(crate) fn run(args: Args, stage: &mut Stage) -> Result<u8, Failure> {
    // What is printed is no line of the pipeline.
    stage.keep_errors_home();
    let filters = Filters::parse(Of::Prune, &args.filter).during(|| "--filter".into())?;
    let store = Store::open(args.common.store.as_deref()).during(|| "store".into())?;
    let mut broom =
        Broom { store: &store, filters: &filters, all: args.all, dry_run: args.dry_run, freed: 0 };
    let mut status = 0;
    if !args.image.is_empty() {
        return images::untag(&store, stage, &args);
    }
    // Containers first: the volumes of those that go are free then.
    if args.containers {
        status = containers::all(&mut broom, stage)?;
    }
    if args.volumes {
        let of_volumes = volumes::all(&mut broom, stage, &args.names)?;
        status = if status == 0 { of_volumes } else { status };
    }
    if args.caches {
        let of_caches = caches::all(&mut broom, stage)?;
        status = if status == 0 { of_caches } else { status };
    }
    // Last: what the others let go of is free then.
    if args.refs {
        content::names(&mut broom)?;
    }
    if args.blobs || args.layers {
        content::sweep(&mut broom, &args)?;
    }
    let verb = if args.dry_run { "would be freed" } else { "freed" };
    stage.note(&format!("{} {verb}", human_bytes(broom.freed)));
    Ok(status)
}

impl Broom<'_> {
    /// Prints what goes, or would.
    pub(crate) fn tell(&mut self, kind: &str, name: &str, bytes: u64) -> Result<(), Failure> {
        self.freed += bytes;
        cli::answer(format!("{kind} {name}\n"))
    }
}
