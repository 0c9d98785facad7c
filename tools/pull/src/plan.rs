//! From a name to a verified manifest and configuration.

use cli::{During, Failure};
use descriptor::{Classify, Descriptor, Exit, Platform};
use registry::{Fetched, Origin, Place};
use store::{Document, Image, Ingest, Manifest, Store};

/// How deep indexes may be nested.
const NESTING_LIMIT: usize = 4;

/// An image that is known by its verified manifest and configuration; its layers may be elsewhere still.
pub(crate) struct Plan {
    pub(crate) image: Image,
    manifest: Vec<u8>,
    config: Vec<u8>,
}

/// What can go wrong in choosing an image.
#[derive(Debug, thiserror::Error)]
enum PlanError {
    #[error(transparent)]
    Registry(#[from] registry::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("indexes nested deeper than {NESTING_LIMIT}")]
    Nested,
}

impl Classify for PlanError {
    fn exit(&self) -> Exit {
        match self {
            Self::Registry(source) => source.exit(),
            Self::Store(source) => source.exit(),
            Self::Nested => Exit::Content,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Registry(source) => source.hint(),
            Self::Store(store::Error::NoPlatform { .. }) => Some("choose one with --platform".to_owned()),
            Self::Store(source) => source.hint(),
            Self::Nested => None,
        }
    }
}

/// Finds the image of a place: documents that the store has already, under a digest that is known, are not fetched.
pub(crate) fn plan(
    store: &Store,
    place: &Place,
    origin: &dyn Origin,
    platform: Option<&Platform>,
) -> Result<Plan, Failure> {
    choose(store, place, origin, platform).during(|| place.to_string())
}

fn choose(
    store: &Store,
    place: &Place,
    origin: &dyn Origin,
    platform: Option<&Platform>,
) -> Result<Plan, PlanError> {
    let (fetched, manifest) = manifest(store, place, origin, platform)?;
    let config = configuration(store, origin, &manifest.config)?;
    let size = fetched.bytes.len() as u64;
    let image = Image::of(fetched.digest, size, manifest, &config)?.of_platform(platform)?;
    Ok(Plan { image, manifest: fetched.bytes, config })
}

/// The configuration's bytes. Like a layer it is fetched by one process, however many want it at the same time.
fn configuration(store: &Store, origin: &dyn Origin, config: &Descriptor) -> Result<Vec<u8>, PlanError> {
    let mut entry = match config.size <= store::DOCUMENT_LIMIT {
        true => store.ingest(&config.digest, config.size)?,
        false => return Ok(origin.document(config)?),
    };
    loop {
        match entry {
            Ingest::Present => break,
            Ingest::Busy(wait) => entry = wait.wait()?,
            Ingest::Writer(mut writer) => {
                origin.fetch(config, &mut writer, &|_| ())?;
                break;
            }
        }
    }
    match store.read_document(&config.digest, store::DOCUMENT_LIMIT) {
        Ok(bytes) if bytes.len() as u64 == config.size => Ok(bytes),
        // What lies there is spoilt: the origin's bytes take its place.
        _ => Ok(origin.document(config)?),
    }
}

fn manifest(
    store: &Store,
    place: &Place,
    origin: &dyn Origin,
    platform: Option<&Platform>,
) -> Result<(Fetched, Manifest), PlanError> {
    let host = Platform::host();
    let mut fetched = match kept_top(store, place) {
        Some(fetched) => fetched,
        None => origin.top()?,
    };
    for _ in 0..=NESTING_LIMIT {
        let index = match Document::parse(&fetched.bytes, Some(&fetched.media_type))? {
            Document::Manifest(manifest) => return Ok((fetched, manifest)),
            Document::Index(index) => index,
        };
        let entry = index.choose(platform.unwrap_or(&host))?;
        fetched = match kept(store, entry) {
            Some(fetched) => fetched,
            None => origin.child(entry)?,
        };
    }
    Err(PlanError::Nested)
}

/// The document of a reference with a digest, where the store has it.
fn kept_top(store: &Store, place: &Place) -> Option<Fetched> {
    let Place::Registry(reference) = place else { return None };
    let digest = *reference.digest()?;
    let bytes = store.read_document(&digest, store::DOCUMENT_LIMIT).ok()?;
    let media_type = Document::parse(&bytes, None).ok()?.media_type().to_owned();
    Some(Fetched { bytes, media_type, digest })
}

fn kept(store: &Store, entry: &Descriptor) -> Option<Fetched> {
    let bytes = store.read_document(&entry.digest, store::DOCUMENT_LIMIT).ok()?;
    let fits = bytes.len() as u64 == entry.size;
    fits.then(|| Fetched { bytes, media_type: entry.media_type.clone(), digest: entry.digest })
}

impl Plan {
    /// Puts both documents into the store, the configuration first: a manifest that is there can be read.
    pub(crate) fn keep(&self, store: &Store) -> Result<(), Failure> {
        let put = |bytes: &[u8], what: &str| {
            let digest =
                store.put_document(bytes).during(|| format!("{what} of {}", self.image.manifest_digest))?;
            Ok::<_, Failure>(digest)
        };
        put(&self.config, "configuration")?;
        put(&self.manifest, "manifest")?;
        Ok(())
    }
}
