//! `oci-spawn`: runs a container's process. See args.rs for its command line and run.rs for what it does.

mod args;
mod changes;
mod command;
mod containers;
mod events;
mod face;
mod groups;
mod launch;
mod monitor;
mod mounts;
mod others;
mod points;
mod run;
mod secret;
mod streams;
mod verbs;
mod wire;

use std::process::ExitCode;

use face::Face;

fn main() -> ExitCode {
    // Where that is not allowed, a container has no more right to the file than the caller has.
    let _ = sys::binary::run_from_read_only(c"oci-spawn");
    let words: Vec<String> = std::env::args_os().skip(1).map(|w| w.to_string_lossy().into_owned()).collect();
    match face::of(&words, verbs::has) {
        Face::Runtime => verbs::main(&words),
        Face::Containers => containers::main(),
        Face::Pipeline => cli::run_with(args::TOOL, args::carries_lines, run::run),
    }
}
