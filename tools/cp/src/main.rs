//! `oci-cp`: copies files into a container or out of it, and passes its line on.

mod args;
mod copy;
mod data;
mod error;
mod from;
mod ignore;
mod metadata;
mod place;
mod rules;
mod run;
mod stream;
mod untar;

fn main() -> std::process::ExitCode {
    cli::run("oci-cp", run::run)
}
