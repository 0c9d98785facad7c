//! What can go wrong in a store, and each failure's class.

use std::path::PathBuf;

use descriptor::{Classify, Digest, Exit, Platform};
use rustix::io::Errno;

/// The result of an operation on the store.
pub type Result<T> = std::result::Result<T, Error>;

/// A failed operation on the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call on something in the store failed.
    #[error("{path}: {source}")]
    Call {
        /// What it was about, relative to the store.
        path: String,
        /// The call.
        source: sys::Error,
    },
    /// No path was given and the environment names none.
    #[error("no place for a store: neither XDG_DATA_HOME nor HOME is set")]
    NoPlace,
    /// A directory that holds other things than a store.
    #[error("{path:?} is no store: it holds {entry:?}")]
    NotAStore {
        /// The directory.
        path: PathBuf,
        /// One of the things in it.
        entry: String,
    },
    /// The store belongs to another user.
    #[error("the store {path:?} belongs to uid {owner}, not to {ours}")]
    ForeignOwner {
        /// The store.
        path: PathBuf,
        /// Who it belongs to.
        owner: u32,
        /// Who asked.
        ours: u32,
    },
    /// A layout that this version does not know.
    #[error("the store {path:?} has layout version {found}; this program knows version {known}")]
    LayoutVersion {
        /// The store.
        path: PathBuf,
        /// Its version.
        found: u64,
        /// Ours.
        known: u64,
    },
    /// A line of another store.
    #[error("the line is of the store {theirs:?}, this one is {ours:?}")]
    OtherStore {
        /// The line's.
        theirs: PathBuf,
        /// Ours.
        ours: PathBuf,
    },
    /// The store has no such blob.
    #[error("blob {0} is not in the store")]
    NoBlob(Digest),
    /// A blob whose writer ended without completing it, and no other came.
    #[error("blob {digest} never came: its writer ended at byte {got} of {size}")]
    Abandoned {
        /// The blob.
        digest: Digest,
        /// How far it came.
        got: u64,
        /// Its size by the manifest.
        size: u64,
    },
    /// A blob in flight was started over: what was read of it counts for nothing.
    #[error("blob {0} was started over by its writer")]
    Restarted(Digest),
    /// Something other than a regular file (or directory) stands where one belongs.
    #[error("{path}: {found} where a {wanted} belongs")]
    WrongKind {
        /// Relative to the store.
        path: String,
        /// What stands there.
        found: &'static str,
        /// What belongs there.
        wanted: &'static str,
    },
    /// A blob of the wrong length.
    #[error("blob {digest}: wanted {wanted} bytes, got {got}")]
    WrongSize {
        /// The blob.
        digest: Digest,
        /// By the descriptor.
        wanted: u64,
        /// What there is.
        got: u64,
    },
    /// A blob whose bytes do not hash to its name.
    #[error("wanted {wanted}, got {got}")]
    WrongDigest {
        /// By the descriptor.
        wanted: Digest,
        /// What the bytes hash to.
        got: Digest,
    },
    /// A document beyond its limit.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// The document.
        what: String,
        /// The most bytes it may have.
        limit: u64,
    },
    /// A document that is not what it has to be.
    #[error("{what}: {fault}")]
    Document {
        /// The document: a digest or a path relative to the store.
        what: String,
        /// What is wrong with it.
        #[source]
        fault: DocumentFault,
    },
    /// No image for the platform.
    #[error("no image for {wanted}; there is {}", list(available))]
    NoPlatform {
        /// What was asked for.
        wanted: Platform,
        /// What there is.
        available: Vec<String>,
    },
    /// A name that breaks the rules for names.
    #[error("{name:?} is no name for a container: {why}")]
    BadName {
        /// The name.
        name: String,
        /// Which rule.
        why: &'static str,
    },
    /// No container has this name or id.
    #[error("no container has this name or id")]
    NoContainer(String),
    /// A name that breaks the rules for volumes' names.
    #[error("{name:?} is no name for a volume: {why}")]
    BadVolumeName {
        /// The name.
        name: String,
        /// Which rule.
        why: &'static str,
    },
    /// No volume has this name.
    #[error("no volume has this name")]
    NoVolume(String),
    /// Something makes use of the volume.
    #[error("the volume {name:?} is in use{}", users(by))]
    VolumeInUse {
        /// The volume.
        name: String,
        /// The containers that name it; none where a container is just being made with it, or run.
        by: Vec<String>,
    },
    /// A filter that is not understood.
    #[error("{word:?}: {why}")]
    BadFilter {
        /// As it was given.
        word: String,
        /// What is wrong with it.
        why: String,
    },
    /// No image has this name.
    #[error("the store has no image of the name {0:?}")]
    NoImage(String),
    /// Several ids begin so.
    #[error("{prefix:?} is the beginning of {count} ids")]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// How many fit.
        count: usize,
    },
    /// The name belongs to another container.
    #[error("the name {name:?} is taken by container {holder}")]
    NameTaken {
        /// The name.
        name: String,
        /// The id of the container that has it.
        holder: String,
    },
    /// The same configuration was created under the same name before, and renamed since.
    #[error("a container of this configuration exists: {id}")]
    Exists {
        /// Its id.
        id: String,
    },
    /// The line's container was removed and made again since.
    #[error("container {id} is not the one of the line: it was removed and made again")]
    OtherInstance {
        /// The id of both.
        id: String,
    },
}

/// What is wrong with a document.
#[derive(Debug, thiserror::Error)]
pub enum DocumentFault {
    /// No JSON, a member that stands twice, or a member of the wrong type.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// A member whose name differs from the specification's in case only.
    #[error("member {found:?} where the specification says {wanted:?}")]
    Case {
        /// As it stands.
        found: String,
        /// As it should.
        wanted: &'static str,
    },
    /// Both an index and a manifest.
    #[error("has both {0:?} and {1:?}: an index and a manifest at once")]
    TwoKinds(&'static str, &'static str),
    /// The media type within and the one of the descriptor differ.
    #[error("its descriptor says {wanted:?}, its mediaType {found:?}")]
    MediaType {
        /// By the descriptor.
        wanted: String,
        /// Within.
        found: String,
    },
    /// A kind that is not supported.
    #[error("{0:?} is no image manifest or index")]
    Unsupported(String),
    /// A rule of the specification that it breaks.
    #[error("{0}")]
    Rule(String),
}

fn list(available: &[String]) -> String {
    if available.is_empty() { "none at all".into() } else { available.join(", ") }
}

fn users(by: &[String]) -> String {
    if by.is_empty() { String::new() } else { format!(" by {}", by.join(", ")) }
}

impl Error {
    /// The store's error inside an [`std::io::Error`], as [`crate::Follower`] and the writers wrap it.
    pub fn inside(error: &std::io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// Takes the store's error out of an [`std::io::Error`].
    ///
    /// # Errors
    /// The [`std::io::Error`] itself where it holds none.
    pub fn out_of(error: std::io::Error) -> std::result::Result<Self, std::io::Error> {
        error.downcast()
    }

    pub(crate) fn document(what: impl ToString, fault: impl Into<DocumentFault>) -> Self {
        Self::Document { what: what.to_string(), fault: fault.into() }
    }

    /// Whether it is about a document that cannot be read, and about no other.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(self, Self::Document { .. } | Self::WrongKind { .. } | Self::TooLarge { .. })
    }
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        Self::other(error)
    }
}

impl Classify for Error {
    fn exit(&self) -> Exit {
        match self {
            Self::Call { source, .. } => match source.errno {
                Errno::NOSPC | Errno::DQUOT => Exit::Space,
                Errno::PERM | Errno::ACCESS | Errno::ROFS => Exit::Privilege,
                _ => Exit::Other,
            },
            Self::NoPlace
            | Self::BadName { .. }
            | Self::BadVolumeName { .. }
            | Self::BadFilter { .. }
            | Self::Ambiguous { .. } => Exit::Usage,
            Self::NoBlob(_)
            | Self::NoPlatform { .. }
            | Self::NoContainer(_)
            | Self::NoVolume(_)
            | Self::NoImage(_) => Exit::NotFound,
            Self::WrongKind { .. }
            | Self::WrongSize { .. }
            | Self::WrongDigest { .. }
            | Self::TooLarge { .. }
            | Self::Document { .. } => Exit::Content,
            Self::NotAStore { .. }
            | Self::ForeignOwner { .. }
            | Self::LayoutVersion { .. }
            | Self::OtherStore { .. }
            | Self::NameTaken { .. }
            | Self::VolumeInUse { .. }
            | Self::Exists { .. }
            | Self::OtherInstance { .. } => Exit::Conflict,
            Self::Abandoned { .. } | Self::Restarted(_) => Exit::Upstream,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoPlace => "name one with --store DIR or OCIPIPE_STORE",
            Self::NotAStore { .. } => "name an empty or a missing directory, or an OCI image layout",
            Self::ForeignOwner { .. } => {
                "name it with --store to use it all the same, or use a store of your own"
            }
            Self::OtherStore { .. } => "give all stages of a pipeline the same --store",
            Self::NameTaken { .. } => "choose another name; a new container takes it over with --replace",
            Self::Exists { .. } => "choose another --name",
            Self::Ambiguous { .. } => "give more digits",
            Self::NoContainer(_) => "oci-inspect containers -a lists what there is",
            Self::NoVolume(_) => "oci-inspect volumes lists what there is",
            Self::NoImage(_) => "oci-inspect images lists what there is, oci-pull fetches more",
            _ => return None,
        };
        Some(hint.into())
    }
}
