//! What the store takes on the disk, and what it would without sharing: docker's `system df`.

use cli::{During, Failure};
use descriptor::{Digest, Status};
use serde_json::{Value, json};
use store::{Cache, Seen, Store, Volume, short};

use crate::args::DfArgs;
use crate::docker;
use crate::lists::{no_lines, tell};
use crate::sharing::{ContainerUse, ImageUse, Sharing, bytes};
use crate::table::{Column, fixed, flexible};
use crate::text::{repository_and_tag, size};

/// What is neither images, containers, volumes nor caches.
const REST: [&str; 8] = ["ingest", "staging", "leases", "refs", "names", "index.json", "events", "events.1"];
const COLUMNS: [(Column, &str); 5] = [
    (fixed("TYPE"), "Type"),
    (fixed("TOTAL"), "TotalCount"),
    (fixed("ACTIVE"), "Active"),
    (fixed("SIZE"), "Size"),
    (fixed("RECLAIMABLE"), "Reclaimable"),
];
const IMAGES: [(Column, &str); 7] = [
    (flexible("REPOSITORY", 16), "Repository"),
    (flexible("TAG", 12), "Tag"),
    (fixed("IMAGE ID"), "ID"),
    (fixed("SIZE"), "Size"),
    (fixed("SHARED SIZE"), "SharedSize"),
    (fixed("UNIQUE SIZE"), "UniqueSize"),
    (fixed("CONTAINERS"), "Containers"),
];
const CONTAINERS: [(Column, &str); 5] = [
    (fixed("CONTAINER ID"), "ID"),
    (flexible("IMAGE", 12), "Image"),
    (fixed("SIZE"), "Size"),
    (fixed("STATUS"), "State"),
    (fixed("NAMES"), "Names"),
];
const VOLUMES: [(Column, &str); 3] =
    [(flexible("VOLUME NAME", 16), "Name"), (fixed("LINKS"), "Links"), (fixed("SIZE"), "Size")];

/// Everything that was counted, in bytes as the file system has allocated them.
struct Counted {
    sharing: Sharing,
    /// Layers with what belongs to stacks of them.
    trees: u64,
    blobs: u64,
    volumes: Vec<(Volume, u64, usize)>,
    /// With true for those that a run has.
    caches: Vec<(Cache, u64, bool)>,
    rest: u64,
}

/// Shows it.
pub(crate) fn df(store: &Store, args: &DfArgs) -> Result<(), Failure> {
    no_lines(&args.form)?;
    let counted = Counted::of(store)?;
    let rows = counted.rows();
    if args.form.format.is_some() && !args.verbose {
        return tell(&rows, &args.form, &COLUMNS);
    }
    if !args.verbose {
        // The sums stand in the sentence below.
        tell(&rows[..6], &args.form, &COLUMNS)?;
        return counted.sums();
    }
    let parts = [
        ("Images space usage:", "Images", counted.images(), &IMAGES[..]),
        ("Containers space usage:", "Containers", counted.containers(), &CONTAINERS),
        ("Local Volumes space usage:", "Volumes", counted.volumes(), &VOLUMES),
    ];
    if args.form.format.is_some() {
        let members = parts.into_iter().map(|(_, name, rows, _)| (name.to_string(), Value::from(rows)));
        let all: Value = members.collect::<serde_json::Map<_, _>>().into();
        return tell(&[all], &args.form, &[]);
    }
    for (title, _, rows, columns) in parts {
        cli::answer(format!("{title}\n\n").as_bytes())?;
        tell(&rows, &args.form, columns)?;
        cli::answer(b"\n")?;
    }
    counted.sums()
}

impl Counted {
    fn of(store: &Store) -> Result<Self, Failure> {
        let mut seen = Seen::new();
        let sharing = Sharing::of(store, &mut seen)?;
        let trees = sharing.layers.values().sum::<u64>() + bytes(store, "fixes", &mut seen)?;
        let blobs = bytes(store, "blobs", &mut seen)?;
        let mut volumes = Vec::new();
        for volume in store.volumes().during(|| "volumes".into())? {
            let own = bytes(store, &format!("volumes/{}", volume.name()), &mut seen)?;
            let users = volume.users().during(|| format!("volume {}", volume.name()))?.len();
            volumes.push((volume, own, users));
        }
        let mut caches = Vec::new();
        for cache in store.caches().during(|| "caches".into())? {
            let own = bytes(store, &cache.relative(), &mut seen)?;
            let is_in_use = cache.is_in_use().during(|| format!("cache {:?}", cache.id()))?;
            caches.push((cache, own, is_in_use));
        }
        let mut rest = 0;
        for path in REST {
            rest += bytes(store, path, &mut seen)?;
        }
        Ok(Self { sharing, trees, blobs, volumes, caches, rest })
    }

    fn total(&self) -> u64 {
        let own: u64 = self.sharing.containers.iter().map(|one| one.bytes).sum();
        self.trees + self.blobs + own + self.apart()
    }

    /// Directories and blobs of no image are not in the sum of images, yet would be there all the same.
    fn without_sharing(&self) -> u64 {
        self.total().max(self.sharing.without_sharing() + self.apart())
    }

    /// What shares nothing.
    fn apart(&self) -> u64 {
        let volumes: u64 = self.volumes.iter().map(|(_, bytes, _)| bytes).sum();
        let caches: u64 = self.caches.iter().map(|(_, bytes, _)| bytes).sum();
        volumes + caches + self.rest
    }

    /// The table's rows, and the sums for programs.
    fn rows(&self) -> Vec<Value> {
        let row = |kind: &str, count: usize, active: usize, bytes: u64, free: u64| {
            let share =
                (free * 100).checked_div(bytes).map(|share| format!(" ({share}%)")).unwrap_or_default();
            json!({
                "Type": kind, "TotalCount": count.to_string(), "Active": active.to_string(), "Size": size(bytes),
                "Reclaimable": format!("{}{share}", size(free)), "Bytes": bytes, "ReclaimableBytes": free,
            })
        };
        let sharing = &self.sharing;
        let used = |image: &&ImageUse| sharing.containers.iter().any(|one| one.image == Some(image.digest));
        let idle = |one: &&ContainerUse| !matches!(one.status, Status::Running | Status::Paused);
        let unused = sharing.layers.iter().filter(|(layer, _)| sharing.containers_with(layer) == 0);
        let own = |all: &mut dyn Iterator<Item = &ContainerUse>| all.map(|one| one.bytes).sum::<u64>();
        let volumes =
            |all: &mut dyn Iterator<Item = &(Volume, u64, usize)>| all.map(|one| one.1).sum::<u64>();
        let dangling = |one: &&(Volume, u64, usize)| one.2 == 0;
        let caches = |all: &mut dyn Iterator<Item = &(Cache, u64, bool)>| all.map(|one| one.1).sum::<u64>();
        vec![
            row(
                "Images",
                sharing.images.len(),
                sharing.images.iter().filter(used).count(),
                self.trees,
                unused.map(|(_, bytes)| bytes).sum(),
            ),
            row("Blobs", sharing.images.len(), sharing.images.len(), self.blobs, 0),
            row(
                "Containers",
                sharing.containers.len(),
                sharing.containers.iter().filter(|one| !idle(one)).count(),
                own(&mut sharing.containers.iter()),
                own(&mut sharing.containers.iter().filter(idle)),
            ),
            row(
                "Local Volumes",
                self.volumes.len(),
                self.volumes.iter().filter(|one| !dangling(one)).count(),
                volumes(&mut self.volumes.iter()),
                volumes(&mut self.volumes.iter().filter(dangling)),
            ),
            row(
                "Build Cache",
                self.caches.len(),
                self.caches.iter().filter(|one| one.2).count(),
                caches(&mut self.caches.iter()),
                caches(&mut self.caches.iter().filter(|one| !one.2)),
            ),
            row("Other", 0, 0, self.rest, 0),
            row("Total", 0, 0, self.total(), 0),
            row("Without sharing", 0, 0, self.without_sharing(), 0),
        ]
    }

    /// The sentence below the tables.
    fn sums(&self) -> Result<(), Failure> {
        let (total, apart) = (self.total(), self.without_sharing());
        let text = format!("\n{} in all; {} if nothing were shared\n", size(total), size(apart));
        cli::answer(text.as_bytes())
    }

    fn images(&self) -> Vec<Value> {
        let sharing = &self.sharing;
        let of = |image: &ImageUse| {
            let all = sharing.bytes_of(&image.layers);
            let shared: Vec<Digest> =
                image.layers.iter().copied().filter(|layer| sharing.images_with(layer) > 1).collect();
            let shared = sharing.bytes_of(&shared);
            let (repository, tag) = repository_and_tag(image.names.first().map(String::as_str));
            let users = sharing.containers.iter().filter(|one| one.image == Some(image.digest)).count();
            json!({
                "Repository": repository, "Tag": tag, "ID": short(&image.config.hex()), "Size": size(all),
                "SharedSize": size(shared), "UniqueSize": size(all - shared), "Containers": users.to_string(),
                "Bytes": all, "SharedBytes": shared, "UniqueBytes": all - shared, "BlobBytes": image.blobs,
            })
        };
        sharing.images.iter().map(of).collect()
    }

    fn containers(&self) -> Vec<Value> {
        let of = |one: &ContainerUse| {
            json!({
                "ID": short(&one.id), "Image": one.image_name, "Size": size(one.bytes),
                "State": docker::status(one.status), "Names": one.name, "Bytes": one.bytes,
                "SharedBytes": self.sharing.bytes_of(&one.layers),
            })
        };
        self.sharing.containers.iter().map(of).collect()
    }

    fn volumes(&self) -> Vec<Value> {
        let of = |(volume, bytes, users): &(Volume, u64, usize)| json!({"Name": volume.name(), "Links": users.to_string(), "Size": size(*bytes), "Bytes": bytes});
        self.volumes.iter().map(of).collect()
    }
}
