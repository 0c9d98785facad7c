//! Unpacked layers against the blobs that they were made of.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use cli::{During, Failure};
use descriptor::{Descriptor, Digest};
use layer::{Encoding, Limits};
use store::{DOCUMENT_LIMIT, Document, Form, Image, Remedy, Report, Store};

/// Whoever unpacked it may have raised any of them.
const NO_LIMITS: Limits = Limits {
    bytes: u64::MAX,
    entries: u64::MAX,
    ratio: u64::MAX,
    ratio_from: u64::MAX,
    depth: layer::limits::DEPTH,
};
/// How many differences of one tree are told.
const TOLD: usize = 3;

/// What is to be told of a tree.
enum Verdict {
    Whole,
    /// Nothing to compare with, and why.
    Unknown(String),
    Differs(String),
}

/// Compares all trees whose blob is there and whole; returns how many.
pub(crate) fn compare(store: &Store, report: &mut Report) -> Result<u64, Failure> {
    let diff_ids = store.layers(Form::Identity).during(|| "layers".into())?;
    let known: HashSet<&str> = report.findings.iter().map(|finding| &*finding.what).collect();
    let path = |diff_id: &Digest| format!("layers/identity/sha256/{}", diff_id.hex());
    let diff_ids: Vec<Digest> =
        diff_ids.into_iter().filter(|diff_id| !known.contains(&*path(diff_id))).collect();
    let bad = |blob: &Descriptor| known.contains(&*format!("blobs/sha256/{}", blob.digest.hex()));
    let blobs = if diff_ids.is_empty() { BTreeMap::new() } else { blobs(store)? };
    let judged = Mutex::new(BTreeMap::new());
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(diff_id) = diff_ids.get(next.fetch_add(1, Ordering::Relaxed)) {
            let verdict = match blobs.get(diff_id) {
                None => Verdict::Unknown("its blob is not in the store".into()),
                Some(blob) if bad(blob) => Verdict::Unknown("its blob is damaged".into()),
                Some(blob) => one(store, diff_id, blob),
            };
            judged.lock().unwrap_or_else(PoisonError::into_inner).insert(*diff_id, verdict);
        }
    };
    // A layer has two threads: one inflates, one compares.
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(diff_ids.len());
    std::thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(work))));
    let mut compared = 0;
    for (diff_id, verdict) in judged.into_inner().unwrap_or_else(PoisonError::into_inner) {
        match verdict {
            Verdict::Whole => compared += 1,
            Verdict::Unknown(why) => report.note(path(&diff_id), format!("not compared: {why}")),
            Verdict::Differs(why) => {
                compared += 1;
                report.find(path(&diff_id), why, Remedy::Tree);
            }
        }
    }
    Ok(compared)
}

/// The blob of each layer, by the manifests and configurations that are there.
fn blobs(store: &Store) -> Result<BTreeMap<Digest, Descriptor>, Failure> {
    let mut blobs = BTreeMap::new();
    for digest in store.blobs().during(|| "blobs".into())? {
        let Ok((Document::Manifest(manifest), size)) = store.document(&digest, None) else { continue };
        let Ok(config) = store.read_document(&manifest.config.digest, DOCUMENT_LIMIT) else { continue };
        let Ok(image) = Image::of(digest, size, manifest, &config) else { continue };
        for (diff_id, blob) in image.diff_ids.iter().zip(&image.manifest.layers) {
            if store.has_blob(&blob.digest).is_ok_and(|size| size == Some(blob.size)) {
                blobs.insert(*diff_id, blob.clone());
            }
        }
    }
    Ok(blobs)
}

fn one(store: &Store, diff_id: &Digest, blob: &Descriptor) -> Verdict {
    let Some(encoding) = Encoding::of_media_type(&blob.media_type) else {
        return Verdict::Unknown(format!("{:?} is no media type of a layer", blob.media_type));
    };
    let opened = store.layer(Form::Identity, diff_id).and_then(|tree| match tree {
        Some(tree) => Ok(Some((tree.root()?, tree.meta().clone(), store.open_blob(&blob.digest)?))),
        None => Ok(None),
    });
    let (root, meta, blob) = match opened {
        Ok(Some(opened)) => opened,
        Ok(None) => return Verdict::Unknown("it was removed meanwhile".into()),
        Err(e) => return Verdict::Unknown(e.to_string()),
    };
    let verified = match layer::verify(blob.file, encoding, &root, &NO_LIMITS) {
        Ok(verified) if verified.diff_id == *diff_id => verified,
        Ok(_) => return Verdict::Unknown("its blob is another layer's".into()),
        Err(e) => return Verdict::Unknown(e.to_string()),
    };
    // Pruned while it was compared.
    if store.layer(Form::Identity, diff_id).is_ok_and(|tree| tree.is_none()) {
        return Verdict::Unknown("it was removed meanwhile".into());
    }
    if (verified.entries, verified.bytes) != (meta.entries, meta.bytes) {
        return Verdict::Differs("layer.json counts otherwise than its archive has".into());
    }
    let more = verified.differences.len().saturating_sub(TOLD);
    let mut told: Vec<String> = verified.differences.into_iter().take(TOLD).collect();
    if more > 0 {
        told.push(format!("and {more} more"));
    }
    if told.is_empty() { Verdict::Whole } else { Verdict::Differs(told.join("; ")) }
}
