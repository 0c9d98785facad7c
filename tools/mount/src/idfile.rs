//! `--cidfile`: a file that tells the container's id.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use cli::Failure;
use descriptor::Exit;

/// The file, made before the container, so that two calls cannot both believe it theirs; dropped unwritten, it is removed.
#[derive(Debug)]
pub(crate) struct IdFile {
    path: PathBuf,
    file: Option<File>,
}

impl IdFile {
    /// Makes the file.
    #[allow(clippy::disallowed_methods, reason = "the caller's own file, as named on the command line")]
    pub(crate) fn make(path: &Path) -> Result<Self, Failure> {
        let what = || format!("--cidfile {}", path.display());
        match OpenOptions::new().write(true).create_new(true).open(path) {
            Ok(file) => Ok(Self { path: path.into(), file: Some(file) }),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(Failure::new(Exit::Conflict, what(), "container ID file found")
                    .with_hint("make sure the other container isn't running, or remove the file"))
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                Err(Failure::new(Exit::NotFound, what(), e))
            }
            Err(e) => Err(Failure::new(Exit::Other, what(), e)),
        }
    }

    /// Writes the id.
    pub(crate) fn write(mut self, id: &str) -> Result<(), Failure> {
        let what = format!("--cidfile {}", self.path.display());
        let written = self.file.take().map(|mut file| file.write_all(id.as_bytes()));
        written.unwrap_or(Ok(())).map_err(|e| Failure::new(Exit::Other, what, e))
    }
}

impl Drop for IdFile {
    #[allow(clippy::disallowed_methods, reason = "the file that was made above")]
    fn drop(&mut self) {
        if self.file.is_some() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
