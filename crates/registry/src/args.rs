//! The arguments of every tool that talks to a registry.

use std::time::Duration;

use crate::auth::Credentials;
use crate::repository::{Network, Options};

/// Arguments of every tool that talks to a registry.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Registry options")]
pub struct RegistryArgs {
    /// Log in as USER with PASSWORD; sent to the named registry and nowhere else
    #[arg(long, value_name = "USER:PASSWORD", value_parser = credentials)]
    pub creds: Option<Credentials>,

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

/// What clap prints of a bad value is its text: this one is kept out of the message.
fn credentials(text: &str) -> std::result::Result<Credentials, String> {
    text.parse().map_err(|e: crate::BadCredentials| e.to_string())
}

impl RegistryArgs {
    /// The network these arguments describe.
    pub fn network(&self) -> Network {
        Network::new(Options {
            credentials: self.creds.clone(),
            plain_http: self.plain_http,
            stall: Duration::from_secs(self.timeout),
            retries: self.retry,
        })
    }
}
