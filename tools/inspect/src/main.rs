//! `oci-inspect`: shows an image, a layer, a container, or the store.

mod args;
mod check;
mod container;
mod find;
mod image;
mod layer;
mod lists;
mod output;
mod rootfs;
mod run;
mod survey;

fn main() -> std::process::ExitCode {
    cli::run("oci-inspect", run::run)
}
