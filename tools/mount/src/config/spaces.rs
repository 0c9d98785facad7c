//! Namespaces and the names that go with them.

use std::path::Path;

use cli::Failure;
use descriptor::Exit;
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType as Type};
use store::{CreateDoc, Store};

use crate::etc;

/// A container's namespaces. One of another container is named by a path that no host has, so that a runtime that cannot
/// look for that container's process starts nothing: `ns/<type>` in its directory below `containers`.
pub(super) fn namespaces(doc: &CreateDoc, containers: &Path) -> Result<Vec<LinuxNamespace>, Failure> {
    let chosen = |kind: &str| doc.namespaces.get(kind).map_or("", String::as_str);
    let mut all = Vec::new();
    for (typ, mode) in [
        (Type::Mount, ""),
        (Type::Pid, chosen("pid")),
        (Type::Uts, chosen("uts")),
        (Type::Ipc, chosen("ipc")),
        (Type::Cgroup, chosen("cgroup")),
        (Type::Network, doc.network.as_str()),
    ] {
        let mut namespace = LinuxNamespace::default();
        namespace.set_typ(typ);
        match mode {
            "host" => continue,
            "" | "private" | "shareable" | "none" => {}
            other => {
                let id = other.strip_prefix("container:").ok_or_else(|| {
                    let why = format!("it has no {typ} namespace of kind {other:?}");
                    Failure::new(Exit::Content, "create.json", why)
                })?;
                namespace.set_path(Some(containers.join(id).join("ns").join(typ.to_string())));
            }
        }
        all.push(namespace);
    }
    Ok(all)
}

/// What a container is called.
#[derive(Debug)]
pub(crate) struct Names {
    /// The host name that programs are told of.
    pub(crate) shown: String,
    /// The one that is set, where there is a namespace for it.
    pub(crate) own: Option<String>,
}

/// The names of the container of this id: of one that shares another's network, the other's.
pub(crate) fn names(doc: &CreateDoc, id: &str, store: &Store) -> Result<Names, Failure> {
    let is_hosts = doc.namespaces.get("uts").is_some_and(|mode| mode == "host");
    let shown = match (&doc.hostname, doc.network.strip_prefix("container:")) {
        (Some(chosen), _) => chosen.clone(),
        (None, Some(other)) => etc::name_of(store, other)?,
        (None, None) if doc.network == "host" || is_hosts => etc::host_name()?,
        (None, None) => store::short(id).into(),
    };
    let own = (!is_hosts).then(|| shown.clone());
    Ok(Names { shown, own })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(doc: &CreateDoc) -> Vec<(Type, Option<String>)> {
        let all = namespaces(doc, Path::new("/c")).expect("namespaces");
        all.iter()
            .map(|one| (one.typ(), one.path().as_ref().map(|path| path.display().to_string())))
            .collect()
    }

    #[test]
    fn a_namespace_is_the_containers_own_the_hosts_or_anothers() {
        let mut doc = CreateDoc { network: "container:abc".into(), ..CreateDoc::default() };
        doc.namespaces.insert("pid".into(), "host".into());
        doc.namespaces.insert("ipc".into(), "none".into());
        let want = [
            (Type::Mount, None),
            (Type::Uts, None),
            (Type::Ipc, None),
            (Type::Cgroup, None),
            (Type::Network, Some("/c/abc/ns/net".to_string())),
        ];
        assert_eq!(types(&doc), want);
        doc.network = "nonsense".into();
        namespaces(&doc, Path::new("/c")).expect_err("no network");
    }
}
