//! [`Origin`]: what an image is read from, whatever its kind.

use descriptor::Descriptor;
use store::BlobWriter;

use crate::auth::Access;
use crate::error::Result;
use crate::layout::Layout;
use crate::place::Place;
use crate::reference::Reference;
use crate::repository::{Fetched, Network, Repository};

/// A place that images are read from. Threads may share it.
pub trait Origin: Send + Sync {
    /// The manifest or index that the place names.
    ///
    /// # Errors
    /// Not found, refused, unreachable, or not what its digest says.
    fn top(&self) -> Result<Fetched>;

    /// The manifest or index that an entry of an index names.
    ///
    /// # Errors
    /// As [`Origin::top`]; another size or media type than the entry's.
    fn child(&self, entry: &Descriptor) -> Result<Fetched>;

    /// A small blob, verified.
    ///
    /// # Errors
    /// As [`Origin::child`].
    fn document(&self, blob: &Descriptor) -> Result<Vec<u8>>;

    /// Brings what the writer lacks of a blob, verifies and publishes it. `progress` is told each piece's length.
    ///
    /// # Errors
    /// As [`Origin::child`]; the store's.
    fn fetch(&self, blob: &Descriptor, writer: &mut BlobWriter, progress: &dyn Fn(u64)) -> Result<()>;
}

impl Network {
    /// What the place's image is read from.
    ///
    /// # Errors
    /// [`crate::Error::Layout`] for a directory that is no image layout; as [`Network::repository`].
    pub fn origin(&self, place: &Place) -> Result<Box<dyn Origin>> {
        Ok(match place {
            Place::Layout(layout) => Box::new(Layout::open(layout)?),
            Place::Registry(reference) => Box::new(Named {
                repository: self.repository(reference, Access::Pull)?,
                reference: reference.clone(),
            }),
        })
    }
}

/// An image of a registry by its reference.
struct Named {
    repository: Repository,
    reference: Reference,
}

impl Origin for Named {
    fn top(&self) -> Result<Fetched> {
        self.repository.manifest(&self.reference.selector())
    }

    fn child(&self, entry: &Descriptor) -> Result<Fetched> {
        self.repository.child(entry)
    }

    fn document(&self, blob: &Descriptor) -> Result<Vec<u8>> {
        self.repository.document(blob)
    }

    fn fetch(&self, blob: &Descriptor, writer: &mut BlobWriter, progress: &dyn Fn(u64)) -> Result<()> {
        self.repository.fetch(blob, writer, progress)
    }
}
