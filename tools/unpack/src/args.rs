//! The command line.

use std::path::PathBuf;

use cli::Common;
use descriptor::Platform;

/// Unpack an image's layers, verified, each to a tree that all containers share
#[derive(Debug, clap::Parser)]
#[command(name = "oci-unpack", version, max_term_width = 100, after_help = AFTER)]
pub(crate) struct Args {
    /// The image's reference or digest, in place of lines on stdin
    #[arg(value_name = "IMAGE")]
    pub(crate) image: Option<String>,

    /// Which image of an index [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<Platform>,

    /// Apply all layers one over the other into DIR, which must not exist or be empty; nothing is kept in the store
    #[arg(long, value_name = "DIR")]
    pub(crate) to: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) common: Common,
}

impl AsRef<Common> for Args {
    fn as_ref(&self) -> &Common {
        &self.common
    }
}

const AFTER: &str = "\
Reads image lines, writes rootfs lines: `oci-pull debian:12 | oci-unpack | oci-mount`. It begins while oci-pull is still \
fetching. With --to no line is written: the tree in DIR is the result.";
