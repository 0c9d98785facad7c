//! The command line.

use descriptor::Platform;

/// Show images, layers and containers by any of their names, and the store.
///
/// Reads lines from stdin where nothing is named. Prints a line in a pipe and a report on a terminal.
#[derive(Debug, clap::Parser)]
#[command(name = "oci-inspect", version, max_term_width = 100)]
pub(crate) struct Args {
    /// A reference, digest, container's name or id, or the first four digits or more of a digest or id;
    /// or the word images or containers for a list of all
    #[arg(value_name = "WHAT")]
    pub(crate) what: Vec<String>,

    /// All there is to say, as JSON
    #[arg(long, conflicts_with_all = ["raw", "check"])]
    pub(crate) full: bool,

    /// The exact bytes of an image's manifest or index
    #[arg(long, conflicts_with_all = ["manifests", "check"])]
    pub(crate) raw: bool,

    /// Of an index, the images in it that the store has, one by one
    #[arg(long, conflicts_with = "check")]
    pub(crate) manifests: bool,

    /// Of an index, its image for this platform [default: the index itself]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", conflicts_with = "check")]
    pub(crate) platform: Option<Platform>,

    /// Read all blobs again and look for what is damaged or half-made; exit 6 where something is
    #[arg(long, conflicts_with = "what")]
    pub(crate) check: bool,

    #[command(flatten)]
    pub(crate) common: cli::Common,
}

impl AsRef<cli::Common> for Args {
    fn as_ref(&self) -> &cli::Common {
        &self.common
    }
}
