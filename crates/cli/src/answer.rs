//! What a tool answers on stdout where that is no line: a name, a table, a document.

use std::io::Write;

use crate::Failure;

/// Writes bytes to stdout, at once: who reads them may wait for them.
///
/// # Errors
/// As [`Failure::unwritten`] says.
pub fn answer(bytes: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(bytes.as_ref()).and_then(|()| stdout.flush());
    written.map_err(|error| Failure::unwritten("stdout", &error))
}
