//! overlay: the marks of overlayfs, mount plans, mounting.

pub mod marks;
