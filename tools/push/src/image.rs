//! What is to be pushed, from the store: documents and the blobs they name, in the order in which they have to arrive.

use std::collections::HashSet;

use descriptor::{Classify, Descriptor, Exit};
use registry::Fetched;
use store::{Document, Store};

/// How deep indexes may be nested.
const NESTING_LIMIT: usize = 4;

/// A manifest or an index with all that has to be there before it.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// Configurations and layers, each once.
    pub(crate) blobs: Vec<Descriptor>,
    /// Manifests and indexes, children first; the last one is the top.
    pub(crate) manifests: Vec<Fetched>,
    /// Entries of indexes that the store does not have.
    pub(crate) absent: usize,
}

/// What can go wrong in reading it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TreeError {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("indexes nested deeper than {NESTING_LIMIT}")]
    Nested,
}

impl Classify for TreeError {
    fn exit(&self) -> Exit {
        match self {
            Self::Store(source) => source.exit(),
            Self::Nested => Exit::Content,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Store(source) => source.hint(),
            Self::Nested => None,
        }
    }
}

impl Tree {
    /// Reads the documents below `top`; blobs may still be on their way.
    pub(crate) fn read(store: &Store, top: &Descriptor) -> Result<Self, TreeError> {
        let mut tree = Self::default();
        let mut seen = HashSet::new();
        tree.add(store, top, 0, &mut seen)?;
        let mut seen = HashSet::new();
        tree.blobs.retain(|blob| seen.insert(blob.digest));
        Ok(tree)
    }

    fn add(
        &mut self,
        store: &Store,
        at: &Descriptor,
        depth: usize,
        seen: &mut HashSet<descriptor::Digest>,
    ) -> Result<(), TreeError> {
        if depth > NESTING_LIMIT {
            return Err(TreeError::Nested);
        }
        if !seen.insert(at.digest) {
            return Ok(());
        }
        let bytes = store.read_document(&at.digest, store::DOCUMENT_LIMIT)?;
        match Document::parse(&bytes, Some(&at.media_type))? {
            Document::Manifest(manifest) => {
                self.blobs.push(manifest.config);
                self.blobs.extend(manifest.layers);
            }
            Document::Index(index) => {
                for entry in &index.manifests {
                    match store.has_blob(&entry.digest)? {
                        Some(_) => self.add(store, entry, depth + 1, seen)?,
                        None => self.absent += 1,
                    }
                }
            }
        }
        self.manifests.push(Fetched { bytes, media_type: at.media_type.clone(), digest: at.digest });
        Ok(())
    }
}
