//! `oci-mount`: makes containers of unpacked images, as docker create does, renames and removes them.

mod args;
mod bundle;
mod config;
mod create;
mod etc;
mod idfile;
mod names;
mod remove;
mod rename;
mod run;
mod volume;

fn main() -> std::process::ExitCode {
    cli::run("oci-mount", run::run)
}
