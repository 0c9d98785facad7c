//! `oci-prune`: removes what is not in use any more: stopped containers and volumes.

mod args;
mod caches;
mod containers;
mod images;
mod run;
mod volumes;

fn main() -> std::process::ExitCode {
    cli::run("oci-prune", run::run)
}
