//! What verbs answer on stdout.

use std::io::Write;

use runtime::Error;

use crate::verbs::Result;

/// Prints a line, at once: who reads it may wait for it.
///
/// # Errors
/// [`Error::File`] where nobody reads any more.
pub(crate) fn line(text: impl std::fmt::Display) -> Result<()> {
    let mut output = std::io::stdout();
    let failed = |source| Error::File { path: "stdout".into(), source };
    writeln!(output, "{text}").and_then(|()| output.flush()).map_err(failed)
}
