//! `oci-inspect`: shows an image, a layer, a container, or the store.

mod answer;
mod args;
mod check;
mod container;
mod df;
mod diff;
mod docker;
mod events;
mod find;
mod form;
mod history;
mod image;
mod layer;
mod lists;
mod live;
mod output;
mod rootfs;
mod run;
mod sharing;
mod stats;
mod survey;
mod table;
mod text;
mod top;
mod tree;
mod trees;
mod volume;

fn main() -> std::process::ExitCode {
    cli::run_with("oci-inspect", args::carries_lines, run::run)
}
