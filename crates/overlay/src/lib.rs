//! Overlayfs: its marks in trees, how a container's root is stacked, where it is mounted, and its end.
//!
//! Invariants
//! - A writable layer is mounted at most once at a time; who mounts it holds the container's lock, and what the state
//!   records of a mount is checked against the kernel before it is used.
//! - Each mount lies on a private mount of its own directory, so that it does not propagate to other namespaces.
//! - Mount points that we make for a container lie in its `init` lower, never in `upper`.
//! - Nothing of an image is reached but through [`sys::Root`].
//!
//! Deliberately not here: processes. What runs in a root is the runtime's.
#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

mod error;
mod guardian;
mod live;
pub mod marks;
mod oneoff;
mod plan;
mod points;
mod remove;
mod stack;
mod unmake;

pub use error::{Error, Result};
pub use live::{Mounted, OpenRoot, attach, mounted, open_root};
pub use oneoff::{OneOff, taken};
pub use plan::Plan;
pub use points::{Kind, Metadata, Missing, Point, resolve};
pub use remove::{Running, remove};
pub use unmake::unmake;
