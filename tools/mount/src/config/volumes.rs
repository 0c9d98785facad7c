//! Volumes: found or made, filled with what the image has at their place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cli::{During, Failure};
use rustix::fs::{Mode, OFlags};
use store::containers::Mount;
use store::volumes::Volume;
use store::{Container, CreateDoc, Store};
use sys::Root;

/// The volumes of a container in the making; while they live nobody removes them.
#[derive(Debug)]
pub(crate) struct Volumes {
    /// By the place where they are mounted.
    by_target: BTreeMap<String, Volume>,
}

impl Volumes {
    /// Finds those of the choices, and makes what is not there, for the container of this id.
    pub(crate) fn of(doc: &CreateDoc, store: &Store, id: &str) -> Result<Self, Failure> {
        let mut by_target = BTreeMap::new();
        for mount in doc.mounts.iter().filter(|mount| mount.kind == "volume") {
            let labels = labels(mount);
            let volume = match &mount.source {
                Some(name) => store.create_volume(name, &labels),
                None => store.create_anonymous_volume(id, &labels),
            };
            by_target.insert(mount.target.clone(), volume.during(|| named(mount))?);
        }
        Ok(Self { by_target })
    }

    /// Copies what the image has at a volume's place into it, where it is empty (docker's rule).
    pub(crate) fn fill(&self, doc: &CreateDoc, view: &Root) -> Result<(), Failure> {
        for mount in doc.mounts.iter().filter(|mount| mount.kind == "volume") {
            let options = &mount.options;
            if options.iter().any(|option| option == "nocopy" || option.starts_with("subpath=")) {
                continue;
            }
            let Some(volume) = self.by_target.get(&mount.target) else { continue };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            // Every link of the image is followed inside the image.
            let Ok(there) = view.open(Path::new(&mount.target), flags, Mode::empty()) else { continue };
            let copied = volume.fill(|new| runtime::copy_directory(&there, new)).during(|| named(mount))?;
            copied
                .map_err(|source| overlay::Error::Call { what: "copying the image's files", source })
                .during(|| named(mount))?;
        }
        Ok(())
    }

    /// Where the files of a mount's volume are.
    pub(crate) fn path(&self, mount: &Mount, container: &Path) -> Result<PathBuf, Failure> {
        let volume = self.by_target.get(&mount.target);
        let files = volume
            .map(Volume::path)
            .ok_or_else(|| Failure::new(descriptor::Exit::Other, named(mount), "it was not made"))?;
        let inside = mount.options.iter().find_map(|option| option.strip_prefix("subpath="));
        Ok(match (inside, volume) {
            // Who may write to the volume says where a path in it leads: it is followed inside the volume, by whoever starts
            // the container. No host has this path.
            (Some(inside), Some(volume)) => container.join("volumes").join(volume.name()).join(inside),
            _ => files,
        })
    }
}

fn named(mount: &Mount) -> String {
    format!("volume {}", mount.source.as_deref().unwrap_or(&mount.target))
}

/// `--mount`'s labels of a new volume.
fn labels(mount: &Mount) -> BTreeMap<String, String> {
    let words = mount.options.iter().filter_map(|option| option.strip_prefix("label="));
    words.map(|word| word.split_once('=').unwrap_or((word, ""))).map(|(k, v)| (k.into(), v.into())).collect()
}

/// The names of a container's volumes by the place where they are mounted, as its configuration has them.
pub(crate) fn names_in(container: &Container) -> store::Result<BTreeMap<String, String>> {
    let volumes = container.store().path().join("volumes");
    let config = container.document("config.json")?.unwrap_or_default();
    let mut names = BTreeMap::new();
    for mount in config["mounts"].as_array().into_iter().flatten() {
        let (Some(source), Some(target)) = (mount["source"].as_str(), mount["destination"].as_str()) else {
            continue;
        };
        let Ok(inside) = Path::new(source).strip_prefix(&volumes) else { continue };
        let name = inside.components().next().and_then(|name| name.as_os_str().to_str());
        names.extend(name.map(|name| (target.to_string(), name.to_string())));
    }
    Ok(names)
}
