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
    confinement.sysctls = doc.sysctls.clone().into_iter().collect();
    allowed.edits = cdi::edits(doc, dirs)?;
    devices::fill(doc, &allowed.edits, &mut allowed.confinement)?;
    Ok(allowed)
}
