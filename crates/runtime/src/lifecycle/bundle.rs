//! A bundle as it is when a container is made of it (runtime-spec 1.2, "Filesystem Bundle").

use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use rustix::fs::{Mode, OFlags};
use sys::Root;

use crate::error::{Error, Result};
use crate::letter;
use crate::lifecycle::{directory, notify};
use crate::resctrl;

/// A bundle whose configuration was read; changes to the file mean nothing from then on.
#[derive(Debug)]
pub struct Bundle {
    /// Its absolute path, free of links.
    pub(crate) path: PathBuf,
    /// config.json as it is.
    pub(crate) bytes: Vec<u8>,
    /// config.json as it is understood.
    pub(crate) spec: Spec,
    /// What of it means nothing here; for the caller to tell, before anything else fails.
    pub warnings: Vec<String>,
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
        let (mut spec, warnings) = directory::parse(&bytes)?;
        resctrl::take_older_words(&bytes, &mut spec);
        letter::required(&bytes)?;
        letter::valid(&spec)?;
        let version = spec.version();
        if !is_version_1(version) {
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

/// True for `1.MINOR.PATCH`, with what SemVer 2.0.0 lets follow.
fn is_version_1(text: &str) -> bool {
    let core = text.split(['-', '+']).next().unwrap_or_default();
    let number = |n: &str| {
        n == "0" || !n.is_empty() && !n.starts_with('0') && n.bytes().all(|byte| byte.is_ascii_digit())
    };
    let numbers: Vec<&str> = core.split('.').collect();
    let rest = text.get(core.len() + 1..);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'+');
    matches!(numbers[..], ["1", minor, patch] if number(minor) && number(patch))
        && (core.len() == text.len() || rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(plain)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_that_of_semver_and_the_first() {
        for good in ["1.0.0", "1.0.2-dev", "1.2.1", "1.10.0-rc.1+build.5", "1.0.0+x"] {
            assert!(is_version_1(good), "{good}");
        }
        for bad in
            ["", "1", "1.2", "1.2.3.4", "1.x.0", "01.0.0", "1.02.0", "2.0.0", "0.9.0", "1.0.0-", "1.0.0-a b"]
        {
            assert!(!is_version_1(bad), "{bad:?}");
        }
    }
}
