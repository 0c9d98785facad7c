//! What the container may see and change.

use std::path::PathBuf;

use oci_spec::runtime::{Linux, LinuxNamespaceType, Spec};

use super::invalid;
use super::namespaces::{Namespaces, root_propagation};
use super::sysctl::sysctls;
use crate::error::Result;
use crate::request::Manner;
use crate::step::{Action, Step};

/// What the container may see and change: paths, names, the network's loopback; ends with the host out of reach.
pub(super) fn confine(
    spec: &Spec,
    linux: &Linux,
    namespaces: &Namespaces,
    manner: Manner,
    steps: &mut Vec<Step>,
) -> Result<()> {
    steps.push(Step::new("hold procfs", Action::Procfs));
    // What is mounted on procfs from here on would be in the way.
    let sysctls = sysctls(linux, namespaces)?;
    if !sysctls.is_empty() {
        steps.push(Step::new("set kernel parameters", Action::Sysctls(sysctls)));
    }
    let paths = |list: &Option<Vec<String>>| list.iter().flatten().map(PathBuf::from).collect::<Vec<_>>();
    steps.push(Step::new("make paths read-only", Action::ReadOnly(paths(linux.readonly_paths()))));
    steps.push(Step::new("mask paths", Action::Mask(paths(linux.masked_paths()))));
    if namespaces.is_new(LinuxNamespaceType::Network) {
        steps.push(Step::new("bring the loopback interface up", Action::Loopback));
    }
    if let Some(name) = own_name("hostname", spec.hostname(), namespaces)? {
        steps.push(Step::new("set the host name", Action::Hostname(name.clone())));
    }
    if let Some(name) = own_name("domainname", spec.domainname(), namespaces)? {
        steps.push(Step::new("set the domain name", Action::Domainname(name.clone())));
    }
    if namespaces.shares_mounts() {
        steps.push(Step::new("change the root", Action::Chroot));
    } else {
        let pivot = if manner.pivot { Action::Pivot } else { Action::MoveRoot };
        steps.push(Step::new("pivot the root", pivot));
    }
    if let Some(kind) = root_propagation(linux)? {
        // A shared root could not have been pivoted.
        steps.push(Step::new("set the root's propagation", Action::RootPropagation(kind)));
    }
    if spec.root().as_ref().is_some_and(|root| root.readonly() == Some(true)) {
        steps.push(Step::new("make the root read-only", Action::ReadOnlyRoot));
    }
    Ok(())
}

/// A name of the container, which must not become the host's.
fn own_name<'a>(
    member: &str,
    name: &'a Option<String>,
    namespaces: &Namespaces,
) -> Result<Option<&'a String>> {
    let Some(name) = name.as_ref().filter(|name| !name.is_empty()) else { return Ok(None) };
    if namespaces.is_own(LinuxNamespaceType::Uts) {
        return Ok(Some(name));
    }
    Err(invalid(member, "it would be the host's: there is no uts namespace of the container's own".into()))
}
