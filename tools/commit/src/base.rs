//! What a commit starts from: the container's trees, and the image below them.

use cli::{During, Failure};
use descriptor::{Descriptor, Digest, Exit, media};
use serde_json::Value;
use store::{Container, DOCUMENT_LIMIT, Form, Image, Store};
use sys::Root;

/// The image that a container was made of, as the new one needs it.
pub(crate) struct Base {
    pub(crate) image: Image,
    /// The whole configuration.
    pub(crate) config: Value,
    /// The layers' descriptors as the manifest has them, in OCI's media types.
    pub(crate) layers: Vec<Value>,
}

impl Base {
    /// Reads the image again from the store, verified.
    pub(crate) fn read(store: &Store, digest: &Digest) -> Result<Self, Failure> {
        let what = || format!("image {digest}");
        let image = store.image(digest, None).during(what)?;
        let bytes = store.read_document(&image.config_digest, DOCUMENT_LIMIT).during(what)?;
        let config = json(&bytes, &image.config_digest)?;
        let bytes = store.read_document(&image.manifest_digest, DOCUMENT_LIMIT).during(what)?;
        let mut manifest = json(&bytes, &image.manifest_digest)?;
        let layers = match manifest.get_mut("layers").map(Value::take) {
            Some(Value::Array(layers)) => layers.into_iter().map(to_oci).collect(),
            _ => Vec::new(),
        };
        Ok(Self { image, config, layers })
    }

    /// True where media types had to be translated.
    pub(crate) fn is_docker(&self) -> bool {
        self.image.manifest.media_type == media::DOCKER_MANIFEST
    }

    /// Bytes of all layers together, compressed.
    pub(crate) fn size(&self) -> u64 {
        self.image.manifest.layers.iter().fold(0, |sum, layer: &Descriptor| sum.saturating_add(layer.size))
    }
}

fn json(bytes: &[u8], digest: &Digest) -> Result<Value, Failure> {
    serde_json::from_slice(bytes).map_err(|e| Failure::new(Exit::Content, digest.to_string(), e))
}

/// A layer's descriptor in OCI's media types (image-spec v1.1, media-types.md, "Compatibility Matrix").
fn to_oci(mut layer: Value) -> Value {
    let known = layer.get("mediaType").and_then(Value::as_str).and_then(|docker| match docker {
        media::DOCKER_LAYER => Some(media::OCI_LAYER),
        media::DOCKER_LAYER_GZIP => Some(media::OCI_LAYER_GZIP),
        media::DOCKER_LAYER_ZSTD => Some(media::OCI_LAYER_ZSTD),
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => {
            Some("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip")
        }
        _ => None,
    });
    if let Some(oci) = known {
        layer["mediaType"] = oci.into();
    }
    layer
}

/// A container's trees, opened.
pub(crate) struct Trees {
    /// The container's writable layer.
    pub(crate) upper: Root,
    /// What lies below, the uppermost first; never `init`, which holds what we put there.
    pub(crate) below: Vec<Root>,
}

impl Trees {
    /// Opens the container's writable layer and the image's trees, as they are stacked when it runs.
    pub(crate) fn open(store: &Store, container: &Container, image: &Image) -> Result<Self, Failure> {
        let what = || format!("container {}", container.name());
        let bundle = container.root().during(what)?;
        let upper = bundle.open_dir("upper").map_err(|e| Failure::new(Exit::Other, what(), e))?;
        let mut below = Vec::with_capacity(image.diff_ids.len() + 1);
        if let Some(chain_id) = image.chain_id()
            && let Some(fixes) = store.fixes(&chain_id).during(what)?
        {
            below.push(fixes.root().during(what)?);
        }
        for diff_id in image.diff_ids.iter().rev() {
            let layer = store.layer(Form::Identity, diff_id).during(what)?.ok_or_else(|| missing(diff_id))?;
            below.push(layer.root().during(what)?);
        }
        Ok(Self { upper, below })
    }
}

fn missing(diff_id: &Digest) -> Failure {
    Failure::new(Exit::NotFound, format!("layer {diff_id}"), "it is not in the store")
        .with_hint("oci-unpack the container's image again")
}
