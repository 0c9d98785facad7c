//! `oci-unpack`: an image's layers to trees, one a layer, or to one plain tree.

mod args;
mod flat;
mod job;
mod layers;
mod run;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run("oci-unpack", run::run)
}
