//! From the choices written down to what a runtime is told.
//!
//! What depends on the host (device numbers, what a CDI name means) is looked up here and is no part of create.json.

pub(crate) mod cdi;
mod devices;
pub(crate) mod mounts;
mod resources;
mod rights;
mod spaces;
pub(crate) mod volumes;

use std::path::PathBuf;

use cli::Failure;
use runtime::convert::Confinement;
use store::CreateDoc;

pub(crate) use spaces::names;

/// What a container may do and use, and what its devices bring along.
#[derive(Debug, Default)]
pub(crate) struct Allowed {
    pub(crate) confinement: Confinement,
    /// What CDI adds.
    pub(crate) edits: cdi::Edits,
}

/// What docker sets where a container has a network of its own: low ports and pings are for every user. In a user namespace
/// not every group has a number, so pings stay root's there.
fn usual_sysctls(doc: &CreateDoc) -> Vec<(&'static str, &'static str)> {
    const PORTS: (&str, &str) = ("net.ipv4.ip_unprivileged_port_start", "0");
    const PINGS: (&str, &str) = ("net.ipv4.ping_group_range", "0 2147483647");
    let has_own = doc.network != "host" && !doc.network.starts_with("container:");
    let is_known = |(key, _): &(&str, &str)| {
        std::path::Path::new("/proc/sys").join(key.replace('.', "/")).exists() && has_own
    };
    let mut all = vec![PORTS];
    if !cgroup::is_rootless() {
        all.push(PINGS);
    }
    all.into_iter().filter(is_known).collect()
}

/// Everything that confines the container; `dirs` is where CDI specifications are.
pub(crate) fn allowed(
    doc: &CreateDoc,
    containers: &std::path::Path,
    dirs: &[PathBuf],
) -> Result<Allowed, Failure> {
    let mut allowed = Allowed::default();
    let confinement = &mut allowed.confinement;
    rights::fill(doc, confinement)?;
    resources::fill(doc, confinement)?;
    confinement.namespaces = spaces::namespaces(doc, containers)?;
    confinement.sysctls = usual_sysctls(doc).into_iter().map(|(k, v)| (k.into(), v.into())).collect();
    confinement.sysctls.extend(doc.sysctls.clone());
    allowed.edits = cdi::edits(doc, dirs)?;
    devices::fill(doc, &allowed.edits, &mut allowed.confinement)?;
    Ok(allowed)
}
