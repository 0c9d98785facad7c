//! Who the process is and what it may do: exactly what the configuration says.

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};
use rustix::thread::CapabilitySet;
use sys::{Call, Error, Result};

use crate::step::{Identity, Rights};

/// One more than the highest capability that fits the kernel's two 32-bit words.
const CAPABILITIES: u32 = 64;

/// Sets each limit.
pub(crate) fn rlimits(limits: &[(Resource, Rlimit)]) -> Result<()> {
    for &(resource, limit) in limits {
        rustix::process::setrlimit(resource, limit).call("setrlimit", || {
            format!("{resource:?}, soft {:?}, hard {:?}", limit.current, limit.maximum)
        })?;
    }
    Ok(())
}

/// Drops from the bounding set what is not to be kept. Numbers beyond the kernel's last capability answer `EINVAL`.
pub(crate) fn bounding(keep: CapabilitySet) -> Result<()> {
    for number in 0..CAPABILITIES {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if keep.contains(one) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(Error::new("prctl", format!("PR_CAPBSET_DROP, {number}"), errno)),
        }
    }
    Ok(())
}

/// In a user namespace just entered this process is still the user that it was outside, who may have no number there: its
/// root owns what is made. Where the namespace has no root, nothing is changed.
pub(crate) fn become_root() -> Result<()> {
    let (uid, gid) = (rustix::process::Uid::ROOT, rustix::process::Gid::ROOT);
    rustix::thread::set_keep_capabilities(true).call("prctl", || "PR_SET_KEEPCAPS".into())?;
    for (call, answer) in [
        ("setresgid", rustix::thread::set_thread_res_gid(gid, gid, gid)),
        ("setresuid", rustix::thread::set_thread_res_uid(uid, uid, uid)),
    ] {
        match answer {
            Ok(()) | Err(Errno::INVAL) => {}
            Err(errno) => return Err(Error::new(call, "0", errno)),
        }
    }
    Ok(())
}

/// Groups, then the group, then the user, keeping the permitted set for [`capabilities`] to cut down.
pub(crate) fn become_user(identity: &Identity) -> Result<()> {
    let Identity { uid, gid, groups, .. } = identity;
    rustix::thread::set_keep_capabilities(true).call("prctl", || "PR_SET_KEEPCAPS".into())?;
    match rustix::thread::set_thread_groups(groups) {
        // In a user namespace that must not shed groups (user_namespaces(7)) it has those that it had.
        Err(Errno::PERM) if groups.is_empty() && sys::identity::is_bound_to_groups() => {}
        answer => answer.call("setgroups", || format!("{groups:?}"))?,
    }
    rustix::thread::set_thread_res_gid(*gid, *gid, *gid).call("setresgid", || format!("{gid:?}"))?;
    rustix::thread::set_thread_res_uid(*uid, *uid, *uid).call("setresuid", || format!("{uid:?}"))
}

/// Sets effective, permitted and inheritable, and then ambient: all exactly.
pub(crate) fn capabilities(rights: &Rights) -> Result<()> {
    let Rights { sets, ambient } = *rights;
    rustix::thread::set_keep_capabilities(false).call("prctl", || "PR_SET_KEEPCAPS, 0".into())?;
    rustix::thread::set_capabilities(None, sets).call("capset", || format!("{sets:?}"))?;
    rustix::thread::clear_ambient_capability_set().call("prctl", || "PR_CAP_AMBIENT_CLEAR_ALL".into())?;
    for one in ambient.iter() {
        rustix::thread::configure_capability_in_ambient_set(one, true)
            .call("prctl", || format!("PR_CAP_AMBIENT_RAISE, {one:?}"))?;
    }
    Ok(())
}
