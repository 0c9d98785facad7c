//! `oci-prune`: removes what is not in use any more.

mod args;
mod caches;
mod containers;
mod content;
mod images;
mod run;
mod volumes;

fn main() -> std::process::ExitCode {
    cli::run("oci-prune", run::run)
}
