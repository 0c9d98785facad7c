//! What the tools share towards their user: arguments, lines in and out, messages, progress, exit statuses.
//!
//! Invariants
//! - stdout carries lines and nothing else; messages and progress go to stderr.
//! - One place turns a [`Failure`] into its message, its error line and its exit status.
//! - A failure that came as an error line travels on unchanged and is not printed again.
//! - Text that came from outside is printed with its control characters escaped.
//!
//! Deliberately not here: what the lines speak of. Tools look for that in the store.

mod answer;
mod args;
mod failure;
mod input;
mod kinds;
mod places;
mod progress;
mod run;
mod stage;
pub mod units;

pub use answer::answer;
pub use args::{Common, LogFormat};
pub use failure::{During, Failure, escaped};
pub use kinds::{container_line, image_line, rootfs_line};
pub use places::{fill_places, has_place};
pub use progress::{Progress, Task, human_bytes};
pub use run::{run, run_with};
pub use stage::Stage;
