//! Find what is meant, show it.

use cli::{During, Failure, Stage};
use descriptor::{Descriptor, ImageLine, Line};
use store::Store;

use crate::args::Args;
use crate::find::{Thing, find};
use crate::{check, container, image, lists, rootfs};

/// Runs the tool.
pub(crate) fn run(args: Args, stage: &mut Stage) -> Result<u8, Failure> {
    let store = Store::open(args.common.store.as_deref()).during(|| "store".into())?;
    if args.check {
        return check::check(&store, stage).map(|()| 0);
    }
    match &args.what[..] {
        [list] if list == "images" => lists::images(&store, stage).map(|()| 0),
        [list] if list == "containers" => lists::containers(&store, stage).map(|()| 0),
        [] => {
            let lines = stage.lines()?;
            Ok(stage.for_each(lines, |stage, line| of_line(&store, stage, line, &args)))
        }
        named => {
            let named = named.iter().map(Ok);
            Ok(stage.for_each(named, |stage, text: &String| show(&store, stage, find(&store, text)?, &args)))
        }
    }
}

fn show(store: &Store, stage: &Stage, thing: Thing, args: &Args) -> Result<(), Failure> {
    match thing {
        Thing::Image(line) => image::show(store, stage, line, args),
        Thing::Layer(layer) => no_image("a layer", args).and_then(|()| layer.show(store, args.full)),
        Thing::Container(one) => {
            no_image("a container", args).and_then(|()| container::show(&one, stage, args.full))
        }
    }
}

/// Refuses the options that images alone have an answer to.
fn no_image(kind: &str, args: &Args) -> Result<(), Failure> {
    if args.raw || args.manifests {
        return Err(Failure::usage(kind, "--raw and --manifests are for images"));
    }
    Ok(())
}

/// Shows what a line speaks of: its digest and kind count, the rest is read again from the store.
fn of_line(store: &Store, stage: &Stage, line: Line, args: &Args) -> Result<(), Failure> {
    match line {
        Line::Image(line) => {
            let what = || format!("image {}", line.descriptor.digest);
            store.owns(line.store.as_deref()).during(what)?;
            let thing = Thing::Image(known(store, &line).during(what)?);
            show(store, stage, thing, args)
        }
        Line::Rootfs(line) => {
            store.owns(Some(&line.store)).during(|| format!("rootfs {}", line.digest))?;
            no_image("a rootfs", args)?;
            rootfs::show(store, stage, line, args.full)
        }
        Line::Container(line) => {
            let container = store.resolve_line(&line).during(|| format!("container {}", line.digest))?;
            show(store, stage, Thing::Container(container), args)
        }
        // Handled where lines are read.
        Line::Error(line) => Err(Failure::travelling(line)),
    }
}

/// The line of an image as this store knows it; its names are the line's where the store has none yet.
fn known(store: &Store, line: &ImageLine) -> store::Result<ImageLine> {
    let digest = line.descriptor.digest;
    let (document, size) = store.document(&digest, Some(&line.descriptor.media_type))?;
    let mut descriptor = Descriptor::new(document.media_type(), digest, size);
    descriptor.platform = line.descriptor.platform.clone();
    descriptor.annotations = line.descriptor.annotations.clone();
    let mut ours = crate::find::line(store, descriptor, line.reference.clone());
    ours.pinned = line.pinned.clone().or(ours.pinned);
    Ok(ours)
}
