//! What a copy keeps of its source besides the bytes: permissions, times, some xattrs; the owner is given.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use sys::Call;

use crate::copy::{Direction, Look};

/// The kernel's limit of a list of xattr names and of one value (xattr(7)).
const XATTR_BYTES: usize = 65_536;

/// Gives the open file or directory `to` its looks; `from` is the source that `stat` describes.
pub(crate) fn give(to: impl AsFd, from: impl AsFd, stat: &Stat, look: Look) -> sys::Result<()> {
    let (uid, gid) = look.owner_of(stat);
    let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    rustix::fs::fchown(&to, owner.0, owner.1).call("fchown", || format!("{uid}:{gid}"))?;
    // Others' setuid bits would become the new owner's power.
    let kept = if look.direction == Direction::Out { 0o1777 } else { 0o7777 };
    let mode = Mode::from_raw_mode(look.mode.unwrap_or(stat.st_mode & kept));
    rustix::fs::fchmod(&to, mode).call("fchmod", || format!("{mode:?}"))?;
    // After fchown, which takes file capabilities away (capabilities(7)).
    xattrs(&to, &from, look.direction)?;
    rustix::fs::futimens(&to, &times(stat)).call("futimens", String::new)
}

/// The source's times.
pub(crate) fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec as _ },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ },
    }
}

/// File capabilities, which are power.
const CAPABILITY: &[u8] = b"security.capability";

/// Whether an xattr is kept on the way into a container.
pub(crate) fn goes_in(name: &[u8]) -> bool {
    (name.starts_with(b"user.") && !overlay::marks::is_reserved(name)) || name == CAPABILITY
}

/// User xattrs both ways, file capabilities inwards only; labels and ACLs name things of one side.
fn xattrs(to: impl AsFd, from: impl AsFd, direction: Direction) -> sys::Result<()> {
    let mut list = vec![0_u8; XATTR_BYTES];
    let length = match rustix::fs::flistxattr(&from, &mut list[..]) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(errno) => return Err(errno).call("flistxattr", String::new),
    };
    let kept = |name: &&[u8]| match direction {
        Direction::In => goes_in(name),
        Direction::Out => goes_in(name) && *name != CAPABILITY,
    };
    let mut value = Vec::new();
    for name in list[..length].split(|&b| b == 0).filter(kept) {
        value.resize(XATTR_BYTES, 0);
        let name = OsStr::from_bytes(name);
        let length = match rustix::fs::fgetxattr(&from, name, &mut value[..]) {
            Ok(length) => length,
            Err(Errno::NODATA) => continue,
            Err(errno) => return Err(errno).call("fgetxattr", || format!("{name:?}")),
        };
        match rustix::fs::fsetxattr(&to, name, &value[..length], XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno).call("fsetxattr", || format!("{name:?}")),
        }
    }
    Ok(())
}
