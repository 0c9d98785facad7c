//! What is mounted for one run, `-v`, `--mount` and `--tmpfs`: never recorded, and gone with it but for what a cache holds.

mod words;

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use cli::{During, Failure, Stage};
use descriptor::Exit;
use oci_spec::runtime::{Mount, Spec};
use runtime::{defaults, mountflags};
use store::{HeldCache, Store};

use crate::args::Args;
use crate::secret::{self, Secret};
pub(crate) use words::{Cache, Given, What, long, short, tmpfs};

/// The mounts of the command line, checked, and what only the caller can read of them read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    all: Vec<(Given, Option<Secret>)>,
}

impl Wanted {
    /// Reads them; an outer one comes before what is inside it.
    pub(crate) fn of(args: &Args) -> Result<Self, Failure> {
        let mut all: Vec<(Given, Option<Secret>)> = Vec::new();
        for given in args.volume.iter().chain(&args.mount).chain(&args.tmpfs) {
            if all.iter().any(|(other, _)| other.target == given.target) {
                return Err(Failure::usage(
                    "command line",
                    format!("duplicate mount point: {}", given.target.display()),
                ));
            }
            match &given.what {
                What::Secret { origin, looks, required } => {
                    if let Some(secret) = Secret::read(origin, *looks, *required)? {
                        all.push((given.clone(), Some(secret)));
                    }
                }
                What::Bind(mount) => {
                    let source = Path::new(mount.source.as_deref().unwrap_or_default());
                    if !source.exists() {
                        let what = format!("-v {}", source.display());
                        return Err(Failure::new(
                            Exit::NotFound,
                            what,
                            "no such file or directory on this host",
                        ));
                    }
                    all.push((given.clone(), None));
                }
                What::Tmpfs(_) | What::Cache { .. } => all.push((given.clone(), None)),
            }
        }
        all.sort_by_key(|(given, _)| given.target.components().count());
        Ok(Self { all })
    }

    /// Takes the caches, waiting for those that others have, and makes what is in memory, for one run.
    ///
    /// Caches are taken in one order, so that two runs never wait for each other.
    pub(crate) fn take(&self, store: &Store, stage: &Stage) -> Result<Taken, Failure> {
        let mut wanted: Vec<&Cache> = self.all.iter().filter_map(|(given, _)| given.cache()).collect();
        wanted.sort_by_key(|cache| (&cache.id, cache.sharing));
        wanted.dedup_by_key(|cache| &cache.id);
        let mut taken = Taken::default();
        let mut held: Vec<(&str, PathBuf)> = Vec::with_capacity(wanted.len());
        for cache in wanted {
            let wait = || stage.note(&format!("cache {:?} is in use, waiting for it", cache.id));
            let one = store
                .hold_cache(&cache.id, cache.sharing, (cache.mode, cache.owner.0, cache.owner.1), wait)
                .during(|| format!("cache {:?}", cache.id))?;
            held.push((&cache.id, one.path().into()));
            taken.caches.push(one);
        }
        for (given, secret) in &self.all {
            let mount = match (&given.what, secret) {
                (What::Bind(mount), _) => {
                    mountflags::bind_of(mount, Path::new(mount.source.as_deref().unwrap_or_default()))
                }
                (What::Tmpfs(mount), _) => mountflags::tmpfs_of(mount),
                (What::Cache { cache, read_only }, _) => {
                    let source = held.iter().find(|(id, _)| *id == cache.id).map(|(_, path)| path.as_path());
                    defaults::bind(source.unwrap_or(Path::new("")), &given.target, *read_only)
                }
                (What::Secret { looks, .. }, Some(secret)) => {
                    taken.secret(&given.target, secret.for_a_run(*looks)?)
                }
                (What::Secret { .. }, None) => continue,
            };
            taken.mounts.push((mount, given.kind()));
        }
        Ok(taken)
    }
}

/// The mounts of one run, ready.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    mounts: Vec<(Mount, overlay::Kind)>,
    /// Mounts that are attached nowhere yet.
    trees: Vec<OwnedFd>,
    caches: Vec<HeldCache>,
}

impl Taken {
    /// The descriptors that the run needs.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = RawFd> {
        let caches = self.caches.iter().flat_map(HeldCache::descriptors);
        self.trees.iter().map(AsRawFd::as_raw_fd).chain(caches)
    }

    /// The mount of a secret.
    fn secret(&mut self, target: &Path, tree: OwnedFd) -> Mount {
        let source = format!("/proc/self/fd/{}/{}", tree.as_raw_fd(), secret::NAME);
        self.trees.push(tree);
        let options = ["bind", "ro", "nosuid", "nodev", "noexec", "rprivate"].map(String::from).into();
        let mut mount = defaults::bind(Path::new(&source), target, true);
        mount.set_options(Some(options));
        mount
    }

    /// What must exist in the container to mount them on.
    pub(crate) fn points(&self, spec: &Spec) -> Vec<overlay::Point> {
        let own: Vec<&Path> =
            spec.mounts().iter().flatten().map(|mount| mount.destination().as_path()).collect();
        // What lies in another mount is made there.
        let is_free = |path: &Path| !own.iter().any(|mount| path.starts_with(mount));
        let free = self.mounts.iter().filter(|(mount, _)| is_free(mount.destination()));
        free.map(|(mount, kind)| overlay::Point { path: mount.destination().clone(), kind: *kind }).collect()
    }

    /// Adds them to the configuration; each replaces the container's own at the same place.
    pub(crate) fn apply(&self, spec: &mut Spec) {
        let Some(all) = spec.mounts_mut() else { return };
        all.retain(|own| !self.mounts.iter().any(|(mount, _)| mount.destination() == own.destination()));
        all.extend(self.mounts.iter().map(|(mount, _)| mount.clone()));
    }

    /// What has to be kept until the run ends.
    pub(crate) fn into_caches(self) -> Vec<HeldCache> {
        self.caches
    }
}
