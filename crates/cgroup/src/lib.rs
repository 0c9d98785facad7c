//! Control groups for a container: planned, made, entered, changed, read, removed.
//!
//! Follows runtime-spec 1.2, config-linux.md, "Control groups"; where that is silent, runc's behaviour. Version 2, version 1
//! and both at once (the version-1 controllers are used then), by the file system or by systemd ([`Driver`]).
//!
//! Invariants
//! - A [`Group`] is a plan until [`Group::make`]: it names every directory before the first is made, so that it can be recorded
//!   first and removed by whoever finds the record.
//! - No path leaves its hierarchy: `..` ends at the hierarchy's top, and every directory is opened through [`sys::Root`].
//! - What was asked for is written or is an [`Error`] that names the file and the part of the configuration; what was not asked
//!   for is not touched.
//! - A [`Group::make`] that fails has removed what it made.
//!
//! Deliberately not here: which processes go where and when, the container's view of the hierarchies (a mount), watching over time.

#![warn(clippy::disallowed_methods)]

mod controllers;
mod convert;
mod cpuset;
mod devices;
mod directory;
mod error;
mod exec;
mod filter;
mod flat;
mod freezer;
mod group;
mod host;
mod hugepages;
mod kill;
mod limits;
mod make;
mod need;
mod path;
mod procs;
mod program;
mod remove;
mod setting;
mod shared;
pub mod stats;
mod stats_v1;
mod stats_v2;
mod systemd;
mod tree;
mod v1;
mod v2;
mod watch;

pub use error::{Error, Result};
pub use exec::Inside;
pub use group::{Driver, Group, Place, Request, Version};
pub use host::{OwnGroup, Shown, hierarchies, is_rootless, is_unified, own_groups};
pub use stats::Stats;
pub use watch::{Notice, Watch};
