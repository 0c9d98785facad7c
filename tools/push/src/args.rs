//! The command line.

use registry::{Place, RegistryArgs};

/// Upload images: what the destination lacks, exact bytes, the manifest last.
///
/// Reads image lines from stdin and prints a line for each image at its destination. Layers that are still on their
/// way into the store are followed.
#[derive(Debug, clap::Parser)]
#[command(name = "oci-push", version, max_term_width = 100)]
pub(crate) struct Args {
    /// Where to: [docker://]NAME[:TAG] or oci:DIR[:REF] [default: the line's own reference]
    #[arg(value_name = "DEST")]
    pub(crate) destination: Option<Place>,

    /// Push the store's image of this reference or digest instead of reading lines
    #[arg(long, value_name = "REF|DIGEST")]
    pub(crate) image: Option<String>,

    /// Give the image this name in the store instead of pushing it; may be given several times
    #[arg(short, long = "tag", value_name = "REF", conflicts_with = "destination")]
    pub(crate) tags: Vec<String>,

    #[command(flatten)]
    pub(crate) registry: RegistryArgs,

    #[command(flatten)]
    pub(crate) common: cli::Common,
}

impl AsRef<cli::Common> for Args {
    fn as_ref(&self) -> &cli::Common {
        &self.common
    }
}
