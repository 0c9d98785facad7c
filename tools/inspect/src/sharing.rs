//! Who has which layers: images and containers over them, and what each takes on the disk.

use std::collections::BTreeMap;

use cli::{During, Failure};
use descriptor::{Digest, Status};
use store::{Form, Seen, Store};

use crate::docker::image_name;
use crate::lists::containers::entry;
use crate::survey;
use crate::text::familiar;

/// An image.
#[derive(Debug, Clone)]
pub(crate) struct ImageUse {
    /// The manifest.
    pub(crate) digest: Digest,
    pub(crate) config: Digest,
    /// As docker shows them; none where it has no name.
    pub(crate) names: Vec<String>,
    pub(crate) layers: Vec<Digest>,
    /// Bytes of its manifest, its configuration and its layers' blobs.
    pub(crate) blobs: u64,
}

/// A container.
#[derive(Debug, Clone)]
pub(crate) struct ContainerUse {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) image: Option<Digest>,
    pub(crate) image_name: String,
    pub(crate) status: Status,
    pub(crate) layers: Vec<Digest>,
    /// Bytes allocated for its directory: what it wrote, and a few documents.
    pub(crate) bytes: u64,
}

/// All of a store.
#[derive(Debug, Default)]
pub(crate) struct Sharing {
    pub(crate) images: Vec<ImageUse>,
    pub(crate) containers: Vec<ContainerUse>,
    /// Bytes allocated for each layer that is unpacked.
    pub(crate) layers: BTreeMap<Digest, u64>,
}

impl Sharing {
    /// Looks at everything; each file is counted once.
    ///
    /// # Errors
    /// A failed call.
    pub(crate) fn of(store: &Store, seen: &mut Seen) -> Result<Self, Failure> {
        let mut all = Self::default();
        for diff_id in store.layers(Form::Identity).during(|| "layers".into())? {
            all.layers.insert(diff_id, bytes(store, &layer_path(&diff_id), seen)?);
        }
        all.images = images(store)?;
        for container in store.containers().during(|| "containers".into())? {
            let Some(entry) = entry(container) else { continue };
            let id = entry.container.id().to_string();
            all.containers.push(ContainerUse {
                bytes: bytes(store, &format!("containers/{id}"), seen)?,
                id,
                name: entry.container.name().into(),
                image: entry.create.image,
                image_name: image_name(store, &entry.create, &entry.state),
                status: entry.status,
                layers: entry.create.diff_ids,
            });
        }
        Ok(all)
    }

    /// Bytes of these layers together.
    pub(crate) fn bytes_of(&self, layers: &[Digest]) -> u64 {
        let mut once: Vec<&Digest> = layers.iter().collect();
        once.sort();
        once.dedup();
        once.into_iter().filter_map(|layer| self.layers.get(layer)).sum()
    }

    /// How many images have a layer.
    pub(crate) fn images_with(&self, layer: &Digest) -> usize {
        self.images.iter().filter(|image| image.layers.contains(layer)).count()
    }

    /// How many containers have a layer.
    pub(crate) fn containers_with(&self, layer: &Digest) -> usize {
        self.containers.iter().filter(|one| one.layers.contains(layer)).count()
    }

    /// What all would take if each image and each container had files of its own.
    pub(crate) fn without_sharing(&self) -> u64 {
        let images = self.images.iter().map(|image| self.bytes_of(&image.layers) + image.blobs);
        let containers = self.containers.iter().map(|one| self.bytes_of(&one.layers) + one.bytes);
        images.chain(containers).sum()
    }
}

/// Where a layer lies, below the store.
fn layer_path(diff_id: &Digest) -> String {
    format!("layers/{}/sha256/{}", Form::Identity.as_str(), diff_id.hex())
}

/// Bytes allocated for a path below the store.
///
/// # Errors
/// A failed call.
pub(crate) fn bytes(store: &Store, path: &str, seen: &mut Seen) -> Result<u64, Failure> {
    Ok(store.usage(path, seen).during(|| "what it takes on the disk".into())?.allocated)
}

/// Every image once, with all its names.
fn images(store: &Store) -> Result<Vec<ImageUse>, Failure> {
    let mut names: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
    for (name, image) in store.references().during(|| "index.json".into())? {
        names.entry(image.digest).or_default().push(familiar(&name).to_string());
    }
    let mut all: Vec<ImageUse> = Vec::new();
    for known in survey::images(store)? {
        if all.iter().any(|image| image.digest == known.digest) {
            continue;
        }
        let Ok(image) = store.image(&known.digest, None) else { continue };
        let parts = std::iter::once(&image.manifest.config).chain(&image.manifest.layers);
        all.push(ImageUse {
            digest: known.digest,
            config: image.config_digest,
            names: names.remove(&known.digest).unwrap_or_default(),
            blobs: image.manifest_size + parts.map(|part| part.size).sum::<u64>(),
            layers: image.diff_ids,
        });
    }
    Ok(all)
}
