//! All images of the store, to find what a digest belongs to.

use cli::{During, Failure};
use descriptor::{Descriptor, Digest};
use store::{Document, Index, Manifest, Store};

/// An image the store has, by its manifest.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) digest: Digest,
    pub(crate) manifest: Manifest,
}

/// Every image that index.json leads to. What is damaged is `--check`'s to report.
pub(crate) fn images(store: &Store) -> Result<Vec<Known>, Failure> {
    let mut all = Vec::new();
    for (_, root) in store.roots().during(|| "index.json".into())? {
        match store.document(&root.digest, Some(&root.media_type)) {
            Ok((Document::Manifest(manifest), _)) => all.push(Known { digest: root.digest, manifest }),
            Ok((Document::Index(index), _)) => {
                for (entry, manifest) in present(store, &index) {
                    all.push(Known { digest: entry.digest, manifest });
                }
            }
            Err(_) => {}
        }
    }
    Ok(all)
}

/// The images of an index that the store has.
pub(crate) fn present(store: &Store, index: &Index) -> Vec<(Descriptor, Manifest)> {
    let mut all = Vec::new();
    for entry in &index.manifests {
        if let Ok((Document::Manifest(manifest), _)) = store.document(&entry.digest, Some(&entry.media_type))
        {
            all.push((entry.clone(), manifest));
        }
    }
    all
}

/// Whether an image is the one of a digest, or an index that has it.
pub(crate) fn is_or_has(store: &Store, image: &Descriptor, digest: &Digest) -> bool {
    let in_index = || match store.document(&image.digest, Some(&image.media_type)) {
        Ok((Document::Index(index), _)) => index.manifests.iter().any(|entry| entry.digest == *digest),
        _ => false,
    };
    image.digest == *digest || in_index()
}

/// Whether all blobs of a manifest are there.
pub(crate) fn is_complete(store: &Store, manifest: &Manifest) -> bool {
    let mut parts = std::iter::once(&manifest.config).chain(&manifest.layers);
    parts.all(|part| store.has_blob(&part.digest).is_ok_and(|size| size == Some(part.size)))
}

/// The name an image has; the first by the alphabet where it has several.
pub(crate) fn name_of(store: &Store, digest: &Digest) -> Option<String> {
    let all = store.references().unwrap_or_default();
    all.into_iter().find(|(_, image)| image.digest == *digest).map(|(name, _)| name)
}
