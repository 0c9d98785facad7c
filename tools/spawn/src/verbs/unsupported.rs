//! Verbs of other runtimes that this one does not have.

use runtime::Error;

/// Whatever follows.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    _words: Vec<String>,
}

/// The refusal.
pub(crate) fn verb(name: &str) -> Error {
    Error::Verb(name.into())
}
