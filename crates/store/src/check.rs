//! Whether all that stands in the store is whole.

use descriptor::{Digest, Hasher};
use sys::Call;

use crate::files::About;
use crate::{Document, Error, Result, Store, files, names, staging};

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
            report.judge(&path, self.check_tree(&path));
        }
        self.check_containers(&mut report)?;
        Ok(report)
    }

    fn check_blobs(&self, report: &mut Report) -> Result<()> {
        for name in files::names_in(self.dir(), "blobs/sha256")? {
            let path = format!("blobs/sha256/{name}");
            let Ok(digest) = Digest::from_hex(&name) else {
                report.wrong(path, "its name is no sha256");
                continue;
            };
            if let Some(size) = report.judge(&path, self.check_blob(&digest)) {
                report.blobs += 1;
                report.bytes += size;
            }
        }
        Ok(())
    }

    fn check_blob(&self, digest: &Digest) -> Result<u64> {
        let mut blob = self.open_blob(digest)?;
        let mut hasher = Hasher::new();
        let copied = std::io::copy(&mut blob.file, &mut hasher);
        let size = copied.call("read", String::new).about(digest.to_string())?;
        match hasher.finish() {
            got if got == *digest => Ok(size),
            got => Err(Error::WrongDigest { wanted: *digest, got }),
        }
    }

    fn check_references(&self, report: &mut Report) -> Result<()> {
        let roots = match self.roots() {
            Ok(roots) => roots,
            Err(e @ Error::Call { .. }) => return Err(e),
            Err(e) => {
                report.wrong("index.json", e);
                return Ok(());
            }
        };
        for lost in self.lost_tags()? {
            report.note(lost, "lost from index.json by another program; the next tag brings it back");
        }
        for root in roots {
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
            match staging::is_dead(self, &key)? {
                true => report.wrong(path, "left half-made by a process that died, and not removable"),
                false => report.note(path, "is being made"),
            }
        }
        Ok(())
    }

    fn check_containers(&self, report: &mut Report) -> Result<()> {
        let named = self.names()?;
        for name in files::names_in(self.dir(), "names")? {
            if name.starts_with('.') {
                continue;
            }
            let path = format!("names/{name}");
            match named.iter().find(|(known, _)| *known == name) {
                None => report.wrong(path, "is no link to a container"),
                Some((_, id)) if !self.has_container(id)? => {
                    report.wrong(path, format!("its container {id} is gone"))
                }
                Some(_) => {}
            }
        }
        for id in files::names_in(self.dir(), "containers")? {
            let path = format!("containers/{id}");
            if !names::is_id(&id) {
                report.wrong(path, "its name is no id");
            } else if !named.iter().any(|(_, of)| *of == id) {
                report.wrong(path, "a container without a name");
            } else if let Some(container) = report.judge(&path, self.container(&id)) {
                report.judge(&path, container.line());
            }
        }
        Ok(())
    }
}

impl Report {
    fn wrong(&mut self, what: impl Into<String>, why: impl ToString) {
        self.findings.push(Finding { what: what.into(), why: why.to_string() });
    }

    fn note(&mut self, what: impl Into<String>, why: impl ToString) {
        self.notes.push(Finding { what: what.into(), why: why.to_string() });
    }

    fn judge<T>(&mut self, what: &str, result: Result<T>) -> Option<T> {
        result.map_err(|e| self.wrong(what, e)).ok()
    }
}
