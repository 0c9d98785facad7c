//! What can go wrong on the way to a registry, and the one table from that to exit statuses.

use std::io;
use std::path::PathBuf;

use descriptor::{Classify, Digest, Exit};

use crate::{PlaceError, ReferenceError};

/// A failure of this crate. URLs in it carry no query and no user: those may be secrets.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection, no TLS, or no answer.
    #[error("{url}: {reason}")]
    Unreachable {
        /// The address asked.
        url: String,
        /// The innermost reasons, outermost first.
        reason: String,
        /// Where the certificate was not accepted: trying again cannot help.
        certificate: bool,
    },
    /// Nothing, or next to nothing, came for a while.
    #[error("{url}: {received} bytes in {seconds} s, given up as stalled")]
    Stalled {
        /// The address asked.
        url: String,
        /// What came in that time.
        received: u64,
        /// The time waited.
        seconds: u64,
    },
    /// The body ended early or the connection was lost in it.
    #[error("{url}: the connection broke after {received} bytes: {reason}")]
    Broken {
        /// The address asked.
        url: String,
        /// Bytes of this answer that came.
        received: u64,
        /// Why.
        reason: String,
    },
    /// An answer that says no, in the registry's words.
    #[error("{url}: {status}{}", said(.message))]
    Status {
        /// The address asked.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What the registry said, cut and quoted.
        message: String,
        /// The wait the registry asks for before the next attempt, in seconds.
        retry_after: Option<u64>,
    },
    /// A challenge, or a realm, that credentials are not given to.
    #[error("{url} asks for a login that is not safe to give: {reason}")]
    Challenge {
        /// The address that answered 401.
        url: String,
        /// What is wrong with its challenge.
        reason: String,
    },
    /// Credentials were to be sent without encryption.
    #[error("credentials are not sent to {host} over plain http")]
    PlainCredentials {
        /// The registry.
        host: String,
    },
    /// A redirect or an upload location that is not followed.
    #[error("{url} points elsewhere in a way that is not followed: {reason}")]
    Redirect {
        /// The address that redirects.
        url: String,
        /// What is wrong with its target.
        reason: String,
    },
    /// An answer outside of the distribution specification.
    #[error("{url}: {reason}")]
    Protocol {
        /// The address asked.
        url: String,
        /// What was expected and what came.
        reason: String,
    },
    /// More bytes than may be taken.
    #[error("{what} has more than {limit} bytes, the most that is taken")]
    TooLarge {
        /// The document or blob.
        what: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// Another number of bytes than the descriptor says.
    #[error("{what}: wanted {wanted} bytes, got {got}")]
    Size {
        /// The document or blob.
        what: String,
        /// The descriptor's size.
        wanted: u64,
        /// The size seen.
        got: u64,
    },
    /// Other bytes than were asked for.
    #[error("{what}: wanted {wanted}, got {got}")]
    Mismatch {
        /// The document or blob.
        what: String,
        /// The digest asked for.
        wanted: Digest,
        /// The digest of what came.
        got: Digest,
    },
    /// Header, document and descriptor do not agree on what the document is.
    #[error("{what}: {reason}")]
    MediaType {
        /// The document.
        what: String,
        /// Which types disagree.
        reason: String,
    },
    /// An image layout that is not one, or does not hold what is asked for.
    #[error("{}: {reason}", .path.display())]
    Layout {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The layout has no such image.
    #[error("{}: {reason}", .path.display())]
    NoImage {
        /// The layout.
        path: PathBuf,
        /// What was looked for and what there is.
        reason: String,
    },
    /// A local file could not be read or written.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The local store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The HTTP client could not be made, for want of certificates say.
    #[error("no HTTP client: {0}")]
    Client(String),
    /// A value given by the user cannot be used.
    #[error("{0}")]
    Usage(String),
}

/// The result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

impl Error {
    /// Whether the same request may succeed a moment later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { certificate, .. } => !certificate,
            Self::Stalled { .. } | Self::Broken { .. } => true,
            // A blob in flight was begun anew by its writer: so is its upload.
            Self::Store(store::Error::Restarted(_)) => true,
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }
}

/// The table: one exit status for each failure.
impl Classify for Error {
    fn exit(&self) -> Exit {
        match self {
            Self::Unreachable { .. } | Self::Stalled { .. } | Self::Broken { .. } => Exit::Network,
            Self::Status { status: 401 | 403, .. }
            | Self::Challenge { .. }
            | Self::PlainCredentials { .. } => Exit::Refused,
            Self::Status { status: 404, .. } | Self::NoImage { .. } => Exit::NotFound,
            Self::Status { .. } | Self::Redirect { .. } | Self::Protocol { .. } => Exit::Network,
            Self::TooLarge { .. } | Self::Size { .. } | Self::Mismatch { .. } => Exit::Content,
            Self::MediaType { .. } | Self::Layout { .. } => Exit::Content,
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Exit::Space,
                io::ErrorKind::NotFound => Exit::NotFound,
                io::ErrorKind::PermissionDenied => Exit::Privilege,
                _ => Exit::Other,
            },
            Self::Store(source) => source.exit(),
            Self::Client(_) => Exit::Other,
            Self::Usage(_) => Exit::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Status { status: 401, .. } => "log in with --creds USER:PASSWORD, or check the name",
            Self::Status { status: 403, .. } => "these credentials do not allow it, or the name is wrong",
            Self::Status { status: 404, .. } => "check the name and the tag",
            Self::Status { status: 400, message, .. } if message.contains("to an HTTPS server") => {
                "this registry speaks TLS: --plain-http=false"
            }
            Self::PlainCredentials { .. } => "use https, or a registry on this machine",
            Self::Unreachable { certificate: true, .. } => {
                "the registry's certificate must chain to one of this system's roots"
            }
            Self::Unreachable { .. } => {
                "check the name, the network and HTTPS_PROXY; a registry without TLS needs --plain-http"
            }
            Self::Store(source) => return source.hint(),
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

impl Classify for ReferenceError {
    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

impl Classify for PlaceError {
    fn exit(&self) -> Exit {
        Exit::Usage
    }
}
