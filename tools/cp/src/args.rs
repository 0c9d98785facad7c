//! The command line.

use crate::place::Place;

const USAGE: &str = "\
oci-cp [OPTIONS] SRC... [NAME]:DST
       oci-cp [OPTIONS] [NAME]:SRC... DST";

/// Copy files into a container (SRC... :DST) or out of it (:SRC... DST), and pass its line on.
///
/// The container is that of the line on stdin, or NAME's in NAME:PATH. Copied out for several lines, DST contains {name}, or
/// n in braces for the count. Rules are docker cp's: into an existing directory,
/// else under the new name; SRC/. is what is in a directory. Links are copied, not followed. Directories that are there
/// already keep their owner and permissions.
#[derive(Debug, clap::Parser)]
#[command(name = "oci-cp", version, max_term_width = 100, override_usage = USAGE)]
pub(crate) struct Args {
    /// What to copy, and where to: [NAME]:PATH is in the container
    #[arg(required = true, num_args = 2.., value_name = "PATH")]
    pub(crate) paths: Vec<Place>,

    /// The owner of what is copied [default: 0:0 in the container, the caller outside]
    #[arg(long, value_name = "USER[:GROUP]")]
    pub(crate) chown: Option<String>,

    /// The permissions of what is copied, octal [default: the source's]
    #[arg(long, value_name = "MODE", value_parser = mode)]
    pub(crate) chmod: Option<u32>,

    #[command(flatten)]
    pub(crate) common: cli::Common,
}

impl AsRef<cli::Common> for Args {
    fn as_ref(&self) -> &cli::Common {
        &self.common
    }
}

fn mode(text: &str) -> Result<u32, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let mode = u32::from_str_radix(text, 8).ok().filter(|&mode| digits && mode <= 0o7777);
    mode.ok_or_else(|| "an octal number up to 7777 is wanted".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
        Args::try_parse_from(["oci-cp", "a", ":/b", "--chmod", "644"]).expect("parse");
        for words in [&["oci-cp"][..], &["oci-cp", "a"], &["oci-cp", "a", ":b", "--chmod", "8"]] {
            Args::try_parse_from(words).expect_err("wrong");
        }
    }
}
