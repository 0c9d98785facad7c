//! Keeping this program's own file out of reach of what it runs (CVE-2019-5736).
//!
//! A container can make the kernel execute `/proc/self/exe` (as a script's interpreter, say) while the runtime's process is
//! still the runtime's, and write to that file later. Executed from a read-only mount, the file has no writable way to it.

use std::ffi::{CStr, CString, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;

use rustix::fs::{Mode, OFlags, StatVfsMountFlags};
use rustix::mount::MountAttrFlags;

use crate::mount::{Change, Extent, clone_tree, set_attributes};
use crate::process::{Pointers, exec_fd};
use crate::{Call, Error, Result};

/// Executes this program again from a read-only bind of its own file, unless it runs from a read-only mount already.
///
/// Returns where that is so. To be called first: descriptors opened before and not inherited are lost.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`, where a container has no more right to the file than its caller; what else
/// `open_tree(2)`, `mount_setattr(2)` or `execveat(2)` say.
pub fn run_from_read_only(name: &CStr) -> Result<()> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let own = rustix::fs::open(c"/proc/self/exe", flags, Mode::empty())
        .call("open", || "\"/proc/self/exe\"".into())?;
    if is_read_only(&own)? {
        // An exec by descriptor may have named the process after a number.
        return rustix::thread::set_name(name).call("prctl", || "PR_SET_NAME".into());
    }
    let bind = clone_tree(own.as_fd(), Extent::Mount)?;
    let change = Change { set: MountAttrFlags::MOUNT_ATTR_RDONLY, ..Change::default() };
    set_attributes(bind.as_fd(), Extent::Mount, change)?;
    // Executing what does not look read-only would begin all over again.
    if !is_read_only(&bind)? {
        return Err(Error::new("statfs", "the bind is not read-only", rustix::io::Errno::INVAL));
    }
    let strings = |all: Vec<OsString>| {
        // What came through execve(2) has no zero bytes inside.
        Pointers::new(all.into_iter().filter_map(|text| CString::new(text.into_vec()).ok()).collect())
    };
    let environment = std::env::vars_os().map(|(mut key, value)| {
        key.push("=");
        key.push(value);
        key
    });
    let args = strings(std::env::args_os().collect());
    Err(exec_fd(&bind, &args, &strings(environment.collect())))
}

fn is_read_only(file: impl AsFd) -> Result<bool> {
    let state = rustix::fs::fstatvfs(file).call("fstatfs", || "own binary".into())?;
    Ok(state.f_flag.contains(StatVfsMountFlags::RDONLY))
}
