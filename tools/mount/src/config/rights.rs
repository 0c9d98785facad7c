//! Capabilities, the filter of system calls, and what is hidden.

use std::collections::HashSet;

use cli::{During, Failure};
use descriptor::Exit;
use oci_spec::runtime::Capability;
use runtime::convert::Confinement;
use runtime::defaults;
use store::{CreateDoc, Security};

pub(super) fn fill(doc: &CreateDoc, confinement: &mut Confinement) -> Result<(), Failure> {
    let security = &doc.security;
    confinement.capabilities = capabilities(security, &defaults::own_capabilities())?;
    confinement.no_new_privileges = security.no_new_privileges;
    confinement.apparmor.clone_from(&security.apparmor);
    confinement.seccomp = match &security.seccomp {
        // A profile of one's own holds for privileged containers, too, as with docker.
        Some(profile) if profile.is_object() => {
            let what = || "--security-opt seccomp".to_string();
            Some(seccomp::from_docker(profile, &confinement.capabilities).during(what)?)
        }
        Some(_) => None,
        None if security.privileged => None,
        None => Some(seccomp::docker_default(&confinement.capabilities)),
    };
    if security.privileged {
        confinement.masked.clear();
        confinement.read_only.clear();
    }
    let keep = |path: &String| !security.unmask.iter().any(|shown| shows(shown, path));
    confinement.masked.retain(keep);
    confinement.read_only.retain(keep);
    for path in &security.mask {
        if !confinement.masked.contains(path) {
            confinement.masked.push(path.clone());
        }
    }
    Ok(())
}

/// `ALL`, the path itself, or with `/*` at its end what is in it.
fn shows(shown: &str, path: &str) -> bool {
    let inside = shown.strip_suffix("/*").and_then(|dir| path.strip_prefix(dir)?.strip_prefix('/'));
    shown == "ALL" || shown.trim_end_matches('/') == path || inside.is_some_and(|name| !name.contains('/'))
}

/// Docker's rule: ALL given means all but those taken, ALL taken means those given alone.
fn capabilities(security: &Security, own: &HashSet<Capability>) -> Result<HashSet<Capability>, Failure> {
    let is_all = |list: &[String]| list.iter().any(|name| name == "ALL");
    let set = |list: &[String]| -> HashSet<Capability> {
        list.iter().filter_map(|name| defaults::capability(name)).collect()
    };
    let (add, drop) = (set(&security.cap_add), set(&security.cap_drop));
    let lacks = |name: &&String| defaults::capability(name).is_some_and(|one| !own.contains(&one));
    if let Some(name) = security.cap_add.iter().find(lacks) {
        let why = format!("this caller has no {name} to give");
        return Err(Failure::new(Exit::Privilege, "--cap-add", why).with_hint("run it with that capability"));
    }
    Ok(if security.privileged {
        own.clone()
    } else if is_all(&security.cap_add) {
        own.difference(&drop).copied().collect()
    } else if is_all(&security.cap_drop) {
        add
    } else {
        let base = HashSet::from(defaults::CAPABILITIES);
        let left: HashSet<_> = base.difference(&drop).copied().collect();
        left.union(&add).copied().collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use Capability::{Chown, Kill, NetAdmin, SysAdmin};

    fn made(add: &[&str], drop: &[&str]) -> HashSet<Capability> {
        let strings = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        let security = Security { cap_add: strings(add), cap_drop: strings(drop), ..Security::default() };
        let own = HashSet::from([Chown, Kill, NetAdmin, SysAdmin]);
        capabilities(&security, &own).expect("capabilities")
    }

    #[test]
    fn capabilities_are_given_and_taken_as_docker_does() {
        assert_eq!(made(&[], &[]).len(), 14);
        assert_eq!(made(&["CAP_NET_ADMIN"], &["CAP_CHOWN"]).len(), 14);
        assert!(!made(&["CAP_NET_ADMIN"], &["CAP_CHOWN"]).contains(&Chown));
        assert_eq!(made(&["CAP_NET_ADMIN"], &["ALL"]), HashSet::from([NetAdmin]));
        assert_eq!(made(&["ALL"], &["CAP_SYS_ADMIN"]), HashSet::from([Chown, Kill, NetAdmin]));
        assert!(made(&["CAP_CHOWN"], &["CAP_CHOWN"]).contains(&Chown));
    }

    #[test]
    fn what_nobody_has_cannot_be_given() {
        let security = Security { cap_add: vec!["CAP_SYS_TIME".into()], ..Security::default() };
        let failure = capabilities(&security, &HashSet::from([Chown])).expect_err("not ours");
        assert_eq!(failure.exit(), 7);
    }

    #[test]
    fn paths_are_shown_by_name_by_pattern_or_all() {
        for (shown, path, want) in [
            ("ALL", "/proc/kcore", true),
            ("/proc/kcore", "/proc/kcore", true),
            ("/proc/*", "/proc/kcore", true),
            ("/sys/*", "/sys/devices/virtual/powercap", false),
            ("/proc/k", "/proc/kcore", false),
        ] {
            assert_eq!(shows(shown, path), want, "{shown} {path}");
        }
    }
}
