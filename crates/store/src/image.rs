//! An image: from any of its names down to its configuration and layers, every step verified.

use descriptor::{Descriptor, Digest, Platform, media};
use oci_spec::image::ImageConfiguration;

use crate::{DOCUMENT_LIMIT, Document, DocumentFault, Error, Manifest, Result, Store, document};

/// How deep indexes may be nested; an index that contains itself cannot exist, but thousands in a row can.
const NESTING: usize = 4;

/// A whole image.
#[derive(Debug, Clone)]
pub struct Image {
    /// The manifest's digest.
    pub manifest_digest: Digest,
    /// The manifest's size in bytes.
    pub manifest_size: u64,
    /// The manifest.
    pub manifest: Manifest,
    /// The configuration's digest.
    pub config_digest: Digest,
    /// The configuration.
    pub config: ImageConfiguration,
    /// The digests of the layers' tars before compression, the lowest first; as many as the manifest has layers.
    pub diff_ids: Vec<Digest>,
    /// The configuration's platform.
    pub platform: Platform,
}

impl Image {
    /// Puts a verified manifest and the verified bytes of its configuration together.
    ///
    /// # Errors
    /// [`Error::Document`] where they do not fit or the configuration is none of a container image.
    pub fn of(manifest_digest: Digest, manifest_size: u64, manifest: Manifest, bytes: &[u8]) -> Result<Self> {
        let config_digest = manifest.config.digest;
        let fail = |fault: DocumentFault| Error::document(config_digest, fault);
        let rule = |text: String| fail(DocumentFault::Rule(text));
        let media_type = &manifest.config.media_type;
        if !matches!(&**media_type, media::OCI_CONFIG | media::DOCKER_CONFIG) {
            return Err(rule(format!("no container image: its configuration is of the type {media_type:?}")));
        }
        if manifest.config.size != bytes.len() as u64 {
            let (wanted, got) = (manifest.config.size, bytes.len() as u64);
            return Err(Error::WrongSize { digest: config_digest, wanted, got });
        }
        let value = document::config(bytes).map_err(fail)?;
        let config: ImageConfiguration = serde_json::from_value(value).map_err(|e| fail(e.into()))?;
        if config.rootfs().typ() != "layers" {
            return Err(rule(format!("rootfs.type is {:?}, not \"layers\"", config.rootfs().typ())));
        }
        let parse = |text: &String| text.parse().map_err(|e| rule(format!("rootfs.diff_ids: {e}")));
        let diff_ids = config.rootfs().diff_ids().iter().map(parse).collect::<Result<Vec<Digest>>>()?;
        if diff_ids.len() != manifest.layers.len() {
            let (layers, ids) = (manifest.layers.len(), diff_ids.len());
            return Err(rule(format!("{ids} diff_ids for {layers} layers")));
        }
        let platform = Platform {
            os: config.os().to_string(),
            architecture: config.architecture().to_string(),
            variant: config.variant().clone().filter(|variant| !variant.is_empty()),
        };
        Ok(Self { manifest_digest, manifest_size, manifest, config_digest, config, diff_ids, platform })
    }

    /// The manifest's descriptor with the image's platform.
    pub fn descriptor(&self) -> Descriptor {
        let mut descriptor =
            Descriptor::new(&*self.manifest.media_type, self.manifest_digest, self.manifest_size);
        descriptor.platform = Some(self.platform.clone());
        descriptor
    }

    /// The image itself, unless a platform was asked for by name that is not its own.
    ///
    /// An image without an index is what it is, and runs by emulation say; asked for by name, another platform is not
    /// there. A variant counts where both sides name one.
    ///
    /// # Errors
    /// [`Error::NoPlatform`].
    pub fn of_platform(self, wanted: Option<&Platform>) -> Result<Self> {
        let own = &self.platform;
        let agrees = |wanted: &Platform| {
            let variant = own.variant.is_none() || wanted.variant.is_none() || own.variant == wanted.variant;
            variant && (&own.os, &own.architecture) == (&wanted.os, &wanted.architecture)
        };
        match wanted {
            Some(wanted) if !agrees(wanted) => {
                Err(Error::NoPlatform { wanted: wanted.clone(), available: vec![own.to_string()] })
            }
            _ => Ok(self),
        }
    }

    /// The chainID of all layers; none for an image without layers.
    pub fn chain_id(&self) -> Option<Digest> {
        chain_ids(&self.diff_ids).pop()
    }
}

/// The chainID of each layer with all below it (image-spec v1.1, config.md, "Layer ChainID").
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let next = match chain.last() {
            None => *diff_id,
            Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
        };
        chain.push(next);
    }
    chain
}

impl Store {
    /// Reads a manifest or an index.
    ///
    /// # Errors
    /// Those of [`Store::read_document`], and [`Error::Document`].
    pub fn document(&self, digest: &Digest, media_type: Option<&str>) -> Result<(Document, u64)> {
        let bytes = self.read_document(digest, DOCUMENT_LIMIT)?;
        let parsed = document::parse(&bytes, media_type).map_err(|fault| Error::document(digest, fault))?;
        Ok((parsed, bytes.len() as u64))
    }

    /// Reads an image by the digest of its manifest or of an index that leads to it.
    ///
    /// `platform` is the host's in indexes unless given; where it is given, the image must be of it.
    ///
    /// # Errors
    /// [`Error::NoBlob`], [`Error::NoPlatform`], [`Error::Document`] for what breaks a rule, or a failed call.
    pub fn image(&self, digest: &Digest, platform: Option<&Platform>) -> Result<Image> {
        let mut at = *digest;
        let mut entry: Option<Descriptor> = None;
        for _ in 0..=NESTING {
            let (document, got) = self.document(&at, entry.as_ref().map(|entry| &*entry.media_type))?;
            if let Some(entry) = entry.filter(|entry| entry.size != got) {
                return Err(Error::WrongSize { digest: at, wanted: entry.size, got });
            }
            match (document, got) {
                (Document::Manifest(manifest), size) => {
                    return self.image_of(at, size, manifest)?.of_platform(platform);
                }
                (Document::Index(index), _) => {
                    let chosen = index.choose(platform.unwrap_or(&Platform::host()))?;
                    at = chosen.digest;
                    entry = Some(chosen.clone());
                }
            }
        }
        Err(Error::document(digest, DocumentFault::Rule(format!("indexes nested deeper than {NESTING}"))))
    }

    fn image_of(&self, manifest_digest: Digest, manifest_size: u64, manifest: Manifest) -> Result<Image> {
        let bytes = self.read_document(&manifest.config.digest, DOCUMENT_LIMIT)?;
        Image::of(manifest_digest, manifest_size, manifest, &bytes)
    }
}
