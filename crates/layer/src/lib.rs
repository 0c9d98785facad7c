//! layer
mod compress;
mod merge;
mod pack;
mod pack_error;
mod pack_node;
mod tarwrite;

pub use compress::{Compressed, Compression, compress};
pub use pack::{PackOptions, Packed, Warning, pack_merged, pack_plain, pack_upper};
pub use pack_error::PackError;
