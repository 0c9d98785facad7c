//! The kernel boundary: system calls that the libraries lack, and the one way content is reached by path.
//!
//! Invariants
//! - This crate is the only home of `unsafe`; each block names its reason.
//! - Every failed call keeps its name, its arguments and its errno ([`Error`]).
//! - A path that comes from an image, an archive or a container is resolved through [`Root`] and nothing else:
//!   the kernel confines it (`openat2(2)`, `RESOLVE_IN_ROOT`, Linux 5.6), or a component walk under the same
//!   rules where a sandbox refuses `openat2`.
//! - Every descriptor made here is close-on-exec.
//!
//! Deliberately not here: policy. What to mount, which capabilities to keep, what a layer means is decided above.

pub mod binary;
pub mod bpf;
mod error;
pub mod identity;
mod limits;
pub mod link;
pub mod lock;
pub mod mount;
pub mod mountinfo;
mod net;
pub mod process;
mod root;
pub mod seccomp;
pub mod tuning;
pub mod umask;
mod walk;
mod writeback;

pub use error::{Call, Error, Result};
pub use limits::raise_open_files;
pub use net::loopback_up;
pub use root::{Parent, Root, parent_and_name};
pub use writeback::start_writeback;
