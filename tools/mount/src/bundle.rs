//! What a container's directory is filled with before anybody sees it.
//!
//! Whatever is made for the container lies in `init` and `files`; `upper` gets nothing but the looks of the image's root.

use std::path::{Path, PathBuf};

use cli::{During, Failure};
use descriptor::Exit;
use overlay::{Kind, Missing, Plan, Point};
use runtime::convert::{self, Creation, Network};
use runtime::{defaults, users};
use rustix::fs::FileType;
use store::{ContainerDraft, CreateDoc, Store};
use sys::Root;

use crate::create::Unpacked;
use crate::etc::{self, EtcFile};

/// The runtime's own mount points.
const KERNEL: [&str; 3] = ["/proc", "/sys", "/dev"];
/// The digits of a short id, docker's default host name.
const SHORT_ID: usize = 12;

/// Fills the draft: plan.json, config.json, `init`, `upper`, `files`.
pub(crate) fn fill(
    store: &Store,
    draft: &ContainerDraft,
    doc: &CreateDoc,
    unpacked: &Unpacked,
) -> Result<(), Failure> {
    let what = || format!("container {:?}", doc.name);
    let network: Network = doc.network.parse().map_err(|e: String| Failure::usage("--net", e))?;
    let hostname = match (&doc.hostname, network) {
        (Some(chosen), _) => chosen.clone(),
        (None, Network::Host) => etc::host_name()?,
        (None, _) => draft.id()[..SHORT_ID].to_string(),
    };
    let plan = Plan::of(store, unpacked.trees.iter().map(store::LayerTree::path)).during(what)?;
    let binds = Binds::open(doc)?;
    let files = etc::of(network);
    let wanted = points(doc, unpacked, &files, &binds);

    // The image as the container will see it, for as long as `init` is empty.
    let path = draft.path();
    let own = path.strip_prefix(store.path()).ok().and_then(Path::to_str);
    let own = own.ok_or_else(|| Failure::new(Exit::Other, what(), "its directory is not in the store"))?;
    let view = plan.view(store, own).during(what)?;
    let missing = Missing::find(&view, &wanted).during(what)?;
    let root = plan.root_metadata(store).during(what)?;
    let user = doc.process.user.as_deref().unwrap_or_else(|| convert::image_user(&unpacked.image.config));
    let identity = users::resolve(&view, user).during(|| format!("user {user:?}"))?;
    drop(view);

    missing.make(&inside(draft, "init")?).during(what)?;
    root.apply(&inside(draft, "upper")?).during(what)?;
    etc::write(&inside(draft, "files")?, network, &hostname)?;
    let labels: Vec<_> = doc.labels.clone().into_iter().collect();
    let config = convert::spec(&Creation {
        image: &unpacked.image.config,
        env: &doc.process.env,
        cwd: doc.process.cwd.as_deref(),
        entrypoint: doc.process.entrypoint.as_deref(),
        command: doc.process.args.as_deref(),
        labels: &labels,
        network,
        hostname: &hostname,
        read_only: doc.read_only,
        mounts: mounts(draft, doc, &files),
        user: (user, &identity),
    });
    let config = convert::to_bytes(&config).map_err(|e| Failure::new(Exit::Content, what(), e))?;
    draft.write("config.json", &config).during(what)?;
    draft.write("plan.json", &plan.to_bytes()).during(what)
}

fn inside(draft: &ContainerDraft, name: &'static str) -> Result<Root, Failure> {
    let opened = draft.root().open_dir(name);
    opened
        .map_err(|source| overlay::Error::Call { what: "the container's directory", source })
        .during(|| name.into())
}

/// The kinds of what `-v` names, in the order of the mounts.
struct Binds {
    kinds: Vec<Kind>,
}

impl Binds {
    fn open(doc: &CreateDoc) -> Result<Self, Failure> {
        let kind = |mount: &store::containers::Mount| {
            let source = mount.source.as_deref().unwrap_or_default();
            match rustix::fs::stat(source) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_dir() => Ok(Kind::Directory),
                Ok(_) => Ok(Kind::File),
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Err(Failure::new(
                    Exit::NotFound,
                    format!("-v {source}"),
                    "no such file or directory on this host",
                )),
                Err(e) => Err(Failure::new(Exit::Other, format!("-v {source}"), e)),
            }
        };
        Ok(Self { kinds: doc.mounts.iter().map(kind).collect::<Result<_, _>>()? })
    }
}

/// What has to exist in the container, in the order of mounting; directories that nothing is mounted on come last.
fn points(doc: &CreateDoc, unpacked: &Unpacked, files: &[EtcFile], binds: &Binds) -> Vec<Point> {
    let point = |path: &str, kind| Point { path: path.into(), kind };
    let mut all: Vec<Point> = KERNEL.map(|path| point(path, Kind::Kernel)).into();
    let mut mounts: Vec<Point> =
        doc.mounts.iter().zip(&binds.kinds).map(|(mount, kind)| point(&mount.target, *kind)).collect();
    // An outer mount covers what is inside it, whichever was named first.
    mounts.sort_by_key(|mount| mount.path.components().count());
    all.extend(mounts);
    all.extend(files.iter().filter(|file| !is_taken(doc, file)).map(|file| point(file.target, Kind::File)));
    let plain = |path: PathBuf| Point { path, kind: Kind::Plain };
    all.extend(convert::volumes(&unpacked.image.config).into_iter().map(plain));
    all.push(plain(convert::working_directory(&unpacked.image.config, doc.process.cwd.as_deref())));
    all
}

/// Whether the user mounts something of his own there.
fn is_taken(doc: &CreateDoc, file: &EtcFile) -> bool {
    doc.mounts.iter().any(|mount| Path::new(&mount.target) == Path::new(file.target))
}

fn mounts(draft: &ContainerDraft, doc: &CreateDoc, files: &[EtcFile]) -> Vec<oci_spec::runtime::Mount> {
    let dir = draft.final_path().join("files");
    let ours = files.iter().filter(|file| file.mounted && !is_taken(doc, file));
    let ours = ours.map(|file| defaults::bind(&dir.join(file.name), Path::new(file.target), doc.read_only));
    let mut theirs: Vec<_> = doc.mounts.iter().collect();
    theirs.sort_by_key(|mount| Path::new(&mount.target).components().count());
    let theirs = theirs.into_iter().map(|mount| {
        let source = mount.source.as_deref().unwrap_or_default();
        defaults::bind(Path::new(source), Path::new(&mount.target), mount.read_only)
    });
    // A mount over /etc comes before the files in it.
    let mut all: Vec<_> = theirs.chain(ours).collect();
    all.sort_by_key(|mount| mount.destination().components().count());
    all
}
