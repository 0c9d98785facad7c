//! The files of /etc that docker gives a container besides the image's: hosts, hostname, resolv.conf.
//!
//! They lie in the bundle and are bind-mounted, so neither the image's own nor the writable layer is touched.

use std::io::{Read, Write};
use std::path::Path;

use cli::{During, Failure};
use descriptor::Exit;
use runtime::convert::Network;
use rustix::fs::{Mode, OFlags};
use sys::{Call, Root};

/// No more is taken of a host's file.
const LIMIT_BYTES: u64 = 1024 * 1024;
/// Everybody in the container reads them.
const MODE: Mode = Mode::from_raw_mode(0o644);

/// A file of the bundle's `files/` and where it is mounted.
#[derive(Debug)]
pub(crate) struct EtcFile {
    pub(crate) name: &'static str,
    pub(crate) target: &'static str,
    /// Whether it is mounted from the start; resolv.conf waits for a run with a network.
    pub(crate) mounted: bool,
}

/// The files for a network. resolv.conf is written for all, as a single run may have the host's network.
pub(crate) fn of(network: Network) -> [EtcFile; 3] {
    [
        EtcFile { name: "resolv.conf", target: "/etc/resolv.conf", mounted: network == Network::Host },
        EtcFile { name: "hosts", target: "/etc/hosts", mounted: true },
        EtcFile { name: "hostname", target: "/etc/hostname", mounted: true },
    ]
}

/// Writes them into `files`.
pub(crate) fn write(files: &Root, network: Network, hostname: &str) -> Result<(), Failure> {
    let hosts = match network {
        Network::Host => host_file("/etc/hosts"),
        Network::None | Network::Private => own_hosts(hostname),
    };
    create(files, "resolv.conf", &host_file("/etc/resolv.conf"))?;
    create(files, "hosts", &hosts)?;
    create(files, "hostname", format!("{hostname}\n").as_bytes())
}

/// Docker's hosts file; the container's own name is this machine, as Debian has it.
fn own_hosts(hostname: &str) -> Vec<u8> {
    format!(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::\tip6-localnet\n\
         ff00::\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n\
         127.0.1.1\t{hostname}\n"
    )
    .into_bytes()
}

/// A file of the host as it is now; empty where there is none.
fn host_file(path: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read =
        std::fs::File::open(Path::new(path)).and_then(|file| file.take(LIMIT_BYTES).read_to_end(&mut bytes));
    if read.is_err() {
        bytes.clear();
    }
    bytes
}

fn create(files: &Root, name: &str, bytes: &[u8]) -> Result<(), Failure> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    let written = files.open(name, flags, MODE).and_then(|fd| {
        // The umask has no say.
        rustix::fs::fchmod(&fd, MODE).call("fchmod", || name.into())?;
        std::fs::File::from(fd).write_all(bytes).call("write", || name.into())
    });
    written
        .map_err(|source| overlay::Error::Call { what: "writing a file for /etc", source })
        .during(|| name.into())
}

/// The host's own name; what runs with the host's network has it too.
pub(crate) fn host_name() -> Result<String, Failure> {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { Err(Failure::new(Exit::Other, "the host's name", "it is empty")) } else { Ok(name) }
}
