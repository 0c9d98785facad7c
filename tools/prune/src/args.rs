//! The command line.

use std::time::Duration;

/// Remove stopped containers, volumes that nothing uses, caches of builds, and what is left of images without a name.
///
/// Prints what it removes, one a line, as `container NAME`, `volume NAME`, `cache ID`, `ref NAME`, `blob DIGEST`, `part DIGEST`,
/// `layer DIFFID` or `fixes CHAINID`, and the bytes freed to stderr. It asks nothing: look with --dry-run first. --image takes images
/// their names; what only they needed goes with --blobs --layers once nothing of it was used for --keep-since.
#[derive(Debug, clap::Parser)]
#[command(name = "oci-prune", version, max_term_width = 100)]
#[command(group(clap::ArgGroup::new("kinds").required(true).multiple(true)))]
pub(crate) struct Args {
    /// Remove containers that have stopped
    #[arg(long, group = "kinds")]
    pub(crate) containers: bool,

    /// Remove volumes that no container names, those without a name of their own, or those named
    #[arg(long, group = "kinds")]
    pub(crate) volumes: bool,

    /// Remove caches (oci-spawn --mount type=cache) that no run has; --dry-run shows their sizes
    #[arg(long, group = "kinds")]
    pub(crate) caches: bool,

    /// Remove blobs that no name of an image, no container and no running command needs, and parts that nobody fetches any more
    #[arg(long, group = "kinds")]
    pub(crate) blobs: bool,

    /// Remove unpacked layers that none of these needs
    #[arg(long, group = "kinds")]
    pub(crate) layers: bool,

    /// Take names away whose image the store does not have
    #[arg(long, group = "kinds")]
    pub(crate) refs: bool,

    /// With --blobs and --layers: keep what was made or used within this time; below the time that a pipeline takes from one
    /// stage to the next, only images with a name are safe
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "24h")]
    pub(crate) keep_since: Duration,

    /// With --volumes: these volumes, whatever their kind; one that is in use is refused
    #[arg(value_name = "NAME", requires = "volumes", conflicts_with_all = ["containers", "caches", "blobs", "layers", "refs", "all", "filter"])]
    pub(crate) names: Vec<String>,

    /// Take these names of images away, or all names of images by their ids, and print `Untagged: NAME`; the last name of an
    /// image with containers is refused
    #[arg(
        long,
        group = "kinds",
        value_name = "REF",
        num_args = 1..,
        conflicts_with_all = ["containers", "volumes", "caches", "blobs", "layers", "refs", "all", "filter"]
    )]
    pub(crate) image: Vec<String>,

    /// With --image: also the last name of an image with containers, which go on as they are, and of an id all names
    #[arg(short, long, requires = "image", conflicts_with_all = ["containers", "volumes", "caches"])]
    pub(crate) force: bool,

    /// Also volumes that were given a name, and containers that never ran
    #[arg(short, long)]
    pub(crate) all: bool,

    /// Only what fits: label=KEY[=VALUE], until=MOMENT or until=DURATION (made, or of a cache used, before that)
    #[arg(long, value_name = "KEY=VALUE", conflicts_with_all = ["blobs", "layers", "refs"])]
    pub(crate) filter: Vec<String>,

    /// Remove nothing; print what would be
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    pub(crate) common: cli::Common,
}

fn duration(text: &str) -> Result<Duration, String> {
    store::filter::duration(text).ok_or_else(|| "a time such as 24h, 30m or 0s".into())
}

impl AsRef<cli::Common> for Args {
    fn as_ref(&self) -> &cli::Common {
        &self.common
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn what_is_to_go_has_to_be_said() {
        for words in [
            "oci-prune",
            "oci-prune --all",
            "oci-prune data",
            "oci-prune --containers web",
            "oci-prune --volumes --all data",
            "oci-prune --volumes --filter label=x data",
            "oci-prune --image",
            "oci-prune --image a:1 --volumes",
            "oci-prune --image a:1 --all",
            "oci-prune --image a:1 --caches",
            "oci-prune --caches --volumes data",
            "oci-prune --containers --force",
            "oci-prune --keep-since 1h",
            "oci-prune --blobs --keep-since soon",
            "oci-prune --layers --filter until=1h",
            "oci-prune --blobs data",
            "oci-prune --image a:1 --layers",
        ] {
            Args::try_parse_from(words.split_whitespace()).expect_err(words);
        }
        for words in [
            "oci-prune --containers --volumes -a -n",
            "oci-prune --caches --filter until=24h",
            "oci-prune --volumes a b",
            "oci-prune --blobs --layers --refs --keep-since 1h30m -n",
            "oci-prune a --volumes",
            "oci-prune -f --image a:1 b:1",
        ] {
            Args::try_parse_from(words.split_whitespace()).expect(words);
        }
    }
}
