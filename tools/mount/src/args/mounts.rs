//! What is mounted into the container: `-v`, `--mount`, `--tmpfs`, `--volumes-from`.

use cli::{During, Failure};
use runtime::mountflags::{self, clean};
use store::containers::Mount;
use store::{CreateDoc, Store};

/// Mounts.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Mounts")]
pub(crate) struct Mounts {
    /// Mount the host's SRC, the volume of that name, or a new volume, at DST (ro, rw, nocopy, rshared, ...)
    #[arg(short, long, value_name = "[SRC:]DST[:OPT,...]", value_parser = mountflags::short)]
    volume: Vec<Mount>,

    /// Mount with all that can be said: type=bind|volume|tmpfs|image,source=SRC,target=DST,readonly,...
    #[arg(long, value_name = "KEY=VALUE,...", value_parser = mountflags::long)]
    mount: Vec<Mount>,

    /// Mount a file system in memory (size=64m,mode=1777,exec)
    #[arg(long, value_name = "DST[:OPT,...]", value_parser = mountflags::tmpfs)]
    tmpfs: Vec<Mount>,

    /// Mount what another container mounts of volumes and of the host
    #[arg(long, value_name = "CONTAINER[:ro]")]
    volumes_from: Vec<String>,

    /// What a VOLUME of the image is: a volume without a name, a tmpfs, or a directory of the container's layer [default: a volume, with --rm a directory]
    #[arg(long, value_name = "KIND", value_enum)]
    pub(crate) image_volume: Option<ImageVolume>,
}

/// What becomes of an image's VOLUME.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ImageVolume {
    /// A volume that goes with the container, as docker has it.
    Volume,
    /// A file system in memory.
    Tmpfs,
    /// A directory of the writable layer, which a commit keeps.
    Layer,
}

impl Mounts {
    /// Writes the mounts down; `declared` are the image's own volumes.
    pub(crate) fn record(
        &self,
        doc: &mut CreateDoc,
        store: &Store,
        declared: &[std::path::PathBuf],
    ) -> Result<(), Failure> {
        let mut all: Vec<Mount> = Vec::new();
        for one in self.volume.iter().chain(&self.mount).chain(&self.tmpfs) {
            if all.iter().any(|other| other.target == one.target) {
                return Err(Failure::usage("command line", format!("duplicate mount point: {}", one.target)));
            }
            all.push(one.clone());
        }
        for word in &self.volumes_from {
            for one in of_container(store, word)? {
                // What is said of a place itself counts.
                if !all.iter().any(|other| other.target == one.target) {
                    all.push(one);
                }
            }
        }
        // With --rm docker's volume would go at the end, too; read-only, the directory could not be written.
        let usual = if doc.auto_remove && !doc.read_only { ImageVolume::Layer } else { ImageVolume::Volume };
        let kind = match self.image_volume.unwrap_or(usual) {
            ImageVolume::Layer => None,
            ImageVolume::Volume => Some("volume"),
            ImageVolume::Tmpfs => Some("tmpfs"),
        };
        for path in kind.map_or(&[][..], |_| declared) {
            // A place that cannot be written down is no better as a volume.
            let Some(target) = path.to_str().and_then(|path| clean(path).ok()) else { continue };
            if !all.iter().any(|other| other.target == target) {
                all.push(Mount { kind: kind.unwrap_or_default().into(), target, ..Mount::default() });
            }
        }
        all.sort_by(|a, b| a.target.cmp(&b.target));
        doc.mounts = all;
        Ok(())
    }
}

/// The volumes and binds of another container: nameless ones by the names they have there.
fn of_container(store: &Store, word: &str) -> Result<Vec<Mount>, Failure> {
    let what = || format!("--volumes-from {word}");
    let (name, read_only) = match word.split_once(':') {
        Some((name, "ro")) => (name, true),
        None | Some((_, "rw" | "z" | "Z")) => (word.split(':').next().unwrap_or(word), false),
        Some((_, mode)) => return Err(Failure::usage(what(), format!("invalid mode: {mode}"))),
    };
    let container = store.container(name).during(what)?;
    let doc = container.create().during(what)?;
    let mut found: Vec<Mount> =
        doc.mounts.into_iter().filter(|mount| matches!(mount.kind.as_str(), "bind" | "volume")).collect();
    let names = crate::config::volumes::names_in(&container).during(what)?;
    for mount in &mut found {
        mount.read_only |= read_only;
        if mount.kind == "volume" && mount.source.is_none() {
            mount.source = names.get(&mount.target).cloned();
        }
    }
    Ok(found)
}
