//! From a packed layer to a published image: configuration, manifest, names.

use cli::{During, Failure};
use descriptor::{Descriptor, Digest, ImageLine, Platform, media};
use layer::{Compression, PackError, Packed};
use registry::Reference;
use serde_json::{Value, json};
use store::{Lease, Store};

/// image-spec v1.1, annotations.md.
const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";

/// A layer's blob in the store.
pub(crate) struct NewLayer {
    pub(crate) descriptor: Descriptor,
    pub(crate) diff_id: Digest,
    pub(crate) packed: Packed,
}

impl NewLayer {
    /// Streams what `pack` writes into a new blob.
    pub(crate) fn write(
        store: &Store,
        compression: Compression,
        pack: impl FnOnce(&mut dyn std::io::Write) -> Result<Packed, PackError>,
    ) -> Result<Self, Failure> {
        let what = || "packing the layer".to_string();
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let blob = store.new_blob().during(what)?;
        let done = layer::compress(compression, workers, blob, pack).during(what)?;
        let (digest, size) = done.out.finish().during(what)?;
        let descriptor = Descriptor::new(compression.media_type(), digest, size);
        Ok(Self { descriptor, diff_id: done.diff_id, packed: done.made })
    }

    /// What the layer would take if only its uppermost tree were packed, by the compression of the whole.
    pub(crate) fn size_of_top(&self) -> u64 {
        let share = u128::from(self.descriptor.size) * u128::from(self.packed.top_bytes);
        u64::try_from(share / u128::from(self.packed.bytes.max(1))).unwrap_or(u64::MAX)
    }
}

/// A manifest that refers to a configuration and layers in the store.
pub(crate) struct NewImage {
    pub(crate) config: Vec<u8>,
    pub(crate) layers: Vec<Value>,
    /// The image this one was made from.
    pub(crate) base: Option<Digest>,
    pub(crate) platform: Platform,
}

impl NewImage {
    /// Puts configuration and manifest into the store, then names the image; a lease keeps one without a name.
    pub(crate) fn publish(
        self,
        store: &Store,
        lease: &Lease,
        names: &[Reference],
    ) -> Result<ImageLine, Failure> {
        let what = || "the new image".to_string();
        let config = store.put_document(&self.config).during(what)?;
        let manifest = self.manifest(config);
        let digest = store.put_document(&manifest).during(what)?;
        lease.touch(&digest).during(what)?;
        let mut descriptor = Descriptor::new(media::OCI_MANIFEST, digest, manifest.len() as u64);
        descriptor.platform = Some(self.platform);
        for name in names {
            store.tag(&name.to_string(), &descriptor).during(|| format!("naming the image {name}"))?;
        }
        Ok(ImageLine {
            pinned: names.first().map(|name| name.pinned(&digest)),
            reference: names.first().map(ToString::to_string),
            descriptor,
            store: Some(store.path().into()),
            complete: true,
        })
    }

    fn manifest(&self, config: Digest) -> Vec<u8> {
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": media::OCI_MANIFEST,
            "config": Descriptor::new(media::OCI_CONFIG, config, self.config.len() as u64),
            "layers": self.layers,
        });
        if let Some(base) = &self.base {
            manifest["annotations"] = json!({ BASE_DIGEST: base });
        }
        manifest.to_string().into_bytes()
    }
}
