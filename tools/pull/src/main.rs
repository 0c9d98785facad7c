//! `oci-pull`: fetches images from registries and image layouts into the store.

mod args;
mod blobs;
mod plan;
mod reader;
mod run;

fn main() -> std::process::ExitCode {
    cli::run("oci-pull", run::run)
}
