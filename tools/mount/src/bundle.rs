//! What a container's directory is filled with before anybody sees it.
//!
//! Whatever is made for the container lies in `init` and `files`; `upper` gets nothing but the looks of the image's root.

use std::path::{Path, PathBuf};

use cli::{During, Failure};
use descriptor::Exit;
use oci_spec::runtime::Mount;
use overlay::{Kind, Missing, Plan, Point};
use runtime::convert::{self, Creation};
use runtime::{defaults, users};
use store::{ContainerDraft, CreateDoc, Store};
use sys::Root;

use crate::config::{self, cdi, mounts::Planned, volumes::Volumes};
use crate::create::Unpacked;
use crate::etc::{self, EtcFile};

/// The runtime's own mount points.
const KERNEL: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Fills the draft: plan.json, config.json, `init`, `upper`, `files`. What comes back is kept until it is published.
pub(crate) fn fill(
    store: &Store,
    draft: &ContainerDraft,
    doc: &CreateDoc,
    unpacked: &Unpacked,
    cdi_dirs: &[PathBuf],
) -> Result<Volumes, Failure> {
    let what = || format!("container {:?}", doc.name);
    let final_path = draft.final_path();
    let containers = final_path.parent().unwrap_or(&final_path);
    let names = config::names(doc, draft.id(), store)?;
    let config::Allowed { confinement, edits } = config::allowed(doc, containers, cdi_dirs)?;
    let plan = Plan::of(store, unpacked.trees.iter().map(store::LayerTree::path)).during(what)?;
    let volumes = Volumes::of(doc, store, draft.id())?;
    let mut planned = config::mounts::planned(doc, store, &|mount| volumes.path(mount, &final_path))?;
    planned.extend(of_cdi(&edits, &planned)?);
    let files = etc::of(doc);
    let wanted = points(doc, unpacked, &files, &planned);

    // The image as the container will see it, for as long as `init` is empty.
    let path = draft.path();
    let own = path.strip_prefix(store.path()).ok().and_then(Path::to_str);
    let own = own.ok_or_else(|| Failure::new(Exit::Other, what(), "its directory is not in the store"))?;
    let view = plan.view(store, own).during(what)?;
    let missing = Missing::find(&view, &wanted).during(what)?;
    let root = plan.root_metadata(store).during(what)?;
    let user = doc.process.user.as_deref().unwrap_or_else(|| convert::image_user(&unpacked.image.config));
    let mut identity = users::resolve(&view, user).during(|| format!("user {user:?}"))?;
    users::join(&view, &mut identity, &doc.process.groups).during(|| "--group-add".into())?;
    identity.groups.extend(&edits.groups);
    volumes.fill(doc, &view)?;
    drop(view);

    missing.make(&inside(draft, "init")?).during(what)?;
    root.apply(&inside(draft, "upper")?).during(what)?;
    etc::write(&inside(draft, "files")?, doc, &names.shown)?;
    let labels: Vec<_> = doc.labels.clone().into_iter().collect();
    let env: Vec<String> = edits.env.iter().chain(&doc.process.env).cloned().collect();
    let config = convert::spec(&Creation {
        image: &unpacked.image.config,
        env: &env,
        cwd: doc.process.cwd.as_deref(),
        entrypoint: doc.process.entrypoint.as_deref(),
        command: doc.process.args.as_deref(),
        labels: &labels,
        hostname: names.own.as_deref(),
        shown_name: &names.shown,
        domainname: doc.names.domain.as_deref(),
        kernel: config::mounts::of_kernel(doc, containers),
        stop_signal: doc.stop_signal.as_deref(),
        confinement,
        read_only: doc.read_only,
        mounts: mounts(draft, store, doc, &files, planned),
        user: (user, &identity),
    });
    let config = convert::to_bytes(&config).map_err(|e| Failure::new(Exit::Content, what(), e))?;
    draft.write("config.json", &config).during(what)?;
    draft.write("plan.json", &plan.to_bytes()).during(what)?;
    Ok(volumes)
}

fn inside(draft: &ContainerDraft, name: &'static str) -> Result<Root, Failure> {
    let opened = draft.root().open_dir(name);
    opened
        .map_err(|source| overlay::Error::Call { what: "the container's directory", source })
        .during(|| name.into())
}

/// The mounts of CDI, but where the choices have one.
fn of_cdi(edits: &cdi::Edits, chosen: &[Planned]) -> Result<Vec<Planned>, Failure> {
    let mut all = Vec::new();
    for mount in &edits.mounts {
        let target = Path::new(&mount.container_path);
        if chosen.iter().any(|planned| planned.mount.destination() == target) {
            continue;
        }
        if mount.typ.as_deref().is_some_and(|typ| typ != "bind" && typ != "none") {
            let why =
                format!("a mount of type {:?} is not supported", mount.typ.as_deref().unwrap_or_default());
            return Err(Failure::new(Exit::Privilege, format!("CDI mount {}", mount.container_path), why));
        }
        let mut planned = Planned::bind(Path::new(&mount.host_path), target, false)?;
        let mut options = mount.options.clone();
        if !options.iter().any(|word| word == "bind" || word == "rbind") {
            options.push("rbind".into());
        }
        planned.mount.set_options(Some(options));
        all.push(planned);
    }
    Ok(all)
}

/// What has to exist in the container, in the order of mounting; directories that nothing is mounted on come last.
fn points(doc: &CreateDoc, unpacked: &Unpacked, files: &[EtcFile], planned: &[Planned]) -> Vec<Point> {
    let point = |path: &str, kind| Point { path: path.into(), kind };
    let mut all: Vec<Point> = KERNEL.map(|path| point(path, Kind::Kernel)).into();
    all.extend(planned.iter().map(Planned::point));
    let ours = files.iter().filter(|file| !is_taken(planned, file));
    all.extend(ours.map(|file| point(file.target, Kind::File)));
    let plain = |path: PathBuf| Point { path, kind: Kind::Plain };
    all.extend(convert::volumes(&unpacked.image.config).into_iter().map(plain));
    all.push(plain(convert::working_directory(&unpacked.image.config, doc.process.cwd.as_deref())));
    all
}

/// Whether the user mounts something of his own there.
fn is_taken(planned: &[Planned], file: &EtcFile) -> bool {
    planned.iter().any(|one| one.mount.destination() == Path::new(file.target))
}

fn mounts(
    draft: &ContainerDraft,
    store: &Store,
    doc: &CreateDoc,
    files: &[EtcFile],
    planned: Vec<Planned>,
) -> Vec<Mount> {
    // Who shares another's network finds hosts as the other does.
    let dir = match etc::other(doc) {
        Some(other) => store.path().join("containers").join(other).join("files"),
        None => draft.final_path().join("files"),
    };
    let ours = files.iter().filter(|file| file.mounted && !is_taken(&planned, file));
    let mut all: Vec<Mount> = ours
        .map(|file| defaults::bind(&dir.join(file.name), Path::new(file.target), doc.read_only))
        .collect();
    // A mount over /etc comes before the files in it.
    let mut theirs: Vec<Mount> = planned.into_iter().map(|one| one.mount).collect();
    theirs.append(&mut all);
    theirs.sort_by_key(|mount| mount.destination().components().count());
    theirs
}
