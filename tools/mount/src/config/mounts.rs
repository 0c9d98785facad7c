//! What is mounted, in the runtime's words, and what has to be there for it.

use std::path::{Path, PathBuf};

use ::runtime::{defaults, mountflags};
use cli::{During, Failure};
use descriptor::{Digest, Exit};
use oci_spec::runtime;
use overlay::{Kind, Point};
use rustix::fs::FileType;
use rustix::io::Errno;
use store::containers::Mount;
use store::{CreateDoc, Form, LayerTree, Store};

/// Shared memory of the container's processes.
const SHM: &str = "/dev/shm";

/// A mount and what it is mounted on.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) mount: runtime::Mount,
    pub(crate) kind: Kind,
}

impl Planned {
    /// What has to exist in the container.
    pub(crate) fn point(&self) -> Point {
        Point { path: self.mount.destination().clone(), kind: self.kind }
    }

    /// A bind of a file or directory of the host.
    pub(crate) fn bind(source: &Path, target: &Path, read_only: bool) -> Result<Self, Failure> {
        Ok(Self { kind: kind_of(source)?, mount: defaults::bind(source, target, read_only) })
    }
}

/// What a source of the host is mounted on.
fn kind_of(source: &Path) -> Result<Kind, Failure> {
    let what = || format!("mounting {}", source.display());
    match rustix::fs::stat(source) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_dir() => Ok(Kind::Directory),
        Ok(_) => Ok(Kind::File),
        Err(Errno::NOENT | Errno::NOTDIR) => {
            Err(Failure::new(Exit::NotFound, what(), "no such file or directory on this host"))
        }
        Err(e) => Err(Failure::new(Exit::Other, what(), e)),
    }
}

/// The mounts of the choices, an outer one before what is inside it. `volume` tells where the files of a volume are.
pub(crate) fn planned(
    doc: &CreateDoc,
    store: &Store,
    volume: &dyn Fn(&Mount) -> Result<PathBuf, Failure>,
) -> Result<Vec<Planned>, Failure> {
    let mut all = Vec::new();
    for mount in &doc.mounts {
        all.push(match mount.kind.as_str() {
            "bind" => {
                let source = mount.source.as_deref().unwrap_or_default();
                let source = Path::new(source);
                Planned { mount: mountflags::bind_of(mount, source), kind: kind_of(source)? }
            }
            "volume" => Planned { mount: mountflags::bind_of(mount, &volume(mount)?), kind: Kind::Directory },
            "tmpfs" => Planned { mount: mountflags::tmpfs_of(mount), kind: Kind::Directory },
            "image" => Planned { mount: image(store, mount)?, kind: Kind::Directory },
            other => {
                let why = format!("a mount of type {other:?}");
                return Err(Failure::new(Exit::Content, "create.json", why));
            }
        });
    }
    all.sort_by_key(|planned| planned.mount.destination().components().count());
    Ok(all)
}

fn made(typ: &str, source: &str, target: &str, options: Vec<String>) -> runtime::Mount {
    let mut mount = runtime::Mount::default();
    mount
        .set_destination(target.into())
        .set_typ(Some(typ.into()))
        .set_source(Some(source.into()))
        .set_options(Some(options));
    mount
}

/// An image's files, read-only: its layers stacked.
fn image(store: &Store, mount: &Mount) -> Result<runtime::Mount, Failure> {
    let named = mount.source.as_deref().unwrap_or_default();
    let what = || format!("--mount type=image,source={named}");
    let digest: Digest = named.parse().map_err(|e| Failure::new(Exit::Content, what(), e))?;
    if let Some(path) = mount.options.iter().find_map(|option| option.strip_prefix("subpath=")) {
        let why = format!("image-subpath={path} is not supported: the whole image can be mounted");
        return Err(Failure::new(Exit::Privilege, what(), why));
    }
    let image = store.image(&digest, None).during(what)?;
    let mut trees = Vec::new();
    if let Some(chain_id) = image.chain_id() {
        trees.extend(store.fixes(&chain_id).during(what)?);
    }
    for diff_id in image.diff_ids.iter().rev() {
        let tree = store.layer(Form::Identity, diff_id).during(what)?;
        let unpacked = || Failure::new(Exit::NotFound, what(), format!("layer {diff_id} is not unpacked"));
        trees.push(tree.ok_or_else(|| unpacked().with_hint(format!("oci-inspect {digest} | oci-unpack")))?);
    }
    let mut paths: Vec<PathBuf> = Vec::new();
    for path in trees.iter().map(LayerTree::path) {
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    match &paths[..] {
        [] => Err(Failure::new(Exit::Content, what(), "it has no layers")),
        // The kernel stacks two at least.
        [only] => Ok(defaults::bind(only, Path::new(&mount.target), true)),
        paths => {
            let lower = |path: &PathBuf| format!("lowerdir+={}", path.display());
            let mut options: Vec<String> = vec!["ro".into(), "userxattr".into()];
            options.extend(paths.iter().map(lower));
            Ok(made("overlay", "overlay", &mount.target, options))
        }
    }
}

/// Puts the digest of an image in the place of its name, which may mean another one tomorrow.
pub(crate) fn pin(store: &Store, mounts: &mut [Mount]) -> Result<(), Failure> {
    for mount in mounts.iter_mut().filter(|mount| mount.kind == "image") {
        let named = mount.source.clone().unwrap_or_default();
        let what = || format!("--mount type=image,source={named}");
        // As written, by digest, and as docker completes it.
        let tagged = if named.rsplit('/').next().is_some_and(|last| last.contains([':', '@'])) {
            named.clone()
        } else {
            format!("{named}:latest")
        };
        let mut found = named.parse::<Digest>().ok();
        for prefix in ["", "docker.io/", "docker.io/library/"] {
            for name in [&named, &tagged] {
                if found.is_none() {
                    found = store.resolve(&format!("{prefix}{name}")).during(what)?.map(|image| image.digest);
                }
            }
        }
        let missing = || {
            Failure::new(Exit::NotFound, what(), "the store has no such image")
                .with_hint(format!("oci-pull {named} | oci-unpack"))
        };
        mount.source = Some(found.ok_or_else(missing)?.to_string());
    }
    Ok(())
}

/// The kernel's file systems, as the choices have them; what is mounted at the same place by choice is left out.
pub(crate) fn of_kernel(doc: &CreateDoc, containers: &Path) -> Vec<runtime::Mount> {
    let ipc = doc.namespaces.get("ipc").map_or("", String::as_str);
    let mut mounts = defaults::mounts();
    mounts.retain(|mount| {
        let at = mount.destination().to_str().unwrap_or_default();
        let covered = doc.mounts.iter().any(|one| one.target == at);
        matches!(at, "/proc" | "/dev") || !(covered || (at == SHM && ipc == "none"))
    });
    for mount in &mut mounts {
        let mut options = mount.options().clone().unwrap_or_default();
        match mount.destination().to_str().unwrap_or_default() {
            SHM if ipc == "host" => {
                *mount = defaults::bind(Path::new(SHM), Path::new(SHM), false);
                continue;
            }
            // It is in the other container's mount namespace, where a runtime has to look for it.
            SHM if ipc.starts_with("container:") => {
                let other = containers.join(ipc.trim_start_matches("container:")).join("ns/shm");
                *mount = defaults::bind(&other, Path::new(SHM), false);
                continue;
            }
            SHM => {
                if let Some(size) = doc.limits.get("shm-size") {
                    options.retain(|word| !word.starts_with("size="));
                    options.push(format!("size={size}"));
                }
            }
            "/sys" | "/sys/fs/cgroup" if doc.security.privileged => options.retain(|word| word != "ro"),
            _ => {}
        }
        mount.set_options(Some(options));
    }
    mounts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(mount: &runtime::Mount) -> Vec<&str> {
        mount.options().iter().flatten().map(String::as_str).collect()
    }

    #[test]
    fn shared_memory_is_as_large_as_was_chosen_or_the_hosts_or_none() {
        let at = |doc: &CreateDoc| {
            let all = of_kernel(doc, Path::new("/c"));
            all.into_iter().find(|mount| mount.destination() == Path::new(SHM))
        };
        let mut doc = CreateDoc::default();
        doc.limits.insert("shm-size".into(), "4096".into());
        assert!(options(&at(&doc).expect("a mount")).contains(&"size=4096"));
        doc.namespaces.insert("ipc".into(), "host".into());
        assert_eq!(at(&doc).expect("a mount").typ().as_deref(), Some("bind"));
        doc.namespaces.insert("ipc".into(), "none".into());
        assert_eq!(at(&doc), None);
    }
}
