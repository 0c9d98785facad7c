//! Names of images. What has no name any more is still there: its blobs and layers are not removed here.

use cli::{During, Failure, Stage};
use descriptor::{Descriptor, Digest, Exit};
use store::{Document, Event, Store, Subject};

use crate::args::Args;

/// Takes images their names; returns the exit status.
pub(crate) fn untag(store: &Store, stage: &mut Stage, args: &Args) -> Result<u8, Failure> {
    Ok(stage.for_each(args.image.iter().map(Ok), |_, name: &String| one(store, name, args)))
}

fn one(store: &Store, name: &str, args: &Args) -> Result<(), Failure> {
    let what = || format!("untagging {name:?}");
    let missing = || {
        Failure::new(Exit::NotFound, what(), "no image has this name or id")
            .with_hint("oci-inspect images lists what there is")
    };
    let conflict = |why: String, hint: &str| Failure::new(Exit::Conflict, what(), why).with_hint(hint);
    let named = registry::by_reference(store, name).during(what)?;
    let (image, wanted) = match named {
        Some((image, name)) => (image, Some(name)),
        None => (registry::by_id(store, name).during(what)?.ok_or_else(missing)?, None),
    };
    let all: Vec<String> = names(store, &image).during(what)?;
    if wanted.is_none() && all.len() > 1 && !args.force {
        let why = format!("the image has several names: {}", all.join(", "));
        return Err(conflict(why, "take them away by name, or all with --force"));
    }
    let is_last = wanted.is_none() || all.len() <= 1;
    if !args.force
        && is_last
        && let Some(user) = user(store, &image).during(what)?
    {
        let why = format!("it is the last name of the image of container {user:?}");
        let hint = "another name first (oci-push --image REF --tag NAME), or --force";
        return Err(conflict(why, hint));
    }
    let is_by_id = wanted.is_none();
    for name in wanted.map_or(all, |name| vec![name]) {
        // By its digest an image is found without a name.
        if !args.dry_run && !store.untag(&name).during(what)? {
            return Err(missing());
        }
        cli::answer(format!("Untagged: {name}\n"))?;
    }
    if is_by_id && !args.dry_run && store.forget_nameless(&image.digest).during(what)? {
        cli::answer(format!("Untagged: {}\n", image.digest))?;
    }
    if is_last && !args.dry_run {
        // Nothing that lists images has it any more.
        store.note(&Event::new(Subject::Image, "delete", image.digest.to_string(), ""));
    }
    Ok(())
}

/// All names of an image.
fn names(store: &Store, image: &Descriptor) -> store::Result<Vec<String>> {
    let all = store.references()?.into_iter().filter(|(_, other)| other.digest == image.digest);
    Ok(all.map(|(name, _)| name).collect())
}

/// The name of a container of the image, or of one of the images of an index.
fn user(store: &Store, image: &Descriptor) -> store::Result<Option<String>> {
    let mut images = vec![image.digest];
    if let Ok((Document::Index(index), _)) = store.document(&image.digest, Some(&image.media_type)) {
        images.extend(index.manifests.iter().map(|manifest| manifest.digest));
    }
    let uses = |digest: Option<Digest>| digest.is_some_and(|digest| images.contains(&digest));
    for container in store.containers()? {
        // One that is being removed uses nothing.
        if container.create().is_ok_and(|doc| uses(doc.image)) {
            return Ok(Some(container.name().into()));
        }
    }
    Ok(None)
}
