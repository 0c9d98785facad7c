//! A bundle as it is when a container is made of it (runtime-spec 1.2, "Filesystem Bundle").

use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use rustix::fs::{Mode, OFlags};
use sys::Root;

use crate::error::{Error, Result};
use crate::lifecycle::{directory, notify};

/// A bundle whose configuration was read; changes to the file mean nothing from then on.
#[derive(Debug)]
pub struct Bundle {
    /// Its absolute path, free of links.
    pub(crate) path: PathBuf,
    /// config.json as it is.
    pub(crate) bytes: Vec<u8>,
    /// config.json as it is understood.
    pub(crate) spec: Spec,
    /// What of it means nothing here.
    pub(crate) warnings: Vec<String>,
}

impl Bundle {
    /// Opens a bundle and reads its configuration.
    ///
    /// # Errors
    /// [`Error::File`] without the directory, [`Error::Sys`] without the file, [`Error::Invalid`] for one that makes no sense or is of
    /// another version than 1.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |source| Error::File { path: path.into(), source };
        #[allow(clippy::disallowed_methods, reason = "a directory of the host, as the caller names it")]
        let path = std::fs::canonicalize(path).map_err(failed)?;
        let name = path.join("config.json");
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let file = Root::open_ambient(&path)?.open("config.json", flags, Mode::empty());
        let bytes = directory::bounded(file?, &name.display().to_string())?;
        let (spec, warnings) = directory::parse(&bytes)?;
        let version = spec.version();
        if version.split('.').next() != Some("1") {
            let why = format!("{version:?} is no version 1 of the specification");
            return Err(Error::Invalid { member: "ociVersion".into(), why });
        }
        Ok(Self { path, bytes, spec, warnings })
    }

    /// Adds variables to its process's environment, for this container alone.
    pub fn add_environment(&mut self, more: impl IntoIterator<Item = String>) {
        notify::add_environment(&mut self.spec, more);
    }

    /// Whether its process is to have a terminal.
    pub fn wants_terminal(&self) -> bool {
        self.spec.process().as_ref().is_some_and(|process| process.terminal() == Some(true))
    }
}
