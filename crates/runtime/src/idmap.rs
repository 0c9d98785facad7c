//! User and group ids of a user namespace (user_namespaces(7)).

use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;

use oci_spec::runtime::LinuxIdMapping;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, getegid, geteuid, waitid};
use rustix::thread::CapabilitySet;
use sys::{Call, Error as Failed};

use crate::error::{Error, Result};
use crate::procfs::Procfs;

/// As many lines as the kernel takes (Linux 4.15).
const LINES: usize = 340;

/// Which ids of a namespace are which outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IdMaps {
    uids: Vec<LinuxIdMapping>,
    gids: Vec<LinuxIdMapping>,
}

impl IdMaps {
    /// The maps of a configuration; `member` is what the configuration calls the first.
    pub(crate) fn new(
        uids: Option<&Vec<LinuxIdMapping>>,
        gids: Option<&Vec<LinuxIdMapping>>,
        member: &str,
    ) -> Result<Self> {
        let checked = |list: Option<&Vec<LinuxIdMapping>>| {
            let list = list.cloned().unwrap_or_default();
            check(&list).map_err(|why| Error::Invalid { member: member.into(), why })?;
            Ok::<_, Error>(list)
        };
        Ok(Self { uids: checked(uids)?, gids: checked(gids)? })
    }

    /// True where both user and group 0 exist inside.
    pub(crate) fn has_root(&self) -> bool {
        [&self.uids, &self.gids].iter().all(|list| list.iter().any(|range| range.container_id() == 0))
    }

    /// Gives the maps to the user namespace of a process, a child of this one that was born into it.
    ///
    /// Where this process may not map ids as it likes, its own id is mapped by itself, anything else by newuidmap(1) and
    /// newgidmap(1), which know what /etc/subuid grants.
    pub(crate) fn write(&self, procfs: &Procfs, pid: u32) -> sys::Result<()> {
        let rights = rustix::thread::capabilities(None).call("capget", String::new)?.effective;
        let own = |list: &[LinuxIdMapping], id: u32| matches!(list, [only] if only.size() == 1 && only.host_id() == id);
        if rights.contains(CapabilitySet::SETUID) || own(&self.uids, geteuid().as_raw()) {
            procfs.write(&format!("{pid}/uid_map"), &text(&self.uids))?;
        } else {
            by_program("newuidmap", pid, &self.uids)?;
        }
        if rights.contains(CapabilitySet::SETGID) {
            procfs.write(&format!("{pid}/gid_map"), &text(&self.gids))
        } else if own(&self.gids, getegid().as_raw()) {
            // Else a process could shed a group that denies it something.
            procfs.write(&format!("{pid}/setgroups"), "deny")?;
            procfs.write(&format!("{pid}/gid_map"), &text(&self.gids))
        } else {
            by_program("newgidmap", pid, &self.gids)
        }
    }

    /// A user namespace with these maps that nobody is in, for mounts that show ids by it.
    pub(crate) fn namespace(&self) -> sys::Result<OwnedFd> {
        let (wait, go) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).call("pipe2", || "O_CLOEXEC".into())?;
        let holder = sys::process::clone(CLONE_NEWUSER, true, || {
            // Waits for the end of what nobody writes; its own copy of the other end would keep it open.
            let _ = sys::process::close_range(number(&go), number(&go), sys::process::Range::Close);
            let _ = rustix::io::read(&wait, &mut [0]);
            0
        })?;
        let pid = holder.pid.as_raw_nonzero().get().unsigned_abs();
        let made = Procfs::of_host().and_then(|procfs| {
            self.write(&procfs, pid)?;
            let path = format!("/proc/{pid}/ns/user");
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            rustix::fs::open(&path, flags, Mode::empty()).call("open", || path.clone())
        });
        drop(go);
        waitid(WaitId::PidFd(holder.pidfd.as_fd()), WaitIdOptions::EXITED)
            .call("waitid", || "the process that holds a user namespace".into())?;
        made
    }
}

/// `CLONE_NEWUSER` of clone(2).
pub(crate) const CLONE_NEWUSER: u64 = 0x1000_0000;

fn number(fd: &OwnedFd) -> u32 {
    std::os::fd::AsRawFd::as_raw_fd(fd).unsigned_abs()
}

fn check(list: &[LinuxIdMapping]) -> std::result::Result<(), String> {
    if list.is_empty() {
        return Err("a new user namespace needs maps for users and groups".into());
    }
    if list.len() > LINES {
        return Err(format!("{} maps, the kernel takes {LINES}", list.len()));
    }
    for range in list {
        let fits = |first: u32| {
            range.size() > 0 && first.checked_add(range.size() - 1).is_some_and(|last| last < u32::MAX)
        };
        if !fits(range.container_id()) || !fits(range.host_id()) {
            return Err(format!(
                "{} ids from {} inside and {} outside are no range",
                range.size(),
                range.container_id(),
                range.host_id()
            ));
        }
    }
    Ok(())
}

fn text(list: &[LinuxIdMapping]) -> String {
    list.iter().map(|one| format!("{} {} {}\n", one.container_id(), one.host_id(), one.size())).collect()
}

/// Lets a set-user-id program of the host do it.
fn by_program(program: &'static str, pid: u32, list: &[LinuxIdMapping]) -> sys::Result<()> {
    let mut command = Command::new(program);
    command.arg(pid.to_string());
    for one in list {
        command.args([one.container_id(), one.host_id(), one.size()].map(|n| n.to_string()));
    }
    let output =
        command.output().call("execve", || format!("{program}, which maps ids for users without rights"))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().to_string();
    Err(Failed::new("write", words, Errno::PERM))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(inside: u32, outside: u32, size: u32) -> LinuxIdMapping {
        serde_json::from_value(serde_json::json!({"containerID": inside, "hostID": outside, "size": size}))
            .expect("a map")
    }

    #[test]
    fn maps_are_ranges_of_ids_that_exist() {
        for (list, good) in [
            (vec![range(0, 1000, 1)], true),
            (vec![range(0, 100_000, 65_536), range(65_536, 1, 10)], true),
            (vec![range(0, 0, u32::MAX)], true),
            (vec![], false),
            (vec![range(0, 0, 0)], false),
            (vec![range(1, 0, u32::MAX)], false),
            (vec![range(0, u32::MAX, 1)], false),
            (vec![range(0, 0, 1); 341], false),
        ] {
            assert_eq!(IdMaps::new(Some(&list), Some(&list), "x").is_ok(), good, "{list:?}");
        }
    }

    #[test]
    fn a_namespace_for_mounts_has_the_maps_and_no_process() {
        if !geteuid().is_root() {
            testkit::skip("needs root");
            return;
        }
        let list = vec![range(0, 1000, 10)];
        let maps = IdMaps::new(Some(&list), Some(&list), "x").expect("maps");
        let namespace = maps.namespace().expect("a namespace");
        let again = rustix::fs::readlink(format!("/proc/self/fd/{}", number(&namespace)), Vec::new());
        assert!(again.expect("a link").to_string_lossy().starts_with("user:["));
    }
}
