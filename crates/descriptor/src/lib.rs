//! The lines that flow between the tools, and the names in them.
//!
//! A line is one JSON object that is an OCI content descriptor (image-spec v1.1, descriptor.md) with further members
//! of ours beside those, which the specification lets a reader ignore.
//!
//! Invariants
//! - A line is at most [`LINE_LIMIT`] bytes with its newline and is written by one `write(2)`: `PIPE_BUF` (pipe(7)) keeps
//!   it whole when several writers share a pipe.
//! - Lines are untrusted: a [`Digest`] is parsed strictly, once; everything but media type, digest and id is a hint.
//! - An error line has no digest, so that `jq -r .digest` never takes it for a result.
//! - Members are only ever added to a media type; a change of meaning is a new version in its name.
//!
//! Deliberately not here: what a digest refers to. That is the store's to find and to verify.

mod canonical;
mod digest;
mod exit;
mod line;
pub mod media;
pub mod moment;
mod object;
mod read;
mod write;

pub use canonical::{NotCanonical, canonical};
pub use digest::{BadDigest, Digest, Hasher};
pub use exit::{Classify, Exit};
pub use line::{ContainerLine, ErrorLine, ImageLine, Line, LineError, RootfsLine, Status};
pub use object::{BadPlatform, Descriptor, Platform};
pub use read::{LineReader, read_one_exact};
pub use write::{LineWriter, WriteError, is_steering, printable};

/// The most bytes a line may have, its newline included: `PIPE_BUF` on Linux (pipe(7)).
pub const LINE_LIMIT: usize = 4096;
