//! [`Target`]: what an image is written to, whatever its kind.

use descriptor::{Descriptor, Digest};

use crate::auth::Access;
use crate::error::{Error, Result};
use crate::layout_target::LayoutTarget;
use crate::place::Place;
use crate::reference::Reference;
use crate::repository::{Fetched, Network, Repository};
use crate::upload::Upload;

/// A place that images are written to: blobs first, then the manifests that name them. Threads may share it.
pub trait Target: Send + Sync {
    /// Whether the blob is there.
    ///
    /// # Errors
    /// Refused or unreachable.
    fn has(&self, blob: &Descriptor) -> Result<bool>;

    /// Writes a blob whose bytes are verified as they go; a wrong one is never complete there.
    ///
    /// # Errors
    /// As [`Target::has`]; [`Error::Mismatch`] and [`Error::Size`] for local bytes that are not the descriptor's.
    fn put_blob(&self, upload: &Upload<'_>) -> Result<()>;

    /// Writes a manifest that an index will name.
    ///
    /// # Errors
    /// As [`Target::has`].
    fn put_child(&self, manifest: &Fetched) -> Result<()>;

    /// Writes the manifest or index and gives it the place's name.
    ///
    /// # Errors
    /// As [`Target::has`]; [`Error::Usage`] where the place names another digest.
    fn put_top(&self, manifest: &Fetched, entry: &Descriptor) -> Result<()>;
}

impl Network {
    /// What images are written to at the place.
    ///
    /// # Errors
    /// [`Error::Io`] for a directory that cannot be made; as [`Network::repository`].
    pub fn target(&self, place: &Place) -> Result<Box<dyn Target>> {
        Ok(match place {
            Place::Layout(layout) => Box::new(LayoutTarget::open(layout)?),
            Place::Registry(reference) => Box::new(Named {
                repository: self.repository(reference, Access::Push)?,
                reference: reference.clone(),
            }),
        })
    }
}

struct Named {
    repository: Repository,
    reference: Reference,
}

impl Named {
    fn selector(&self, digest: &Digest) -> Result<String> {
        match (self.reference.digest(), self.reference.tag()) {
            (Some(named), _) if named != digest => {
                Err(Error::Usage(format!("{} names another image than {digest}", self.reference)))
            }
            (_, Some(tag)) => Ok(tag.to_owned()),
            (_, None) => Ok(digest.to_string()),
        }
    }
}

impl Target for Named {
    fn has(&self, blob: &Descriptor) -> Result<bool> {
        self.repository.has_blob(blob)
    }

    fn put_blob(&self, upload: &Upload<'_>) -> Result<()> {
        self.repository.upload(upload)
    }

    fn put_child(&self, manifest: &Fetched) -> Result<()> {
        self.repository.put_manifest(&manifest.digest.to_string(), &manifest.media_type, &manifest.bytes)
    }

    fn put_top(&self, manifest: &Fetched, _entry: &Descriptor) -> Result<()> {
        let selector = self.selector(&manifest.digest)?;
        self.repository.put_manifest(&selector, &manifest.media_type, &manifest.bytes)
    }
}
