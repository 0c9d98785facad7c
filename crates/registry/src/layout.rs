//! OCI image layouts on disk as a source (image-spec v1.1, image-layout.md). A foreign layout is hostile: no link is
//! followed out of it, nothing but a regular file is read, everything is bounded and verified.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use descriptor::{Descriptor, Digest, media};
use rustix::fs::{FileType, Mode, OFlags};
use store::{BlobWriter, Document};
use sys::Root;

use crate::error::{Error, Result};
use crate::origin::Origin;
use crate::place::LayoutPlace;
use crate::reference::Reference;
use crate::repository::{DOCUMENT_LIMIT, Fetched, check_child, verify};

/// The annotation that names an image in index.json (image-spec v1.1, annotations.md).
pub(crate) use descriptor::media::REF_NAME;
/// How many names a message lists.
const NAMES_LISTED: usize = 10;
/// How much is read and written at once.
const PIECE: usize = 256 << 10;

/// A layout that images are read from.
#[derive(Debug)]
pub(crate) struct Layout {
    root: Root,
    place: LayoutPlace,
}

impl Layout {
    pub(crate) fn open(place: &LayoutPlace) -> Result<Self> {
        let root = Root::open_ambient(&place.dir)
            .map_err(|e| Error::Io { path: place.dir.clone(), source: e.errno.into() })?;
        Ok(Self { root, place: place.clone() })
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.place.dir.join(inside)
    }

    fn wrong(&self, inside: &str, reason: impl Into<String>) -> Error {
        Error::Layout { path: self.path(inside), reason: reason.into() }
    }

    /// Opens a regular file; its kind is looked at before it is opened, for opening a device may do things.
    fn file(&self, inside: &str) -> Result<(File, u64)> {
        let failed = |e: sys::Error| Error::Io { path: self.path(inside), source: e.errno.into() };
        let regular = |mode| match FileType::from_raw_mode(mode) {
            FileType::RegularFile => Ok(()),
            other => Err(self.wrong(inside, format!("a {other:?} where a regular file belongs"))),
        };
        regular(self.root.lstat(inside).map_err(failed)?.st_mode)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let fd: OwnedFd = self.root.open(inside, flags, Mode::empty()).map_err(failed)?;
        let stat =
            rustix::fs::fstat(&fd).map_err(|e| Error::Io { path: self.path(inside), source: e.into() })?;
        regular(stat.st_mode)?;
        Ok((fd.into(), u64::try_from(stat.st_size).unwrap_or(0)))
    }

    fn blob(&self, digest: &Digest) -> Result<(File, u64)> {
        self.file(&format!("blobs/sha256/{}", digest.hex()))
    }

    fn small(&self, inside: &str) -> Result<Vec<u8>> {
        let (file, _) = self.file(inside)?;
        let mut bytes = Vec::new();
        let read = file.take(DOCUMENT_LIMIT + 1).read_to_end(&mut bytes);
        read.map_err(|source| Error::Io { path: self.path(inside), source })?;
        if bytes.len() as u64 > DOCUMENT_LIMIT {
            return Err(Error::TooLarge {
                what: self.path(inside).display().to_string(),
                limit: DOCUMENT_LIMIT,
            });
        }
        Ok(bytes)
    }

    /// The descriptor of the image that the place names.
    fn find(&self) -> Result<Descriptor> {
        let bytes = self.small("index.json")?;
        let Document::Index(index) = Document::parse(&bytes, Some(media::OCI_INDEX))? else {
            return Err(self.wrong("index.json", "it is no image index"));
        };
        let images: Vec<&Descriptor> =
            index.manifests.iter().filter(|d| media::is_image(&d.media_type)).collect();
        let named = |name: &str| {
            images.iter().find(|d| d.annotations.get(REF_NAME).is_some_and(|n| n == name)).copied()
        };
        let missing = |reason| Error::NoImage { path: self.place.dir.clone(), reason };
        let Some(name) = &self.place.name else {
            return match &images[..] {
                [only] => Ok((*only).clone()),
                [] => Err(missing("the layout has no image".to_owned())),
                _ => Err(missing(format!(
                    "the layout has {} images, name one: {}",
                    images.len(),
                    names(&images)
                ))),
            };
        };
        // As it stands first; then as a reference, which is how our own store writes it.
        let normal = || name.parse::<Reference>().ok().and_then(|reference| named(&reference.to_string()));
        let found = named(name).or_else(normal);
        found.cloned().ok_or_else(|| missing(format!("no image {name:?}; there is {}", names(&images))))
    }
}

fn names(images: &[&Descriptor]) -> String {
    let named: Vec<String> =
        images.iter().filter_map(|d| d.annotations.get(REF_NAME)).map(|n| format!("{n:?}")).collect();
    match named.len() {
        0 => "none with a name".to_owned(),
        n if n > NAMES_LISTED => {
            format!("{} and {} more", named[..NAMES_LISTED].join(", "), n - NAMES_LISTED)
        }
        _ => named.join(", "),
    }
}

impl Origin for Layout {
    fn top(&self) -> Result<Fetched> {
        self.child(&self.find()?)
    }

    fn child(&self, entry: &Descriptor) -> Result<Fetched> {
        let bytes = self.document(entry)?;
        let fetched = Fetched { digest: entry.digest, media_type: entry.media_type.clone(), bytes };
        check_child(&fetched, entry)?;
        Ok(fetched)
    }

    fn document(&self, blob: &Descriptor) -> Result<Vec<u8>> {
        let what = blob.digest.to_string();
        if blob.size > DOCUMENT_LIMIT {
            return Err(Error::TooLarge { what, limit: DOCUMENT_LIMIT });
        }
        let bytes = self.small(&format!("blobs/sha256/{}", blob.digest.hex()))?;
        verify(&what, blob, &bytes)?;
        Ok(bytes)
    }

    fn fetch(&self, blob: &Descriptor, writer: &mut BlobWriter, progress: &dyn Fn(u64)) -> Result<()> {
        let (mut file, size) = self.blob(&blob.digest)?;
        if size != blob.size {
            return Err(Error::Size { what: blob.digest.to_string(), wanted: blob.size, got: size });
        }
        let resumed = writer.was_resumed();
        self.copy(&mut file, blob, writer, progress)?;
        match writer.finish() {
            // What an earlier process left was wrong: the writer has thrown it away, and all is copied.
            Err(store::Error::WrongDigest { .. }) if resumed => {
                self.copy(&mut file, blob, writer, progress)?;
                Ok(writer.finish()?)
            }
            outcome => Ok(outcome?),
        }
    }
}

impl Layout {
    fn copy(
        &self,
        file: &mut File,
        blob: &Descriptor,
        writer: &mut BlobWriter,
        progress: &dyn Fn(u64),
    ) -> Result<()> {
        let io =
            |source| Error::Io { path: self.path(&format!("blobs/sha256/{}", blob.digest.hex())), source };
        file.seek(SeekFrom::Start(writer.offset())).map_err(io)?;
        let mut piece = vec![0; PIECE];
        while writer.offset() < blob.size {
            let most = piece.len().min(usize::try_from(blob.size - writer.offset()).unwrap_or(usize::MAX));
            match file.read(&mut piece[..most]).map_err(io)? {
                0 => {
                    return Err(Error::Size {
                        what: blob.digest.to_string(),
                        wanted: blob.size,
                        got: writer.offset(),
                    });
                }
                n => {
                    writer.append(&piece[..n])?;
                    progress(n as u64);
                }
            }
        }
        Ok(())
    }
}
