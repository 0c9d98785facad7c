//! The command line.

use std::path::PathBuf;

use cli::Common;
use descriptor::Platform;
use layer::{Limits, Options, limits};

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
    pub(crate) limits: LimitArgs,

    #[command(flatten)]
    pub(crate) common: Common,
}

/// What each layer may ask for; more is refused with exit 6.
#[derive(Debug, Clone, Copy, clap::Args)]
#[command(next_help_heading = "Limits of each layer")]
pub(crate) struct LimitArgs {
    /// Decoded bytes, and bytes of files with their holes, as 10g, 1.5t, 512 MiB
    #[arg(long, value_name = "SIZE", default_value = "1t", value_parser = cli::units::bytes)]
    max_bytes: u64,

    /// Members of the archive
    #[arg(long, value_name = "COUNT", default_value_t = limits::ENTRIES)]
    max_entries: u64,

    /// Decoded bytes for each byte of the blob, once there are more than 1 GiB of them
    #[arg(long, value_name = "TIMES", default_value_t = limits::RATIO, value_parser = clap::value_parser!(u64).range(1..))]
    max_ratio: u64,

    /// Levels of directories
    #[arg(long, value_name = "LEVELS", default_value_t = limits::DEPTH, value_parser = levels())]
    max_depth: u16,
}

impl LimitArgs {
    /// The limits in the layers' own form.
    pub(crate) fn options(self) -> Options {
        let Self { max_bytes, max_entries, max_ratio, max_depth } = self;
        let from = limits::RATIO_FROM;
        let limits = Limits {
            bytes: max_bytes,
            entries: max_entries,
            ratio: max_ratio,
            ratio_from: from,
            depth: max_depth,
        };
        Options { limits }
    }
}

/// From a tree without directories to as many levels as there can be.
fn levels() -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(0..=i64::from(limits::DEPTH))
}

impl AsRef<Common> for Args {
    fn as_ref(&self) -> &Common {
        &self.common
    }
}

const AFTER: &str = "\
Reads image lines, writes rootfs lines: `oci-pull debian:12 | oci-unpack | oci-mount`. It begins while oci-pull is still \
fetching. With --to no line is written: the tree in DIR is the result.";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn without_flags_the_limits_are_the_constants() {
        let args = Args::try_parse_from(["oci-unpack"]).expect("no flag is needed");
        assert_eq!(args.limits.options().limits, Limits::default());
    }

    #[test]
    fn flags_take_units_and_refuse_what_means_nothing() {
        let parse = |args: &[&str]| Args::try_parse_from([&["oci-unpack"], args].concat());
        let args = parse(&["--max-bytes=1.5g", "--max-entries=7", "--max-ratio=20", "--max-depth=30"]);
        let limits = args.expect("valid").limits.options().limits;
        let want = Limits { bytes: 3 << 29, entries: 7, ratio: 20, depth: 30, ..Limits::default() };
        assert_eq!(limits, want);
        for wrong in ["--max-bytes=much", "--max-entries=-1", "--max-ratio=0", "--max-depth=2049"] {
            assert!(parse(&[wrong]).is_err(), "{wrong}");
        }
    }
}
