//! Layers: from a compressed tar archive to a tree, and back (image-spec v1.1, layer.md).
//!
//! Invariants
//! - Every layer is hostile until proven otherwise: no name of an archive reaches a call that could resolve it outside
//!   the tree, nothing is written through what was there before, and no header takes more memory than its limit.
//! - A layer is applied alone, in overlayfs form with `user.overlay.*` marks, so that its tree can be shared by any stack.
//! - The digests cover every byte, also those after the archive's end.
//! - Nothing of a layer's content is ever executed, opened as a device or loaded.
//!
//! Deliberately not here: where blobs come from and where trees go. That is the store's.
#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

// From tar to tree.
mod chunks;
mod error;
mod fixes;
pub mod limits;
mod members;
mod name;
mod stream;
mod tar;
mod tree;
mod unpack;
mod verify;

// From tree to tar.
mod compress;
mod merge;
mod pack;
mod pack_error;
mod pack_node;
mod pack_sparse;
mod tarwrite;

pub use error::{Error, Result};
pub use fixes::{LayerView, fixes};
pub use limits::Limits;
pub use members::Members;
pub use stream::Encoding;
pub use tar::{Extent, Kind, Member, Time};
pub use unpack::{Flat, Options, Unpacked, unpack};
pub use verify::{Verified, verify};

pub use compress::{Compressed, Compression, compress};
pub use pack::{
    PackOptions, Packed, Warning, pack_changes, pack_merged, pack_named, pack_plain, pack_under, pack_upper,
};
pub use pack_error::PackError;
