//! `oci-commit`: a container's files, or a directory's, to a new image.

mod args;
mod base;
mod change;
mod config;
mod image;
mod pause;
mod run;
mod squash;
mod tags;
mod words;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run("oci-commit", run::run)
}
