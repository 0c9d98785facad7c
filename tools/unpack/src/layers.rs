//! Each layer to its tree in the store, several at a time, published together.

use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use cli::{During, Failure, Progress, Stage};
use descriptor::{Digest, Exit};
use layer::{LayerView, Options, Unpacked};
use store::{Claim, Form, Image, LayerDraft, LayerMeta, LayerTree, Store};
use sys::{Call, Root};

use crate::job::{Job, Outcome};

/// Every layer has a thread that inflates and one that writes: fewer than two layers at a time leave a core idle where
/// one of the two has nothing to do.
const FEWEST_WORKERS: usize = 2;

/// The layers of one image, as far as they are there and as far as they are ours to make.
struct Stack {
    present: BTreeMap<Digest, LayerTree>,
    drafts: BTreeMap<Digest, LayerDraft>,
}

/// Makes the trees that the store lacks, and the fixes of the stack.
pub(crate) fn unpack(store: &Store, stage: &Stage, image: &Image, options: &Options) -> Result<(), Failure> {
    let jobs = Job::of(image)?;
    let stack = claim(store, &jobs)?;
    let mut seen = HashSet::new();
    let missing: Vec<&Job> = jobs
        .iter()
        .filter(|job| stack.drafts.contains_key(&job.diff_id) && seen.insert(job.diff_id))
        .collect();
    let unpacked = unpack_all(store, &stack, &missing, &stage.progress(), options)?;
    let fixes = fixes(store, image, &stack, &unpacked)?;
    let mut drafts: Vec<(LayerDraft, LayerMeta)> = Vec::new();
    for (diff_id, draft) in stack.drafts {
        let Some(done) = unpacked.get(&diff_id) else {
            return Err(Failure::new(Exit::Other, format!("layer {diff_id}"), "was not unpacked"));
        };
        let Unpacked { entries, bytes, implied, masking, .. } = done.clone();
        drafts.push((draft, LayerMeta { diff_id, entries, bytes, implied, masking }));
    }
    drafts.extend(fixes);
    store.publish_layers(drafts).during(|| "publishing the layers".into())?;
    Ok(())
}

/// Claims all layers in the order of their digests: processes that want the same ones in other orders never wait for
/// each other in a circle.
fn claim(store: &Store, jobs: &[Job]) -> Result<Stack, Failure> {
    let wanted: BTreeMap<Digest, &Job> = jobs.iter().map(|job| (job.diff_id, job)).collect();
    let mut stack = Stack { present: BTreeMap::new(), drafts: BTreeMap::new() };
    for (diff_id, job) in wanted {
        match store.claim_layer(Form::Identity, &diff_id).during(|| job.name())? {
            Claim::Present(tree) => {
                stack.present.insert(diff_id, tree);
            }
            Claim::Mine(draft) => {
                stack.drafts.insert(diff_id, draft);
            }
        }
    }
    Ok(stack)
}

/// Unpacks several layers at a time; the first failure stops the others.
fn unpack_all(
    store: &Store,
    stack: &Stack,
    jobs: &[&Job],
    progress: &Progress,
    options: &Options,
) -> Result<BTreeMap<Digest, Unpacked>, Failure> {
    let cores = thread::available_parallelism().map_or(FEWEST_WORKERS, usize::from);
    let workers = cores.max(FEWEST_WORKERS).min(jobs.len());
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (done, failed) = (Mutex::new(BTreeMap::new()), Mutex::new(None));
    let work = || {
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let draft = &stack.drafts[&job.diff_id];
            let unpacked = unpack_one(store, job, draft.root(), progress, &stop, options);
            match unpacked {
                Ok(unpacked) => {
                    done.lock().unwrap_or_else(|e| e.into_inner()).insert(job.diff_id, unpacked);
                }
                Err(failure) => {
                    let mut failed = failed.lock().unwrap_or_else(|e| e.into_inner());
                    // The others fail because they were stopped: only the first one says why.
                    if !stop.swap(true, Ordering::Relaxed) {
                        *failed = Some(failure);
                    }
                    return;
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(work);
        }
    });
    match failed.into_inner().unwrap_or_else(|e| e.into_inner()) {
        Some(failure) => Err(failure),
        None => Ok(done.into_inner().unwrap_or_else(|e| e.into_inner())),
    }
}

fn unpack_one(
    store: &Store,
    job: &Job,
    tree: &Root,
    progress: &Progress,
    stop: &AtomicBool,
    options: &Options,
) -> Result<Unpacked, Failure> {
    let task = progress.task(&job.blob.digest.hex()[..12], job.blob.size);
    loop {
        let apply = |input: &mut dyn std::io::Read| layer::unpack(input, job.encoding, tree, options);
        match job.read(store, Some(&task), stop, apply)? {
            Outcome::Done(unpacked) => {
                task.finish("unpacked");
                return Ok(unpacked);
            }
            Outcome::Again => empty(tree).during(|| job.name())?,
        }
    }
}

/// Removes all that is in a directory.
pub(crate) fn empty(root: &Root) -> store::Result<()> {
    let about = |source| store::Error::Call { path: "a tree to begin again".into(), source };
    let entries = rustix::fs::Dir::read_from(root).call("getdents64", String::new).map_err(about)?;
    for entry in entries {
        let entry = entry.call("getdents64", String::new).map_err(about)?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            use std::os::unix::ffi::OsStrExt;
            store::remove_tree(root, std::ffi::OsStr::from_bytes(name.to_bytes()))?;
        }
    }
    Ok(())
}

/// The fixes of the image's stack, where the store lacks them.
fn fixes(
    store: &Store,
    image: &Image,
    stack: &Stack,
    unpacked: &BTreeMap<Digest, Unpacked>,
) -> Result<Option<(LayerDraft, LayerMeta)>, Failure> {
    let what = || "fixes of the layers".to_string();
    let Some(chain_id) = image.chain_id() else { return Ok(None) };
    let Claim::Mine(draft) = store.claim_fixes(&chain_id).during(what)? else { return Ok(None) };
    let mut views = Vec::with_capacity(image.diff_ids.len());
    for diff_id in image.diff_ids.iter().rev() {
        let view = match (stack.present.get(diff_id), stack.drafts.get(diff_id), unpacked.get(diff_id)) {
            (Some(tree), ..) => {
                let LayerMeta { implied, masking, .. } = tree.meta();
                LayerView { root: tree.root().during(what)?, implied, masking }
            }
            (_, Some(draft), Some(done)) => {
                let root = draft.root().try_clone().map_err(layer::Error::from).during(what)?;
                LayerView { root, implied: &done.implied, masking: &done.masking }
            }
            _ => return Err(Failure::new(Exit::Other, what(), format!("layer {diff_id} is missing"))),
        };
        views.push(view);
    }
    layer::fixes(&views, draft.root()).during(what)?;
    Ok(Some((draft, none_of(chain_id))))
}

/// The description of fixes: they are of a chain and hold nothing of their own.
fn none_of(chain_id: Digest) -> LayerMeta {
    LayerMeta { diff_id: chain_id, entries: 0, bytes: 0, implied: Vec::new(), masking: Vec::new() }
}
