//! `linux.sysctl`: kernel parameters, where they are the container's own.

use oci_spec::runtime::{Linux, LinuxNamespaceType as Kind};

use super::invalid;
use super::namespaces::Namespaces;
use crate::error::{Error, Result};

/// Parameters of the IPC namespace (runc's list).
const IPC: &[&str] = &[
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
];

/// Each parameter's path below /proc and its value, sorted.
pub(super) fn sysctls(linux: &Linux, namespaces: &Namespaces) -> Result<Vec<(String, String)>> {
    let mut list = Vec::new();
    for (name, value) in linux.sysctl().iter().flatten() {
        let path = path(name).ok_or_else(|| wrong(format!("{name:?} is no kernel parameter")))?;
        let kind = kind(&path).ok_or_else(|| wrong(format!("{name:?} is in no namespace of its own")))?;
        if path == "kernel/hostname" {
            return Err(wrong(format!("{name:?} is what hostname is for")));
        }
        if !namespaces.is_own(kind) {
            return Err(wrong(format!(
                "{name:?} would be changed for the host: its {kind} namespace is the host's"
            )));
        }
        list.push((format!("sys/{path}"), value.clone()));
    }
    list.sort();
    Ok(list)
}

fn wrong(why: String) -> Error {
    invalid("linux.sysctl", why)
}

/// The namespace that a parameter belongs to.
fn kind(path: &str) -> Option<Kind> {
    if IPC.contains(&path) || path.starts_with("fs/mqueue/") {
        Some(Kind::Ipc)
    } else if path.starts_with("net/") {
        Some(Kind::Network)
    } else if matches!(path, "kernel/hostname" | "kernel/domainname") {
        Some(Kind::Uts)
    } else {
        None
    }
}

/// Either separator may be used; the other one, within a name, stands for the first (sysctl.d(5)).
fn path(name: &str) -> Option<String> {
    let dotted = name.find(['.', '/']).is_some_and(|at| name[at..].starts_with('.'));
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        c => c,
    };
    let path: String = if dotted { name.chars().map(swap).collect() } else { name.into() };
    let plain = path.split('/').all(|part| !matches!(part, "" | "." | "..") && !part.contains('\0'));
    plain.then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_paths_with_either_separator_and_nothing_else() {
        for (name, want) in [
            ("net.ipv4.ip_forward", Some("net/ipv4/ip_forward")),
            ("net/ipv4/ip_forward", Some("net/ipv4/ip_forward")),
            ("net.ipv4.conf.eth0/100.forwarding", Some("net/ipv4/conf/eth0.100/forwarding")),
            ("net/ipv4/conf/eth0.100/forwarding", Some("net/ipv4/conf/eth0.100/forwarding")),
            ("net.ipv4.//.x", None),
            ("../kernel", None),
            ("/net", None),
            ("", None),
        ] {
            assert_eq!(path(name).as_deref(), want, "{name}");
        }
    }

    #[test]
    fn parameters_of_no_namespace_have_no_kind() {
        assert_eq!(kind("kernel/shmmax"), Some(Kind::Ipc));
        assert_eq!(kind("fs/mqueue/msg_max"), Some(Kind::Ipc));
        assert_eq!(kind("net/core/somaxconn"), Some(Kind::Network));
        assert_eq!(kind("kernel/panic"), None);
        assert_eq!(kind("network/x"), None);
    }
}
