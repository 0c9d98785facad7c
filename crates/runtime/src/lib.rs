//! From a runtime configuration to a process in namespaces of its own, and the life of a bundle's container (runtime-spec
//! 1.3, Linux).
//!
//! A configuration becomes a plan, a plan's steps are run by init. Two faces use that: [`start`] makes the process of a
//! pipeline's container and stays with it, in a control group of its own, without hooks; [`lifecycle`] makes, starts, enters, signals
//! and deletes containers as engines ask for, each call a process of its own.
//!
//! Invariants
//! - Setup is a list of named steps, planned by the parent before the process exists and run in order in it. The first
//!   failure is told to the parent with the step's name, the call, its arguments and its errno; the command runs only when
//!   every step succeeded.
//! - No mount target is a path: it is a descriptor resolved inside the container's root by the kernel, and what is found
//!   there after mounting is checked by its mount id.
//! - `/dev` is a file system of the container's own, its nodes made there and checked by `fstat(2)`.
//! - No descriptor but 0, 1 and 2, and those that the caller names, exists when the command starts, and none of the host's
//!   directories is reachable from its working directory.
//! - What the configuration asks for is applied or refused by name, never dropped.
//!
//! The process that makes another must have one thread, as the setup runs in a copy of it.
//!
//! Deliberately not here: images, the store, where lines come from, command lines; what a control group's files are called
//! (`cgroup`), and how a filter is compiled (`seccomp`).
#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

mod capability;
mod cgroups;
mod channel;
mod child;
pub mod convert;
mod copyup;
pub mod defaults;
mod devices;
mod duties;
mod elsewhere;
pub mod environment;
mod error;
mod example;
mod exec;
mod features;
mod filter;
mod group;
mod hooks;
mod identity;
mod idmap;
mod joining;
mod labels;
mod letter;
pub mod lifecycle;
mod masks;
pub mod mountflags;
mod mounts;
mod newborn;
mod options;
mod plan;
mod process;
mod procfs;
mod reaper;
mod refuse;
mod relay;
mod report;
mod request;
pub mod resctrl;
mod rootmount;
mod signal;
mod step;
mod supervise;
mod terminal;
mod typed;
mod usage;
pub mod users;
mod watcher;

pub use cgroups::swap_is_counted;
pub use copyup::copy_directory;
pub use elsewhere::tree_of;
pub use error::{EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, EXIT_TOOL, Error, Result};
pub use example::example;
pub use features::features;
pub use group::{gather, plan_group};
pub use hooks::HookFailure;
pub use process::{Started, start};
pub use relay::Relay;
pub use request::{Guard, Manner, Request, RootSource, Stdio, Tie};
pub use signal::signal_number;
pub use supervise::{Beside, Ended, Supervisor};
pub use terminal::{RawTerminal, window_size};
pub use typed::typed;
pub use usage::{Usage, processes_of};
