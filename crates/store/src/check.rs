//! Whether all that stands in the store is whole.

use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use descriptor::{Digest, Hasher};
use sys::Call;

use crate::files::{About, found};
use crate::{Container, Document, Error, Form, Remedy, Result, Store, files, names, staging};

/// How many bytes are read at once.
const BUFFER: usize = 256 << 10;
/// Long enough for a process to lock what it just made.
const SECOND_LOOK: Duration = Duration::from_millis(50);

/// What a check found.
#[derive(Debug, Default)]
pub struct Report {
    /// What is wrong, in the order of the checks.
    pub findings: Vec<Finding>,
    /// What is unfinished but sound: blobs that the next fetch resumes, and what living processes work on.
    pub notes: Vec<Finding>,
    /// How many blobs were read.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// One thing and what there is to say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// A path relative to the store, or a reference.
    pub what: String,
    /// What is wrong with it.
    pub why: String,
    /// What a repair does about it.
    pub remedy: Remedy,
}

impl Store {
    /// Reads all blobs again and looks for what is damaged or half-made. Nothing is changed.
    ///
    /// # Errors
    /// A failed call on the store itself; what is wrong inside it is in the report.
    pub fn check(&self) -> Result<Report> {
        let mut report = Report::default();
        self.check_blobs(&mut report)?;
        self.check_references(&mut report)?;
        self.check_ingest(&mut report)?;
        self.check_staging(&mut report)?;
        for path in self.tree_paths()? {
            if let Err(e) = self.check_tree(&path) {
                report.find(&path, e, Remedy::Tree);
            }
        }
        self.check_containers(&mut report)?;
        self.check_volumes(&mut report)?;
        for name in files::names_in(self.dir(), "damaged")? {
            report.note(
                format!("damaged/{name}"),
                "moved aside by a repair; remove it when nothing in it is of use",
            );
        }
        Ok(report)
    }

    fn check_blobs(&self, report: &mut Report) -> Result<()> {
        let names = files::names_in(self.dir(), "blobs/sha256")?;
        let next = AtomicUsize::new(0);
        let judged = Mutex::new(Vec::new());
        let work = || {
            while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                let read = Digest::from_hex(name).map(|digest| self.check_blob(&digest));
                judged.lock().unwrap_or_else(PoisonError::into_inner).push((name, read));
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
                scope.spawn(work);
            }
        });
        let mut judged = judged.into_inner().unwrap_or_else(PoisonError::into_inner);
        judged.sort_by_key(|(name, _)| *name);
        for (name, read) in judged {
            let path = format!("blobs/sha256/{name}");
            match read {
                Ok(Ok(size)) => {
                    report.blobs += 1;
                    report.bytes += size;
                }
                // Pruned since the list was read.
                Ok(Err(Error::NoBlob(_))) => {}
                Ok(Err(e)) => report.find(path, e, Remedy::Blob),
                Err(e) => report.wrong(path, e),
            }
        }
        Ok(())
    }

    pub(crate) fn check_blob(&self, digest: &Digest) -> Result<u64> {
        let mut blob = self.open_blob(digest)?;
        let (mut hasher, mut size) = (Hasher::new(), 0);
        let mut buffer = vec![0; BUFFER];
        loop {
            match blob.file.read(&mut buffer).call("read", String::new).about(digest.to_string())? {
                0 => break,
                count => {
                    hasher.update(&buffer[..count]);
                    size += count as u64;
                }
            }
        }
        match hasher.finish() {
            got if got == *digest => Ok(size),
            got => Err(Error::WrongDigest { wanted: *digest, got }),
        }
    }

    fn check_references(&self, report: &mut Report) -> Result<()> {
        for (path, why) in self.bad_refs()? {
            report.find(path, why, Remedy::Ref);
        }
        if let Err(e) = self.check_layout() {
            report.wrong("oci-layout", e);
        }
        let roots = match self.check_index().and_then(|()| self.roots()) {
            Ok(roots) => roots,
            Err(e @ Error::Call { .. }) => return Err(e),
            // Of a bad copy of a tag the path was told.
            Err(Error::Document { what, .. }) if what.starts_with("refs/") => return Ok(()),
            Err(e) => {
                report.find("index.json", e, Remedy::Index);
                return Ok(());
            }
        };
        for name in self.differing_tags()? {
            report.find(name, "index.json and refs/ describe its image differently", Remedy::Tag);
        }
        for lost in self.lost_tags()? {
            report.note(lost, "lost from index.json by another program; the next tag brings it back");
        }
        for (_, root) in roots {
            let what = format!("image {}", root.digest);
            if let Some((document, _)) =
                report.judge(&what, self.document(&root.digest, Some(&root.media_type)))
            {
                self.check_document(report, &what, &document)?;
            }
        }
        Ok(())
    }

    fn check_document(&self, report: &mut Report, what: &str, document: &Document) -> Result<()> {
        let manifest = match document {
            Document::Manifest(manifest) => manifest,
            Document::Index(index) => {
                // One platform's image is enough; the others need not have been fetched.
                for entry in &index.manifests {
                    if self.has_blob(&entry.digest).is_ok_and(|size| size.is_some()) {
                        let what = format!("image {}", entry.digest);
                        let read = self.document(&entry.digest, Some(&entry.media_type));
                        if let Some((Document::Manifest(manifest), _)) = report.judge(&what, read) {
                            self.check_document(report, &what, &Document::Manifest(manifest))?;
                        }
                    }
                }
                return Ok(());
            }
        };
        for part in std::iter::once(&manifest.config).chain(&manifest.layers) {
            match self.has_blob(&part.digest) {
                Ok(Some(size)) if size == part.size => {}
                Ok(Some(got)) => {
                    report.wrong(what, Error::WrongSize { digest: part.digest, wanted: part.size, got });
                }
                Ok(None) => report.wrong(what, Error::NoBlob(part.digest)),
                Err(e) => report.wrong(what, e),
            }
        }
        Ok(())
    }

    fn check_ingest(&self, report: &mut Report) -> Result<()> {
        for name in files::names_in(self.dir(), "ingest")? {
            let path = format!("ingest/{name}");
            if Digest::from_hex(&name).is_err() {
                report.wrong(path, "its name is no sha256");
                continue;
            }
            match files::open_regular(self.dir(), &path) {
                Ok(Some((file, _))) if sys::lock::is_held(&file).about(&path)? => {
                    report.note(path, "is being fetched")
                }
                Ok(Some((_, stat))) => {
                    report.note(path, format!("{} bytes that the next fetch resumes", stat.st_size));
                }
                Ok(None) => {}
                Err(e) => report.wrong(path, e),
            }
        }
        Ok(())
    }

    /// Opening the store removed what dead processes left; what is here and not locked resisted.
    fn check_staging(&self, report: &mut Report) -> Result<()> {
        for key in staging::keys(self)? {
            let path = format!("staging/{key}");
            match self.stays_dead(&key)? {
                true => report.wrong(path, "left half-made by a process that died, and not removable"),
                false => report.note(path, "is being made"),
            }
        }
        Ok(())
    }

    /// Looks twice: between its creation and its lock a living process's file looks like a dead one's.
    fn stays_dead(&self, key: &str) -> Result<bool> {
        if !staging::is_dead(self, key)? {
            return Ok(false);
        }
        std::thread::sleep(SECOND_LOOK);
        staging::is_dead(self, key)
    }

    fn check_containers(&self, report: &mut Report) -> Result<()> {
        // Nothing is created or removed meanwhile.
        let _names = self.lock_names()?;
        let named = self.names()?;
        for name in files::names_in(self.dir(), "names")? {
            if name.starts_with('.') {
                continue;
            }
            let path = format!("names/{name}");
            match named.iter().find(|(known, _)| *known == name) {
                None => report.find(path, "is no link to a container", Remedy::Name),
                Some((_, id)) if !self.has_container(id)? => {
                    report.find(path, format!("its container {id} is gone"), Remedy::Name)
                }
                Some(_) => {}
            }
        }
        for id in files::names_in(self.dir(), "containers")? {
            let path = format!("containers/{id}");
            if !names::is_id(&id) {
                report.wrong(path, "its name is no id");
            } else if !named.iter().any(|(_, of)| *of == id) {
                report.find(path, "a container without a name", Remedy::Container);
            } else {
                match self.container(&id).and_then(|container| container.line().map(|_| container)) {
                    Ok(container) => self.check_stack(report, &path, &container)?,
                    Err(e) => report.find(path, e, Remedy::Container),
                }
            }
        }
        Ok(())
    }

    fn check_volumes(&self, report: &mut Report) -> Result<()> {
        for name in files::names_in(self.dir(), "volumes")? {
            let path = format!("volumes/{name}");
            match self.volume(&name).and_then(|volume| volume.root()) {
                Ok(_) | Err(Error::NoVolume(_)) if !self.is_half_a_volume(&path)? => {}
                Ok(_) | Err(Error::NoVolume(_)) => report.wrong(path, "has no volume.json or no lock"),
                Err(e) => report.wrong(path, e),
            }
        }
        Ok(())
    }

    /// A directory among the volumes that lacks what makes it one; a removal takes all of it at once.
    fn is_half_a_volume(&self, path: &str) -> Result<bool> {
        let is_there = |path: &str| found(files::lstat(self.dir(), path)).about(path);
        let whole = is_there(&format!("{path}/volume.json"))?.is_some()
            && is_there(&format!("{path}/lock"))?.is_some();
        Ok(!whole && is_there(path)?.is_some())
    }

    fn check_stack(&self, report: &mut Report, path: &str, container: &Container) -> Result<()> {
        let Ok(doc) = container.create() else { return Ok(()) };
        for name in ["config.json", "plan.json"] {
            report.judge(path, container.document(name));
        }
        for diff_id in &doc.diff_ids {
            if self.layer(Form::Identity, diff_id).is_ok_and(|tree| tree.is_none()) {
                report.wrong(path, format!("its layer {diff_id} is gone; unpack its image again"));
            }
        }
        Ok(())
    }
}

impl Report {
    /// Adds something that a repair knows what to do about.
    pub fn find(&mut self, what: impl Into<String>, why: impl ToString, remedy: Remedy) {
        self.findings.push(Finding { what: what.into(), why: why.to_string(), remedy });
    }

    fn wrong(&mut self, what: impl Into<String>, why: impl ToString) {
        self.find(what, why, Remedy::Nothing);
    }

    /// Adds something unfinished but sound.
    pub fn note(&mut self, what: impl Into<String>, why: impl ToString) {
        self.notes.push(Finding { what: what.into(), why: why.to_string(), remedy: Remedy::Nothing });
    }

    fn judge<T>(&mut self, what: &str, result: Result<T>) -> Option<T> {
        result.map_err(|e| self.wrong(what, e)).ok()
    }
}
