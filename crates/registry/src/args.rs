//! The arguments of every tool that talks to a registry.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::auth::BadCredentials;
use crate::error::{Error, Result};
use crate::repository::{Network, Options};

/// Arguments of every tool that talks to a registry.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Registry options")]
pub struct RegistryArgs {
    /// Log in as USER with PASSWORD; sent to the named registry and nowhere else
    #[arg(long, value_name = "USER:PASSWORD")]
    pub creds: Option<Secret>,

    /// Speak http without TLS (registries on this machine: the default; `--plain-http=false` for TLS there)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub plain_http: Option<bool>,

    /// Give up when nothing came for this long
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,

    /// Send a request that failed in a way that may pass this often again
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub retry: u32,
}

/// A word of the command line that is not shown. It is taken as it is and looked at later: clap repeats a value that it
/// finds wrong in its message.
#[derive(Clone)]
pub struct Secret(String);

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> std::result::Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl RegistryArgs {
    /// The network these arguments describe.
    ///
    /// # Errors
    /// [`Error::Usage`] for credentials that are not `USER:PASSWORD`.
    pub fn network(&self) -> Result<Network> {
        let credentials = self.creds.as_ref().map(|secret| secret.0.parse()).transpose();
        Ok(Network::new(Options {
            credentials: credentials.map_err(|bad: BadCredentials| Error::Usage(bad.to_string()))?,
            plain_http: self.plain_http,
            stall: Duration::from_secs(self.timeout),
            retries: self.retry,
        }))
    }
}
