//! Blobs to a registry: only what it lacks, streamed, verified while they go.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use descriptor::{Descriptor, Digest, Hasher};
use reqwest::blocking::Body;
use reqwest::header::{CONTENT_TYPE, LOCATION};
use reqwest::{Method, Url};

use crate::address;
use crate::error::{Error, Result};
use crate::failure::Carried;
use crate::repository::{Repository, confirm};
use crate::transport::{Answer, Call};

/// The slowest upload that is waited for, in bytes a second.
const SLOWEST: u64 = 8 << 10;
/// How long the upload of a blob that is itself still on its way may take.
const IN_FLIGHT_TIME: Duration = Duration::from_secs(24 * 3600);

/// A blob to upload.
pub struct Upload<'a> {
    /// What it is.
    pub blob: &'a Descriptor,
    /// Opens its bytes; again for each attempt.
    pub open: &'a dyn Fn() -> Result<Box<dyn Read + Send>>,
    /// Whether its bytes are still on their way here.
    pub in_flight: bool,
    /// Told each piece's length.
    pub progress: Arc<dyn Fn(u64) + Send + Sync>,
}

impl Repository {
    /// Uploads a blob in one piece (distribution-spec, "POST then PUT").
    ///
    /// # Errors
    /// [`Error::Mismatch`] and [`Error::Size`] where the local bytes are not the descriptor's: the upload is broken off
    /// before its end then. [`Error::Redirect`] for a location that is not followed; what requests give.
    pub fn upload(&self, upload: &Upload<'_>) -> Result<()> {
        self.patience().again(|| {
            let url = self.begin_upload(&upload.blob.digest)?;
            let body = || verified_body(upload);
            let mut call =
                Call::new(Method::PUT, url).header(CONTENT_TYPE, "application/octet-stream").body(&body);
            let stall = self.patience().stall;
            let time = stall * 2 + Duration::from_secs(upload.blob.size / SLOWEST);
            call.time = Some(if upload.in_flight { IN_FLIGHT_TIME } else { time });
            let answer = self.send(&call)?.expect(&[201, 204])?;
            confirm(&answer, &upload.blob.digest.to_string(), &upload.blob.digest)
        })
    }

    /// Opens an upload session and gives the address that takes the whole blob.
    fn begin_upload(&self, digest: &Digest) -> Result<Url> {
        let empty = || Ok(Body::from(""));
        let call = Call::new(Method::POST, self.url("blobs/uploads/")?).body(&empty);
        let answer = self.send(&call)?.expect(&[202])?;
        let mut url = upload_location(&answer)?;
        url.query_pairs_mut().append_pair("digest", &digest.to_string());
        Ok(url)
    }
}

fn upload_location(answer: &Answer) -> Result<Url> {
    let wrong = |reason: String| Error::Redirect { url: answer.shown(), reason };
    let header = answer.text(LOCATION).ok_or_else(|| wrong("the upload has no Location".to_owned()))?;
    address::location(answer.url(), header).map_err(wrong)
}

fn verified_body(upload: &Upload<'_>) -> Result<Body> {
    let verified = verified(upload)?;
    Ok(if upload.blob.size == 0 { Body::from("") } else { Body::sized(verified, upload.blob.size) })
}

/// The blob's bytes, verified as they are read.
pub(crate) fn verified(upload: &Upload<'_>) -> Result<Verified> {
    let blob = upload.blob;
    let empty = Digest::of(b"");
    if blob.size == 0 && blob.digest != empty {
        return Err(Error::Mismatch { what: blob.digest.to_string(), wanted: blob.digest, got: empty });
    }
    Ok(Verified {
        inner: (upload.open)()?,
        hasher: Some(Hasher::new()).filter(|_| blob.size > 0),
        blob: blob.clone(),
        sent: 0,
        progress: Arc::clone(&upload.progress),
    })
}

/// Passes a blob's bytes on, but its last ones only when all of them hash to its digest: a wrong blob is never complete.
pub(crate) struct Verified {
    inner: Box<dyn Read + Send>,
    /// None once all is read and verified.
    hasher: Option<Hasher>,
    blob: Descriptor,
    sent: u64,
    progress: Arc<dyn Fn(u64) + Send + Sync>,
}

impl Verified {
    /// Reads some bytes; 0 is the verified end.
    ///
    /// # Errors
    /// [`Error::Size`], [`Error::Mismatch`]; the store's.
    pub(crate) fn next_piece(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let Some(hasher) = &mut self.hasher else { return Ok(0) };
        let left = self.blob.size - self.sent;
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let n = self.inner.read(&mut buffer[..most]).map_err(|e| unreadable(&self.blob.digest, e))?;
        hasher.update(&buffer[..n]);
        self.sent += n as u64;
        let what = || self.blob.digest.to_string();
        if n == 0 && most > 0 {
            return Err(Error::Size { what: what(), wanted: self.blob.size, got: self.sent });
        }
        if self.sent == self.blob.size {
            let got = self.hasher.take().unwrap_or_default().finish();
            if got != self.blob.digest {
                return Err(Error::Mismatch { what: what(), wanted: self.blob.digest, got });
            }
        }
        (self.progress)(n as u64);
        Ok(n)
    }
}

impl Read for Verified {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.next_piece(buffer).map_err(Carried::io)
    }
}

/// The store's own error keeps its class on its way through [`io::Error`].
fn unreadable(digest: &Digest, error: io::Error) -> Error {
    store::Error::out_of(error)
        .map_or_else(|source| Error::Io { path: digest.to_string().into(), source }, Error::Store)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(bytes: &'static [u8], blob: Descriptor) -> (Vec<u8>, Option<String>) {
        let progress: Arc<dyn Fn(u64) + Send + Sync> = Arc::new(|_| ());
        let mut verified =
            Verified { inner: Box::new(bytes), hasher: Some(Hasher::new()), blob, sent: 0, progress };
        let mut passed = Vec::new();
        let mut piece = [0; 4];
        loop {
            match verified.read(&mut piece) {
                Ok(0) => return (passed, None),
                Ok(n) => passed.extend_from_slice(&piece[..n]),
                Err(error) => return (passed, Some(error.to_string())),
            }
        }
    }

    #[test]
    fn the_last_bytes_of_a_wrong_blob_are_never_passed_on() {
        let blob = Descriptor::of("x", b"hello world");
        assert_eq!(read_all(b"hello world", blob.clone()), (b"hello world".to_vec(), None));
        let (passed, error) = read_all(b"hellO world", blob.clone());
        assert!(error.is_some() && passed.len() < 11, "{passed:?}");
        let (passed, error) = read_all(b"hello", blob.clone());
        assert!(error.is_some() && passed.len() < 11, "{passed:?}");
        let (passed, error) = read_all(b"hello world and more", blob);
        assert_eq!((passed.len(), error), (11, None), "what follows the blob is not part of it");
    }
}
