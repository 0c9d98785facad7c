//! `oci-push`: uploads images from the store to registries and image layouts.

mod args;
mod image;
mod run;
mod tag;
mod uploads;

fn main() -> std::process::ExitCode {
    cli::run("oci-push", run::run)
}
