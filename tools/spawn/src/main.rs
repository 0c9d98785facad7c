//! `oci-spawn`: runs a container's process. See args.rs for its command line and run.rs for what it does.

mod args;
mod changes;
mod command;
mod launch;
mod monitor;
mod run;
mod streams;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run(args::TOOL, run::run)
}
