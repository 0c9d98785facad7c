//! `oci-inspect`: shows an image, a layer, a container, or the store.

mod answer;
mod args;
mod check;
mod container;
mod docker;
mod find;
mod form;
mod image;
mod layer;
mod lists;
mod output;
mod rootfs;
mod run;
mod survey;
mod table;
mod text;
mod usage;

fn main() -> std::process::ExitCode {
    cli::run_with("oci-inspect", args::carries_lines, run::run)
}
