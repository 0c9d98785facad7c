//! Runs the container of a bundle directory in the foreground: `run_bundle DIR`, its status is the command's.
//!
//! Descriptors 0, 1 and 2 become the container's; the process dies with this one.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use oci_spec::runtime::Spec;
use runtime::{Error, Guard, Manner, Request, RootSource, Stdio, Supervisor, Tie, start};

/// SIGTERM on every architecture.
const STOP_SIGNAL: i32 = 15;

fn run(bundle: PathBuf) -> Result<u8, Error> {
    let config = bundle.join("config.json");
    let file = std::fs::read(&config).map_err(|source| Error::File { path: config, source })?;
    let spec: Spec = serde_json::from_slice(&file)
        .map_err(|e| Error::Invalid { member: "config.json".into(), why: e.to_string() })?;
    let root = spec.root().as_ref().map_or_else(|| PathBuf::from("rootfs"), |root| root.path().clone());
    let own = |fd: std::os::fd::BorrowedFd<'_>| {
        fd.try_clone_to_owned().map_err(|source| Error::File { path: "a standard stream".into(), source })
    };
    let stdio = Stdio::Streams([
        own(std::io::stdin().as_fd())?,
        own(std::io::stdout().as_fd())?,
        own(std::io::stderr().as_fd())?,
    ]);
    let mut supervisor = Supervisor::new(STOP_SIGNAL, Duration::from_secs(2))?;
    let request = Request {
        spec,
        root: RootSource::Mounted(bundle.join(root)),
        bundle,
        stdio,
        tie: Tie::DiesWithParent,
        manner: Manner::default(),
        guard: Guard::Mounts,
        group: None,
    };
    let started = start(request)?;
    Ok(supervisor.wait(&started, None)?.code())
}

fn main() -> ExitCode {
    let Some(bundle) = std::env::args_os().nth(1) else {
        eprintln!("run_bundle: which bundle directory?");
        return ExitCode::from(runtime::EXIT_TOOL);
    };
    match run(bundle.into()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("run_bundle: {error}");
            ExitCode::from(error.status())
        }
    }
}
