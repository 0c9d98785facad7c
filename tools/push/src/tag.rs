//! `--tag`: an image gets names in its own store, and goes nowhere.

use cli::{During, Failure, Stage};
use descriptor::{Descriptor, ImageLine, Line};
use registry::Reference;
use store::Store;

use crate::image::Tree;

/// The names, normalised; a digest among them is refused.
pub(crate) fn references(tags: &[String]) -> Result<Vec<Reference>, Failure> {
    let reference = |tag: &String| {
        let reference: Reference = tag.parse().map_err(|e| Failure::usage("--tag", e))?;
        match reference.digest() {
            Some(_) => Err(Failure::usage("--tag", format!("{tag:?} has a digest, which no name changes"))),
            None => Ok(reference),
        }
    };
    tags.iter().map(reference).collect()
}

/// Names the image once all of it is here, and prints its line with the first name.
pub(crate) fn name(
    store: &Store,
    stage: &Stage,
    image: &Descriptor,
    names: &[Reference],
) -> Result<(), Failure> {
    let what = || format!("image {}", image.digest);
    let lease = store.lease();
    lease.touch(&image.digest).during(what)?;
    let tree = Tree::read(store, image).during(what)?;
    for blob in tree.blobs {
        let what = || format!("blob {}", blob.digest);
        if store.has_blob(&blob.digest).during(what)?.is_none() {
            let mut follower = store.follow(&blob.digest, blob.size).during(what)?;
            std::io::copy(&mut follower, &mut std::io::sink())
                .map_err(|e| Failure::new(descriptor::Exit::Upstream, what(), e))?;
        }
    }
    for name in names {
        store.tag(&name.to_string(), image).during(|| format!("naming {name}"))?;
    }
    let Some(first) = names.first() else { return Ok(()) };
    stage.emit(&Line::Image(ImageLine {
        descriptor: image.clone(),
        store: Some(store.path().to_owned()),
        reference: Some(first.to_string()),
        pinned: Some(first.pinned(&image.digest)),
        complete: true,
    }))
}
