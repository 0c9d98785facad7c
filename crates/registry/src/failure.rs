//! What an HTTP library's error means to a user, and what a registry says in words.

use std::error::Error as StdError;
use std::io;

use reqwest::Url;
use serde::Deserialize;

use crate::address;
use crate::error::Error;
use crate::transport::Stream;

/// The most bytes of an answer that says no which are read.
const MESSAGE_READ_LIMIT: usize = 1 << 20;
/// The most characters of it that are repeated.
const MESSAGE_SHOWN: usize = 200;

/// The failure to send a request or to get an answer.
pub(crate) fn of_request(url: &Url, error: &reqwest::Error, seconds: u64) -> Error {
    let url = address::shown(url);
    if let Some(own) = own_error(error) {
        return own;
    }
    if error.is_timeout() && !error.is_connect() {
        return Error::Stalled { url, received: 0, seconds };
    }
    Error::Unreachable { url, reason: chain(error), certificate: is_certificate(error) }
}

/// The failure of a body on its way.
pub(crate) fn of_body(url: &str, received: u64, error: &io::Error, seconds: u64) -> Error {
    let timed_out = error.kind() == io::ErrorKind::TimedOut
        || error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<reqwest::Error>())
            .is_some_and(reqwest::Error::is_timeout);
    let url = url.to_owned();
    if timed_out {
        return Error::Stalled { url, received: 0, seconds };
    }
    let reason = error.get_ref().map_or_else(|| error.to_string(), |inner| chain(inner));
    Error::Broken { url, received, reason }
}

/// An error of ours that stopped an upload's body, and came back through the library.
fn own_error(error: &reqwest::Error) -> Option<Error> {
    causes(error).into_iter().find_map(|cause| cause.downcast_ref::<Carried>().and_then(Carried::take))
}

/// An error of ours on its way through an [`io::Error`].
#[derive(Debug, thiserror::Error)]
#[error("the upload was stopped")]
pub(crate) struct Carried(std::sync::Mutex<Option<Error>>);

impl Carried {
    pub(crate) fn io(error: Error) -> io::Error {
        io::Error::other(Self(std::sync::Mutex::new(Some(error))))
    }

    fn take(&self) -> Option<Error> {
        self.0.lock().ok()?.take()
    }
}

/// An error and its causes, looking into boxes that [`StdError::source`] skips.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> Vec<&'a (dyn StdError + 'static)> {
    let mut found = vec![error];
    while found.len() < 16 {
        let last = found[found.len() - 1];
        let boxed = last.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        match boxed.map(|inner| inner as &(dyn StdError + 'static)).or_else(|| last.source()) {
            Some(next) => found.push(next),
            None => break,
        }
    }
    found
}

fn is_certificate(error: &reqwest::Error) -> bool {
    let certificate = |cause: &&(dyn StdError + 'static)| {
        matches!(cause.downcast_ref::<rustls::Error>(), Some(rustls::Error::InvalidCertificate(_)))
    };
    causes(error).iter().any(certificate)
}

/// The causes' messages, without those that only say that something went wrong and without addresses.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    const EMPTY_WORDS: [&str; 4] =
        ["error sending request", "client error", "builder error", "request or response body error"];
    let mut parts: Vec<String> = Vec::new();
    for cause in causes(error) {
        let text = cause.to_string();
        // Addresses may be signed.
        let text = text.split(" for url (").next().unwrap_or_default().to_owned();
        let empty = EMPTY_WORDS.iter().any(|words| text.starts_with(words));
        if !empty && parts.last().is_none_or(|last| !last.contains(&text)) {
            parts.push(text);
        }
    }
    if parts.is_empty() { "the request failed".to_owned() } else { parts.join(": ") }
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    errors: Vec<Said>,
}

#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

/// What a registry says in the body of an answer that says no (distribution-spec, "Error Codes").
pub(crate) fn message(mut body: Stream, secrets: &[String]) -> Option<String> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 8 << 10];
    while bytes.len() < MESSAGE_READ_LIMIT {
        match body.read(&mut buffer) {
            Ok(n @ 1..) => bytes.extend_from_slice(&buffer[..n]),
            _ => break,
        }
    }
    words(&bytes, secrets)
}

fn words(bytes: &[u8], secrets: &[String]) -> Option<String> {
    let text = match serde_json::from_slice::<Envelope>(bytes) {
        Ok(envelope) => {
            let first = envelope.errors.into_iter().next()?;
            first.message.filter(|m| !m.is_empty()).or(first.code)?
        }
        // Web servers and proxies answer in plain words; a page of HTML says nothing on a terminal.
        Err(_) => std::str::from_utf8(bytes).ok().map(str::trim).filter(|t| is_sentence(t))?.to_owned(),
    };
    // Some repeat the request; its credentials do not belong into a log.
    let text = secrets.iter().fold(text, |text, secret| text.replace(secret.as_str(), "(hidden)"));
    // Untrusted, and on its way to a terminal.
    Some(text.chars().take(MESSAGE_SHOWN).flat_map(char::escape_debug).collect())
}

fn is_sentence(text: &str) -> bool {
    !text.is_empty() && text.len() <= MESSAGE_SHOWN && !text.contains(['<', '{', '\n'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registrys_words_are_cut_and_cannot_drive_a_terminal() {
        let table = [
            (
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#,
                Some("manifest unknown"),
            ),
            (r#"{"errors":[{"code":"DENIED"}]}"#, Some("DENIED")),
            (r#"{"errors":[{"message":"a\u001b[2Jb\nc"}]}"#, Some("a\\u{1b}[2Jb\\nc")),
            (r#"{"errors":[]}"#, None),
            ("<html>", None),
            ("two\nlines", None),
            (
                "Client sent an HTTP request to an HTTPS server.\n",
                Some("Client sent an HTTP request to an HTTPS server."),
            ),
        ];
        for (body, expected) in table {
            assert_eq!(words(body.as_bytes(), &[]).as_deref(), expected, "{body}");
        }
        let long = format!(r#"{{"errors":[{{"message":"{}"}}]}}"#, "x".repeat(5000));
        assert_eq!(words(long.as_bytes(), &[]).map(|m| m.len()), Some(MESSAGE_SHOWN));
    }
}
