//! The command line.

use std::path::PathBuf;

use crate::place::Place;

const USAGE: &str = "\
oci-cp [OPTIONS] SRC... [NAME]:DST
       oci-cp [OPTIONS] [NAME]:SRC... DST
       oci-cp [OPTIONS] --from NAME|REF SRC... [NAME]:DST
       oci-cp [OPTIONS] - NAME:DIR < TAR
       oci-cp [OPTIONS] [NAME]:SRC - > TAR";

const AFTER: &str = "\
With - there is no line where the archive is. An archive on stdin (plain, gzip or zstd) goes into a directory that is there, of \
the container NAME or of the line that --line FILE has; members keep their owners, permissions and times, and device nodes \
are made with --archive only. An archive on stdout has SRC under its last name, with SRC/. what is in it; NAME:/ - is docker \
export. What is mounted in a container is left out, unless SRC is that or lies in it. The container's line goes to --line FILE.

    oci-cp web:/etc - | tar -t
    oci-pull builder:1 | oci-unpack >/dev/null; oci-inspect web | oci-cp --from builder:1 /app/. :/app | oci-commit";

/// Copy files into a container (SRC... :DST) or out of it (:SRC... DST), and pass its line on.
///
/// The container is that of the line on stdin, or NAME's in NAME:PATH. Copied out for several lines, DST contains {name}, or
/// n in braces for the count. Rules are docker cp's: into an existing directory,
/// else under the new name; SRC/. is what is in a directory. Links are copied, not followed. Directories that are there
/// already keep their owner and permissions. A running or paused container is seen as its process sees it, volumes included;
/// of a stopped one, the container's own files. Directories are copied up to 300 deep.
#[derive(Debug, clap::Parser)]
#[command(name = "oci-cp", version, max_term_width = 100, override_usage = USAGE, after_help = AFTER)]
pub(crate) struct Args {
    /// What to copy, and where to: [NAME]:PATH is in the container, - an archive on stdin or stdout
    #[arg(required = true, num_args = 2.., value_name = "PATH")]
    pub(crate) paths: Vec<Place>,

    /// The owner of what is copied [default: 0:0 in the container, the caller outside, an archive's own]
    #[arg(long, value_name = "USER[:GROUP]")]
    pub(crate) chown: Option<String>,

    /// Keep the owner and group of what is copied, and make the device nodes of an archive
    #[arg(short, long, conflicts_with = "chown")]
    pub(crate) archive: bool,

    /// Where SRC itself is a link, copy what it leads to, under the link's name
    #[arg(short = 'L', long)]
    pub(crate) follow_link: bool,

    /// Copy from this container, or from an image of the store, instead of from the host or the container of the line
    #[arg(long, value_name = "NAME|REF")]
    pub(crate) from: Option<String>,

    /// Leave out what FILE says in .dockerignore's rules, of the paths below each directory SRC
    #[arg(long, value_name = "FILE", conflicts_with = "dockerignore")]
    pub(crate) ignore_file: Option<PathBuf>,

    /// Leave out what the file .dockerignore in each directory SRC says, where there is one
    #[arg(long)]
    pub(crate) dockerignore: bool,

    /// With an archive on stdin or stdout, where the line is that is otherwise there
    #[arg(long, value_name = "FILE")]
    pub(crate) line: Option<PathBuf>,

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
