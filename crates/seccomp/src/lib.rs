//! System call filters: from `linux.seccomp` of a runtime configuration to a program that the kernel runs.
//!
//! Follows runtime-spec v1.2, config-linux.md, "Seccomp", and seccomp(2). Where the specification is silent, what runc
//! makes of a profile with libseccomp decides; docs/seccomp.md lists what is read more strictly here.
//!
//! Invariants
//! - A call made through an ABI that the profile does not name ends the process: its numbers mean other calls.
//! - An argument is compared as wide as the kernel reads it (`table`), whatever a caller put into the rest of the
//!   register.
//! - A program never allows what its profile does not: what cannot be compared is refused.
//! - The same profile gives the same program.
//!
//! Deliberately not here: when the filter is loaded, who waits for its listener, and where a profile comes from but for
//! docker's default ([`docker_default`]).

mod abi;
mod assemble;
mod condition;
mod docker;
mod docker_form;
mod error;
mod known;
mod multiplex;
pub mod notify;
mod profile;
mod program;
mod rules;
mod search;
mod table;

pub use abi::Machine;
pub use docker::docker_default;
pub use docker_form::{check_profile, from_docker};
pub use error::{Error, Result};
pub use known::{ACTIONS, ARCHITECTURES, FLAGS, OPERATORS, supported_flags};
pub use profile::notifies;
pub use program::{Program, compile, compile_for};
pub use sys::seccomp::Instruction;
