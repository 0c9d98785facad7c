//! Find what is meant, show it.

use cli::{During, Failure, Stage};
use descriptor::{Descriptor, ImageLine, Line};
use store::Store;

use crate::answer::Answers;
use crate::args::{Args, List, One};
use crate::find::{Thing, find_kind};
use crate::form::Format;
use crate::lists::{containers, images, volumes};
use crate::{check, container, df, diff, events, history, image, rootfs, stats, top, tree, volume};

/// Runs the tool.
pub(crate) fn run(args: Args, stage: &mut Stage) -> Result<u8, Failure> {
    let store = Store::open(args.common.store.as_deref()).during(|| "store".into())?;
    if let Some(list) = &args.list {
        if let Some(option) = args.one.given() {
            return Err(Failure::usage(option, "a list's options stand behind its word"));
        }
        if !are_lines(list) {
            stage.keep_errors_home();
        }
        return lists(&store, stage, list, args.common.quiet).map(|()| 0);
    }
    if args.one.check || args.one.repair {
        return check::check(&store, stage, args.one.repair).map(|()| 0);
    }
    things(&store, stage, &args.one)
}

/// Whether a list's rows may be lines of the pipeline, of which an error is one, too.
fn are_lines(list: &List) -> bool {
    let form = match list {
        List::Images(args) => &args.form,
        List::Containers(args) => &args.form,
        _ => return false,
    };
    matches!(form.format, None | Some(Format::Line))
}

fn lists(store: &Store, stage: &Stage, list: &List, ids_only: bool) -> Result<(), Failure> {
    match list {
        List::Images(args) => images::images(store, stage, args, ids_only),
        List::Containers(args) => containers::containers(store, stage, args, ids_only),
        List::Volumes(args) => volumes::volumes(store, args, ids_only),
        List::History(args) => history::history(store, args, ids_only),
        List::Diff(args) => diff::diff(store, args),
        List::Layers(args) => tree::layers(store, args, ids_only),
        List::Tree(args) => tree::tree(store, args),
        List::Df(args) => df::df(store, args),
        List::Top(args) => top::top(store, args, ids_only),
        List::Stats(args) => stats::stats(store, args),
        List::Events(args) => events::events(store, args),
    }
}

/// Shows what is named, or what the lines on stdin speak of.
fn things(store: &Store, stage: &mut Stage, args: &One) -> Result<u8, Failure> {
    let mut answers = Answers::new(args);
    if !answers.are_lines() {
        stage.keep_errors_home();
    }
    let status = if args.what.is_empty() {
        let lines = stage.lines()?;
        stage.for_each(lines, |stage, line| of_line(store, stage, line, args, &mut answers))
    } else {
        let named = args.what.iter().map(Ok);
        let show = |stage: &mut Stage, text: &String| {
            show(store, stage, find_kind(store, text, args.kind)?, args, &mut answers)
        };
        stage.for_each(named, show)
    };
    answers.finish()?;
    Ok(status)
}

fn show(
    store: &Store,
    stage: &Stage,
    thing: Thing,
    args: &One,
    answers: &mut Answers,
) -> Result<(), Failure> {
    match thing {
        Thing::Image(line) => image::show(store, stage, line, args, answers),
        Thing::Volume(volume) => no_image("a volume", args).and_then(|()| volume::show(&volume, answers)),
        Thing::Layer(layer) => no_image("a layer", args).and_then(|()| layer.show(store, answers)),
        Thing::Container(one) => {
            no_image("a container", args).and_then(|()| container::show(&one, stage, answers, args.size))
        }
    }
}

/// Refuses the options that images alone have an answer to.
fn no_image(kind: &str, args: &One) -> Result<(), Failure> {
    if args.raw || args.manifests {
        return Err(Failure::usage(kind, "--raw and --manifests are for images"));
    }
    Ok(())
}

/// Shows what a line speaks of: its digest and kind count, the rest is read again from the store.
fn of_line(
    store: &Store,
    stage: &Stage,
    line: Line,
    args: &One,
    answers: &mut Answers,
) -> Result<(), Failure> {
    match line {
        Line::Image(line) => {
            let what = || format!("image {}", line.descriptor.digest);
            store.owns(line.store.as_deref()).during(what)?;
            let thing = Thing::Image(known(store, &line).during(what)?);
            show(store, stage, thing, args, answers)
        }
        Line::Rootfs(line) => {
            store.owns(Some(&line.store)).during(|| format!("rootfs {}", line.digest))?;
            no_image("a rootfs", args)?;
            rootfs::show(store, stage, line, answers)
        }
        Line::Container(line) => {
            let container = store.resolve_line(&line).during(|| format!("container {}", line.digest))?;
            show(store, stage, Thing::Container(container), args, answers)
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
