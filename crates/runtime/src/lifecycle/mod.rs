//! A container's life as engines drive it: create, start, kill, delete (runtime-spec 1.2, "Runtime and Lifecycle").
//!
//! Invariants
//! - All that is known of a container lies in one directory of the state root, `ROOT/ID`, reached by descriptor only. It is
//!   there before anything else of the container is, and goes last; so whatever moment a runtime is killed at, `delete
//!   --force` finds what there is to remove.
//! - A process is named by pid, start time and boot; a pid that is another process's now is nobody of ours.
//! - `create` either leaves a container that waits for `start`, or nothing.
//!
//! Deliberately not here: the command line, and containers of the store.

mod bundle;
mod control;
mod create;
mod delete;
mod directory;
mod exec;
mod family;
mod id;
mod notify;
mod record;
mod signal;
mod start;

pub use bundle::Bundle;
pub(crate) use control::meant;
pub use control::{merge, pause, processes, resume, stats, update, watch};
pub use create::{Created, Creation, create, run};
pub use delete::delete;
pub use directory::{Directory, Runtimes, bounded};
pub use exec::{Execution, Host, initial_affinity};
pub(crate) use family::is_whole as ends_with_the_first;
pub use family::members;
pub use id::Id;
pub use notify::Notify;
pub use record::{Record, SPECIFICATION, Status, state};
pub use signal::{Aim, kill};
pub use start::start;
