//! HTTP as registries need it: one exchange at a time, redirects and credentials in our own hands, everything bounded.
//!
//! Invariants
//! - `Authorization` is decided anew for each address of a redirect chain, by the caller's rule.
//! - Encryption is never given up on the way (https to http), and no proxy is asked for an address of this machine.
//! - No body is read into memory without a limit; no read waits for ever.

use std::io::Read as _;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use reqwest::blocking::{Body, Client, Request, Response};
use reqwest::header::{
    AUTHORIZATION, CONTENT_ENCODING, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER,
};
use reqwest::{Method, StatusCode, Url};

use crate::error::{Error, Result};
use crate::failure;
use crate::retry::Patience;
use crate::{address, auth};

/// The most redirects one request follows (curl's and containerd's order of magnitude).
const REDIRECT_LIMIT: usize = 10;
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// A body must bring at least this many bytes a second, seen over the stall time.
const LOW_SPEED: u64 = 256;
/// One request. A body is made anew for each attempt.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Option<&'a dyn Fn() -> Result<Body>>,
    /// How long the whole request may take; the stall time where absent.
    pub(crate) time: Option<Duration>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: Vec::new(), body: None, time: None }
    }

    pub(crate) fn get(url: Url) -> Self {
        Self::new(Method::GET, url)
    }

    pub(crate) fn header(mut self, name: HeaderName, value: impl AsRef<str>) -> Self {
        // Values made here are digests, media types that were parsed, and numbers; an odd one is left out.
        self.headers.extend(HeaderValue::from_str(value.as_ref()).ok().map(|value| (name, value)));
        self
    }

    pub(crate) fn body(mut self, body: &'a dyn Fn() -> Result<Body>) -> Self {
        self.body = Some(body);
        self
    }

    fn follows_redirects_freely(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD)
    }
}

/// The HTTP clients, each made when first needed: reading the system's certificates takes longer than a small pull.
#[derive(Debug)]
pub(crate) struct Transport {
    patience: Patience,
    clients: [OnceLock<Client>; 4],
}

/// A rule that says what `Authorization` an address is sent.
pub(crate) type Authorize<'a> = &'a dyn Fn(&Url) -> Option<HeaderValue>;

impl Transport {
    pub(crate) fn new(patience: Patience) -> Self {
        Self { patience, clients: Default::default() }
    }

    pub(crate) fn patience(&self) -> Patience {
        self.patience
    }

    fn client(&self, url: &Url) -> Result<&Client> {
        let tls = url.scheme() == "https";
        let direct = address::is_loopback(url);
        let slot = &self.clients[usize::from(tls) * 2 + usize::from(direct)];
        if let Some(client) = slot.get() {
            return Ok(client);
        }
        let client = build_client(tls, direct, self.patience.stall)?;
        Ok(slot.get_or_init(|| client))
    }

    /// Sends a request and follows its redirects.
    ///
    /// # Errors
    /// No answer, or a redirect that is not followed. An answer that says no is no error here.
    pub(crate) fn follow(&self, call: &Call<'_>, authorize: Authorize<'_>) -> Result<Answer> {
        let mut url = call.url.clone();
        for _ in 0..=REDIRECT_LIMIT {
            let answer = self.exchange(call, &url, authorize(&url))?;
            let Some(target) = answer.redirect(call.follows_redirects_freely())? else { return Ok(answer) };
            url = target;
        }
        let reason = format!("more than {REDIRECT_LIMIT} redirects");
        Err(Error::Redirect { url: address::shown(&call.url), reason })
    }

    /// One request, one answer.
    fn exchange(&self, call: &Call<'_>, url: &Url, authorization: Option<HeaderValue>) -> Result<Answer> {
        let mut request = Request::new(call.method.clone(), url.clone());
        request.headers_mut().extend(call.headers.iter().cloned());
        if let Some(value) = authorization.clone() {
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        if let Some(body) = call.body {
            *request.body_mut() = Some(body()?);
        }
        *request.timeout_mut() = call.time;
        let seconds = call.time.unwrap_or(self.patience.stall).as_secs();
        let response =
            self.client(url)?.execute(request).map_err(|e| failure::of_request(url, &e, seconds))?;
        Ok(Answer { url: url.clone(), response, stall: self.patience.stall, sent: authorization })
    }
}

fn build_client(tls: bool, direct: bool, stall: Duration) -> Result<Client> {
    // A process may have chosen a provider before; both are sound.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .user_agent(concat!("ocipipe/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .connect_timeout(CONNECT_TIMEOUT.min(stall.max(Duration::from_secs(1))))
        // Of each wait for the answer's head and for a piece of its body, not of the whole.
        .timeout(stall)
        // Uploads: no acknowledgement for this long is a dead peer.
        .tcp_user_timeout(stall);
    if !tls {
        // Never used: given so that the system's certificates are not read.
        builder = builder.tls_certs_only([]);
    }
    if direct {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|e| Error::Client(failure::chain(&e)))
}

/// An answer whose body has not been read.
pub(crate) struct Answer {
    url: Url,
    response: Response,
    stall: Duration,
    /// What the request was authorised with: an answer that repeats it is not repeated.
    sent: Option<HeaderValue>,
}

impl Answer {
    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// A header's value, where it is there once and is text.
    pub(crate) fn text(&self, name: HeaderName) -> Option<&str> {
        let mut values = self.headers().get_all(name).iter();
        let first = values.next()?;
        if values.next().is_some() { None } else { first.to_str().ok() }
    }

    /// The address that answered, at the end of all redirects.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// The address as it may be shown.
    pub(crate) fn shown(&self) -> String {
        address::shown(&self.url)
    }

    /// The body's length where the answer tells it.
    pub(crate) fn length(&self) -> Option<u64> {
        self.text(reqwest::header::CONTENT_LENGTH)?.parse().ok()
    }

    /// The next address, where this is a redirect. 301 to 303 turn other methods into GET: not what a registry means.
    fn redirect(&self, freely: bool) -> Result<Option<Url>> {
        let follows = match self.status().as_u16() {
            307 | 308 => true,
            301..=303 => freely,
            _ => false,
        };
        if !follows {
            return Ok(None);
        }
        let header = self.text(LOCATION);
        let header = header
            .ok_or_else(|| Error::Redirect { url: self.shown(), reason: "it has no Location".to_owned() })?;
        let target = address::location(&self.url, header);
        target.map(Some).map_err(|reason| Error::Redirect { url: self.shown(), reason })
    }

    /// The answer as the error it is, with what the registry says about it.
    pub(crate) fn into_error(self) -> Error {
        let (url, status) = (self.shown(), self.status().as_u16());
        let retry_after = self.text(RETRY_AFTER).and_then(|value| value.trim().parse().ok());
        let reason = self.status().canonical_reason().unwrap_or_default();
        let secrets = self.sent.as_ref().map(auth::secrets).unwrap_or_default();
        let message = failure::message(self.into_body(), &secrets).unwrap_or_else(|| reason.to_owned());
        Error::Status { url, status, message, retry_after }
    }

    /// This answer where its status is one of `statuses`, else the error it is.
    pub(crate) fn expect(self, statuses: &[u16]) -> Result<Self> {
        if statuses.contains(&self.status().as_u16()) { Ok(self) } else { Err(self.into_error()) }
    }

    /// The whole body of a document.
    ///
    /// # Errors
    /// [`Error::TooLarge`] before more than `limit` bytes are held; the body's own failures.
    pub(crate) fn document(&mut self, what: &str, limit: u64) -> Result<Vec<u8>> {
        let too_large = || Error::TooLarge { what: what.to_owned(), limit };
        self.refuse_encoding()?;
        if self.length().is_some_and(|length| length > limit) {
            return Err(too_large());
        }
        let mut body = Pour::new(self.shown(), self.stall);
        let mut bytes = Vec::new();
        let mut buffer = vec![0; 16 << 10];
        loop {
            let n = body.read(&mut self.response, &mut buffer)?;
            if n == 0 {
                return Ok(bytes);
            }
            bytes.extend_from_slice(&buffer[..n]);
            if bytes.len() as u64 > limit {
                return Err(too_large());
            }
        }
    }

    /// We ask for no encoding: an encoded body is not the blob, whatever its digest header says.
    pub(crate) fn refuse_encoding(&self) -> Result<()> {
        match self.headers().get(CONTENT_ENCODING) {
            Some(value) if value.as_bytes() != b"identity" => Err(Error::Protocol {
                url: self.shown(),
                reason: format!("Content-Encoding {value:?} was not asked for"),
            }),
            _ => Ok(()),
        }
    }

    pub(crate) fn into_body(self) -> Stream {
        Stream { pour: Pour::new(address::shown(&self.url), self.stall), response: self.response }
    }
}

/// A body as it comes in.
pub(crate) struct Stream {
    pour: Pour,
    response: Response,
}

impl Stream {
    /// Reads some bytes; 0 is the end.
    ///
    /// # Errors
    /// [`Error::Stalled`], [`Error::Broken`].
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.pour.read(&mut self.response, buffer)
    }
}

/// Keeps an eye on how fast a body comes.
struct Pour {
    url: String,
    received: u64,
    stall: Duration,
    window: (Instant, u64),
}

impl Pour {
    fn new(url: String, stall: Duration) -> Self {
        Self { url, received: 0, stall, window: (Instant::now(), 0) }
    }

    fn read(&mut self, response: &mut Response, buffer: &mut [u8]) -> Result<usize> {
        let n = response
            .read(buffer)
            .map_err(|e| failure::of_body(&self.url, self.received, &e, self.stall.as_secs()))?;
        self.received += n as u64;
        let (since, before) = self.window;
        if n > 0 && since.elapsed() >= self.stall {
            let received = self.received - before;
            if received < LOW_SPEED * self.stall.as_secs().max(1) {
                return Err(Error::Stalled {
                    url: self.url.clone(),
                    received,
                    seconds: self.stall.as_secs(),
                });
            }
            self.window = (Instant::now(), self.received);
        }
        Ok(n)
    }
}
