//! What holds for every verb.

use std::path::PathBuf;

use clap::ValueEnum;
use runtime::lifecycle::Runtimes;

use crate::verbs::Result;
use crate::verbs::options::{Given, given};

/// Where root keeps the state of containers.
const ROOT: &str = "/run/oci-spawn";
/// Its name below a user's runtime directory.
const OWN: &str = "oci-spawn";

/// Options before the verb.
#[derive(Debug, clap::Args)]
pub(crate) struct Global {
    /// The directory of containers' states [default: /run/oci-spawn, or oci-spawn below $XDG_RUNTIME_DIR]
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,

    /// A file that takes errors, too
    #[arg(long, value_name = "FILE", value_parser = given(), default_value = "", hide_default_value = true)]
    pub(crate) log: Given,

    /// How that file is written
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "text")]
    pub(crate) log_format: Format,

    /// Say more
    #[arg(long)]
    pub(crate) debug: bool,

    /// Let systemd make the control groups; cgroupsPath is slice:prefix:name
    #[arg(long)]
    pub(crate) systemd_cgroup: bool,

    /// Whether control groups that the caller may not make are gone without
    #[arg(long, value_enum, value_name = "WHETHER", default_value = "auto")]
    pub(crate) rootless: Rootless,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// `key=value`.
    Text,
    /// One JSON object a line.
    Json,
}

/// Whether control groups may be gone without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rootless {
    /// As the caller's rights are.
    Auto,
    /// Yes.
    True,
    /// No.
    False,
}

impl Global {
    /// The state root, made where it is missing.
    pub(crate) fn runtimes(&self) -> Result<Runtimes> {
        Runtimes::open(&self.root.clone().unwrap_or_else(default_root))
    }

    /// The state root, where it is there; none where nobody has made the default one yet.
    pub(crate) fn present(&self) -> Result<Option<Runtimes>> {
        let path = self.root.clone().unwrap_or_else(default_root);
        if self.root.is_none() && !path.exists() {
            return Ok(None);
        }
        Runtimes::open(&path).map(Some)
    }

    /// Who makes control groups.
    pub(crate) fn driver(&self) -> cgroup::Driver {
        if self.systemd_cgroup { cgroup::Driver::Systemd } else { cgroup::Driver::Fs }
    }

    /// Whether control groups may be gone without.
    pub(crate) fn is_rootless(&self) -> bool {
        match self.rootless {
            Rootless::Auto => cgroup::is_rootless(),
            Rootless::True => true,
            Rootless::False => false,
        }
    }
}

/// The user's own place for who is not the host's root. Root of a user namespace may be either, an engine's user with its own
/// ids mapped or root of a container with another's: `$USER` tells, as with runc.
pub(crate) fn default_root() -> PathBuf {
    let is_root = rustix::process::geteuid().is_root();
    let is_hosts =
        is_root && (!cgroup::is_rootless() || std::env::var_os("USER").is_some_and(|user| user == "root"));
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(own) if !own.is_empty() && !is_hosts => PathBuf::from(own).join(OWN),
        _ => PathBuf::from(ROOT),
    }
}
