//! Names of images. What has no name any more is still there: its blobs and layers are not removed here.

use cli::{During, Failure, Stage};
use descriptor::{Descriptor, Digest, Exit};
use store::{Document, Store};

use crate::args::Args;

/// Takes images their names; returns the exit status.
pub(crate) fn untag(store: &Store, stage: &mut Stage, args: &Args) -> Result<u8, Failure> {
    Ok(stage.for_each(args.image.iter().map(Ok), |_, name: &String| one(store, name, args)))
}

fn one(store: &Store, name: &str, args: &Args) -> Result<(), Failure> {
    let what = || format!("untagging {name:?}");
    let named = registry::by_reference(store, name).during(what)?;
    let missing = || {
        Failure::new(Exit::NotFound, what(), "no image has this name")
            .with_hint("oci-inspect images lists what there is")
    };
    let (image, name) = named.ok_or_else(missing)?;
    if !args.force
        && is_last(store, &image).during(what)?
        && let Some(user) = user(store, &image).during(what)?
    {
        let why = format!("it is the last name of the image of container {user:?}");
        let hint = "another name first (oci-push --image REF --tag NAME), or --force";
        return Err(Failure::new(Exit::Conflict, what(), why).with_hint(hint));
    }
    // By its digest an image is found without a name.
    if !args.dry_run && !store.untag(&name).during(what)? {
        return Err(missing());
    }
    cli::answer(format!("Untagged: {name}\n"))
}

fn is_last(store: &Store, image: &Descriptor) -> store::Result<bool> {
    Ok(store.references()?.iter().filter(|(_, other)| other.digest == image.digest).count() <= 1)
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
