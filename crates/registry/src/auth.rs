//! Credentials, and the login that a registry asks for (distribution's token authentication, RFC 7617 Basic).
//!
//! Invariant: what is made here is sent to one origin, the registry's scheme, host and port; the user's own name and
//! password also to the token server that passed [`address::check_realm`]. Nothing of it is ever printed.

use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use serde::Deserialize;

use crate::address;
use crate::challenge::{self, Challenge};
use crate::error::{Error, Result};
use crate::transport::{Call, Transport};

/// The most bytes a token server's answer may have.
const TOKEN_LIMIT: u64 = 1 << 20;

/// Shorter secrets are not looked for in what a registry says: any word may hold them.
const SHORTEST_HIDDEN: usize = 4;

/// A user and a password, for one registry.
#[derive(Clone)]
pub struct Credentials {
    user: String,
    password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials {{ user: {:?}, password: (hidden) }}", self.user)
    }
}

/// A text that is no `USER:PASSWORD`. It does not repeat the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("credentials are written USER:PASSWORD")]
pub struct BadCredentials;

impl FromStr for Credentials {
    type Err = BadCredentials;

    fn from_str(text: &str) -> std::result::Result<Self, BadCredentials> {
        let (user, password) =
            text.split_once(':').filter(|(user, _)| !user.is_empty()).ok_or(BadCredentials)?;
        if text.chars().any(char::is_control) {
            return Err(BadCredentials);
        }
        Ok(Self { user: user.to_owned(), password: password.to_owned() })
    }
}

impl Credentials {
    fn basic(&self) -> Option<HeaderValue> {
        let pair =
            base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", self.user, self.password));
        secret(&format!("Basic {pair}"))
    }
}

fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The forms in which an answer could repeat what it was asked with, longest first: the header's value, the pair behind
/// Basic, its password.
pub(crate) fn secrets(header: &HeaderValue) -> Vec<String> {
    let text = header.to_str().unwrap_or_default();
    let Some((scheme, value)) = text.split_once(' ') else { return Vec::new() };
    let mut all = vec![value.to_owned()];
    if scheme == "Basic"
        && let Ok(pair) = base64::engine::general_purpose::STANDARD.decode(value)
        && let Ok(pair) = String::from_utf8(pair)
    {
        let password = pair.split_once(':').map(|(_, password)| password.to_owned());
        all.push(pair);
        all.extend(password);
    }
    // A gap for each letter of a message would tell more than it hides.
    all.retain(|secret| secret.len() >= SHORTEST_HIDDEN);
    all
}

/// What a session does to one repository, as a token's scope names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Pull,
    /// Reading and writing.
    Push,
}

/// The login state of one repository, shared by the threads that ask it.
#[derive(Debug)]
pub(crate) struct Auth {
    credentials: Option<Credentials>,
    scope: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    header: Option<HeaderValue>,
    /// The last challenge answered: a registry may refuse an expired token without repeating it.
    answered: Vec<Challenge>,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Auth {
    pub(crate) fn new(repository: &str, access: Access, credentials: Option<Credentials>) -> Self {
        let actions = match access {
            Access::Pull => "pull",
            Access::Push => "pull,push",
        };
        Self { credentials, scope: format!("repository:{repository}:{actions}"), state: Mutex::default() }
    }

    /// The header for the registry's origin, once a login has been made.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).header.clone()
    }

    /// Answers a 401 of the registry. `rejected` is what the refused request carried; a thread that comes with an older
    /// header than the current one is given the current one. False: there is nothing better to send.
    pub(crate) fn renew(
        &self,
        transport: &Transport,
        registry: &Url,
        rejected: Option<&HeaderValue>,
        headers: &HeaderMap,
    ) -> Result<bool> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.header.as_ref() != rejected {
            return Ok(true);
        }
        let mut challenges = challenges(headers);
        if challenges.is_empty() {
            challenges.clone_from(&state.answered);
        }
        let header = self.answer(transport, registry, &challenges)?;
        if header.is_none() || header.as_ref() == rejected {
            return Ok(false);
        }
        state.header = header;
        state.answered = challenges;
        Ok(true)
    }

    fn answer(
        &self,
        transport: &Transport,
        registry: &Url,
        challenges: &[Challenge],
    ) -> Result<Option<HeaderValue>> {
        if let Some(bearer) = challenges.iter().find(|c| c.scheme == "bearer") {
            return self.token(transport, registry, bearer).map(Some);
        }
        let basic = challenges.iter().any(|c| c.scheme == "basic");
        Ok(self.credentials.as_ref().filter(|_| basic).and_then(Credentials::basic))
    }

    fn token(&self, transport: &Transport, registry: &Url, bearer: &Challenge) -> Result<HeaderValue> {
        let refused = |reason: String| Error::Challenge { url: address::shown(registry), reason };
        let realm = bearer.param("realm").ok_or_else(|| refused("it names no token server".to_owned()))?;
        let mut realm: Url =
            realm.parse().map_err(|e| refused(format!("its token server is no address: {e}")))?;
        address::check_realm(registry, &realm).map_err(refused)?;
        if let Some(service) = bearer.param("service") {
            realm.query_pairs_mut().append_pair("service", service);
        }
        realm.query_pairs_mut().append_pair("scope", &self.scope);
        let basic = self.credentials.as_ref().and_then(Credentials::basic);
        let call = Call::get(realm.clone());
        let mut answer =
            transport.follow(&call, &|url| basic.clone().filter(|_| address::same_origin(url, &realm)))?;
        if !answer.status().is_success() {
            return Err(token_refusal(answer.into_error(), refused));
        }
        let body = answer.document("the token server's answer", TOKEN_LIMIT)?;
        // The parser's message may quote the token: only its place is told.
        let token: Token = serde_json::from_slice(&body)
            .map_err(|e| refused(format!("its token server's answer is no token (column {})", e.column())))?;
        let token = token.token.or(token.access_token).filter(|token| !token.is_empty());
        let header = token.and_then(|token| secret(&format!("Bearer {token}")));
        header.ok_or_else(|| refused("its token server gave no usable token".to_owned()))
    }
}

/// A token server that says anything but 401, 403 or "later" has refused all the same; its 404 is no missing image.
fn token_refusal(error: Error, refused: impl FnOnce(String) -> Error) -> Error {
    match error {
        Error::Status { status: 401 | 403, .. } => error,
        Error::Status { status, ref message, .. } if !error.is_transient() => {
            refused(format!("its token server answered {status} {message}"))
        }
        error => error,
    }
}

fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(challenge::parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_a_user_and_a_password_and_are_never_shown() {
        let credentials: Credentials = "me:se:cret".parse().unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(credentials.basic(), secret("Basic bWU6c2U6Y3JldA=="));
        assert!(!format!("{credentials:?}").contains("cret"));
        assert!(!format!("{:?}", credentials.basic()).contains("bWU6"));
        for text in ["", "me", ":secret", "me:a\r\nHost: x"] {
            assert_eq!(text.parse::<Credentials>().err(), Some(BadCredentials), "{text}");
        }
    }
}
