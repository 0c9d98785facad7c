//! The command line.

use descriptor::Platform;
use registry::{Place, RegistryArgs};

/// Fetch images into the store and print a line for each.
///
/// The line comes as soon as the manifest and the configuration are verified; layers follow, and the end of the
/// output means that all is there.
#[derive(Debug, clap::Parser)]
#[command(name = "oci-pull", version, max_term_width = 100)]
pub(crate) struct Args {
    /// An image: [docker://]NAME[:TAG][@DIGEST] or oci:DIR[:REF]
    #[arg(required = true, value_name = "REF")]
    pub(crate) references: Vec<Place>,

    /// Which image of an index [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<Platform>,

    /// Print the line when all is there, not before
    #[arg(long)]
    pub(crate) wait: bool,

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
