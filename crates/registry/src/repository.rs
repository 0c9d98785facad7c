//! [`Repository`]: one repository of one registry, and the requests that go there.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use descriptor::{Descriptor, Digest, media};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderName};
use reqwest::{Method, Url};

use crate::address;
use crate::auth::{Access, Auth, Credentials};
use crate::error::{Error, Result};
use crate::reference::Reference;
use crate::retry::Patience;
use crate::transport::{Answer, Call, Transport};

/// The registries' own limit (distribution-spec v1.1, "Pushing Manifests"), and ours for what is read.
pub(crate) const DOCUMENT_LIMIT: u64 = 4 << 20;
/// What a request carries the registry's own digest of a document in. It is compared, never trusted.
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// The kinds of documents that are asked for.
const MANIFESTS: [&str; 4] =
    [media::OCI_MANIFEST, media::OCI_INDEX, media::DOCKER_MANIFEST, media::DOCKER_INDEX];

/// How registries are reached.
#[derive(Debug, Clone)]
pub struct Options {
    /// A login, for the first registry that is asked.
    pub credentials: Option<Credentials>,
    /// Plain http: always, never, or only for registries on this machine.
    pub plain_http: Option<bool>,
    /// No byte for this long: stalled.
    pub stall: Duration,
    /// How often a request that failed in a way that may pass is sent again.
    pub retries: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { credentials: None, plain_http: None, stall: Duration::from_secs(30), retries: 3 }
    }
}

/// The connections of one process to its registries.
#[derive(Debug, Clone)]
pub struct Network {
    options: Options,
    transport: Arc<Transport>,
    /// The registry that the credentials belong to: the first one.
    owner: Arc<Mutex<Option<String>>>,
}

impl Network {
    /// A network with no connection yet.
    pub fn new(options: Options) -> Self {
        let patience = Patience { stall: options.stall, retries: options.retries };
        Self { options, transport: Arc::new(Transport::new(patience)), owner: Arc::default() }
    }

    /// The repository of a reference. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Usage`] where credentials were given and this is a second registry; [`Error::PlainCredentials`].
    pub fn repository(&self, reference: &Reference, access: Access) -> Result<Repository> {
        let bad = |e| Error::Usage(format!("{}: {e}", reference.api_host()));
        let guess: Url = format!("http://{}/v2/", reference.api_host()).parse().map_err(bad)?;
        let local = address::is_loopback(&guess);
        let plain = self.options.plain_http.unwrap_or(local);
        let scheme = if plain { "http" } else { "https" };
        let base = format!("{scheme}://{}/v2/{}/", reference.api_host(), reference.repository());
        let base: Url = base.parse().map_err(bad)?;
        let credentials = self.credentials(reference.api_host())?;
        if credentials.is_some() && plain && !local {
            return Err(Error::PlainCredentials { host: reference.api_host().to_owned() });
        }
        let auth = Auth::new(reference.repository(), access, credentials);
        Ok(Repository { name: reference.name(), base, auth, transport: Arc::clone(&self.transport) })
    }

    fn credentials(&self, host: &str) -> Result<Option<Credentials>> {
        let Some(credentials) = &self.options.credentials else { return Ok(None) };
        let mut owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner);
        match &*owner {
            Some(owner) if owner != host => {
                Err(Error::Usage(format!("the credentials are for {owner} and are not sent to {host}")))
            }
            _ => {
                *owner = Some(host.to_owned());
                Ok(Some(credentials.clone()))
            }
        }
    }
}

/// One repository of one registry; threads may share it.
#[derive(Debug)]
pub struct Repository {
    name: String,
    base: Url,
    auth: Auth,
    transport: Arc<Transport>,
}

/// A manifest or an index as it came: exact bytes, verified where the digest was known, bounded.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The exact bytes.
    pub bytes: Vec<u8>,
    /// Their media type, by the registry and (where it says so) by the document alike.
    pub media_type: String,
    /// Their digest.
    pub digest: Digest,
}

impl Fetched {
    /// The document's descriptor.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.media_type.clone(), self.digest, self.bytes.len() as u64)
    }
}

impl Repository {
    /// `host/repository`.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn patience(&self) -> Patience {
        self.transport.patience()
    }

    /// The address of something below the repository. `path` is made of digests, checked tags and fixed words.
    pub(crate) fn url(&self, path: &str) -> Result<Url> {
        self.base.join(path).map_err(|e| Error::Usage(format!("{}{path}: {e}", self.base)))
    }

    /// Sends a request with the login the registry asks for; one new login where the old one is refused.
    pub(crate) fn send(&self, call: &Call<'_>) -> Result<Answer> {
        for renewed in [false, true] {
            let header = self.auth.header();
            let answer = self
                .transport
                .follow(call, &|url| header.clone().filter(|_| address::same_origin(url, &self.base)))?;
            let ours = address::same_origin(answer.url(), &self.base);
            let refused = answer.status().as_u16() == 401 && ours;
            if !refused || renewed {
                return Ok(answer);
            }
            if !self.auth.renew(&self.transport, &self.base, header.as_ref(), answer.headers())? {
                return Ok(answer);
            }
        }
        unreachable!("the second round returns")
    }

    /// Fetches the manifest or index that `selector`, a tag or a digest, names.
    ///
    /// # Errors
    /// [`Error::Status`] 404 where there is none; [`Error::TooLarge`], [`Error::Mismatch`], [`Error::MediaType`].
    pub fn manifest(&self, selector: &str) -> Result<Fetched> {
        let what = format!("{}@{selector}", self.name);
        let call =
            Call::get(self.url(&format!("manifests/{selector}"))?).header(ACCEPT, MANIFESTS.join(", "));
        self.patience().again(|| {
            let mut answer = self.send(&call)?.expect(&[200])?;
            let media_type = media_type(&answer, &what)?;
            let told: Option<Digest> = answer.text(CONTENT_DIGEST).and_then(|text| text.parse().ok());
            let bytes = answer.document(&what, DOCUMENT_LIMIT)?;
            let got = Digest::of(&bytes);
            // By tag, the header is the only word there is on what the bytes should be; by digest, it counts for nothing.
            let wanted = selector.parse().ok().or(told).unwrap_or(got);
            if got != wanted {
                return Err(Error::Mismatch { what: what.clone(), wanted, got });
            }
            Ok(Fetched { bytes, media_type, digest: got })
        })
    }

    /// Fetches the manifest that a descriptor of an index names.
    ///
    /// # Errors
    /// As [`Repository::manifest`]; [`Error::Size`].
    pub fn child(&self, child: &Descriptor) -> Result<Fetched> {
        let fetched = self.manifest(&child.digest.to_string())?;
        check_child(&fetched, child)?;
        Ok(fetched)
    }

    /// Fetches a small blob, an image's configuration say.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Size`], [`Error::Mismatch`], and what requests give.
    pub fn document(&self, blob: &Descriptor) -> Result<Vec<u8>> {
        let what = blob.digest.to_string();
        if blob.size > DOCUMENT_LIMIT {
            return Err(Error::TooLarge { what, limit: DOCUMENT_LIMIT });
        }
        let call = Call::get(self.url(&format!("blobs/{}", blob.digest))?);
        self.patience().again(|| {
            let bytes = self.send(&call)?.expect(&[200])?.document(&what, DOCUMENT_LIMIT)?;
            verify(&what, blob, &bytes)?;
            Ok(bytes)
        })
    }

    /// Whether the repository has a blob. A registry that does not know HEAD is taken to lack it.
    ///
    /// # Errors
    /// What requests give.
    pub fn has_blob(&self, blob: &Descriptor) -> Result<bool> {
        let call = Call::new(Method::HEAD, self.url(&format!("blobs/{}", blob.digest))?);
        self.patience().again(|| {
            let answer = self.send(&call)?.expect(&[200, 404, 405])?;
            let size = answer.length();
            Ok(answer.status().as_u16() == 200 && size.is_none_or(|size| size == blob.size))
        })
    }

    /// Stores a manifest or an index, exact bytes, under a tag or its digest.
    ///
    /// # Errors
    /// [`Error::Mismatch`] where the registry stored something else; what requests give.
    pub fn put_manifest(&self, selector: &str, media_type: &str, bytes: &[u8]) -> Result<()> {
        let body = || Ok(bytes.to_vec().into());
        let call = Call::new(Method::PUT, self.url(&format!("manifests/{selector}"))?);
        let call = call.header(CONTENT_TYPE, media_type).body(&body);
        self.patience().again(|| {
            let answer = self.send(&call)?.expect(&[200, 201, 202])?;
            confirm(&answer, &format!("{}@{selector}", self.name), &Digest::of(bytes))
        })
    }
}

/// A registry that says it stored other bytes than it was sent.
pub(crate) fn confirm(answer: &Answer, what: &str, wanted: &Digest) -> Result<()> {
    match answer.text(CONTENT_DIGEST).and_then(|text| text.parse::<Digest>().ok()) {
        Some(got) if got != *wanted => Err(Error::Mismatch { what: what.to_owned(), wanted: *wanted, got }),
        _ => Ok(()),
    }
}

/// Size first, then digest.
pub(crate) fn verify(what: &str, wanted: &Descriptor, bytes: &[u8]) -> Result<()> {
    let (size, got) = (bytes.len() as u64, Digest::of(bytes));
    if size != wanted.size {
        return Err(Error::Size { what: what.to_owned(), wanted: wanted.size, got: size });
    }
    if got != wanted.digest {
        return Err(Error::Mismatch { what: what.to_owned(), wanted: wanted.digest, got });
    }
    Ok(())
}

/// A manifest against the index entry that named it.
pub(crate) fn check_child(fetched: &Fetched, child: &Descriptor) -> Result<()> {
    let what = child.digest.to_string();
    if fetched.media_type != child.media_type {
        let reason = format!("the index says {:?}, the registry {:?}", child.media_type, fetched.media_type);
        return Err(Error::MediaType { what, reason });
    }
    verify(&what, child, &fetched.bytes)
}

/// The type a registry gives a document: it must be one that was asked for, for one digest must not read in two ways
/// (CVE-2021-41190).
fn media_type(answer: &Answer, what: &str) -> Result<String> {
    let wrong = |reason: String| Error::MediaType { what: what.to_owned(), reason };
    let header =
        answer.text(CONTENT_TYPE).ok_or_else(|| wrong("the registry gives it no Content-Type".to_owned()))?;
    let essence = header.split(';').next().unwrap_or_default().trim();
    if media::is_image(essence) {
        return Ok(essence.to_owned());
    }
    Err(wrong(format!("the registry calls it {essence:?}, which is no image manifest or index")))
}
