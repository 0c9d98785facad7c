//! The command line.

use std::path::PathBuf;

use runtime::Volume;
use runtime::convert::Network;

/// Make a container of each rootfs line on stdin, mount its root and print its line.
///
/// A container is a writable layer over the image's, with docker's defaults and the choices made here. Its directory is
/// an OCI bundle. Volumes that the image declares are directories of the writable layer.
#[derive(Debug, clap::Parser)]
#[command(name = "oci-mount", version, max_term_width = 100)]
pub(crate) struct Args {
    /// Remove containers, those named or those of the lines on stdin, instead of making any
    #[arg(long)]
    pub(crate) remove: bool,

    /// Give a container, the one named or that of the line on stdin, the name NEW instead of making any
    #[arg(long, value_name = "NEW", conflicts_with_all = ["remove", "force"])]
    pub(crate) rename: Option<String>,

    /// With --remove: containers by name or id; with --rename: one
    #[arg(value_name = "NAME|ID")]
    pub(crate) removed: Vec<String>,

    /// With --remove or --replace: kill the container first where it runs
    #[arg(long)]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) choices: Choices,

    /// What to run in place of the image's CMD
    #[arg(last = true, value_name = "CMD", conflicts_with_all = ["remove", "rename"])]
    pub(crate) command: Vec<String>,

    #[command(flatten)]
    pub(crate) common: cli::Common,
}

/// What a container is made with.
#[derive(Debug, clap::Args)]
#[group(conflicts_with_all = ["remove", "rename"])]
pub(crate) struct Choices {
    /// The container's name [default: two words]; n or platform in braces stands for the line's number or platform
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// Remove the container when its journey ends
    #[arg(long)]
    pub(crate) rm: bool,

    /// With --rm: keep it after a failure, and say how to enter it
    #[arg(long, requires = "rm")]
    pub(crate) keep_on_failure: bool,

    /// Take the name over: a container that has it is removed
    #[arg(long, requires = "name")]
    pub(crate) replace: bool,

    /// Set an environment variable; without a value, the caller's
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub(crate) env: Vec<String>,

    /// Set the environment variables that FILE lists, one KEY[=VALUE] a line
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,

    /// The working directory
    #[arg(short, long, value_name = "DIR", value_parser = absolute)]
    pub(crate) workdir: Option<String>,

    /// The user and group, by name or number as the container's files know them
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,

    /// Mount the host's SRC at DST
    #[arg(short, long, value_name = "SRC:DST[:ro]")]
    pub(crate) volume: Vec<Volume>,

    /// The network: none, private (a loopback interface of its own) or host
    #[arg(
        long,
        visible_alias = "network",
        value_name = "NET",
        env = "OCIPIPE_NET",
        default_value = "private"
    )]
    pub(crate) net: Network,

    /// The host name [default: 12 digits of the id, or the host's with --net host]
    #[arg(long, value_name = "NAME", value_parser = hostname)]
    pub(crate) hostname: Option<String>,

    /// In place of the image's ENTRYPOINT, whose CMD then does not apply; "" for none, or a JSON array
    #[arg(long, value_name = "CMD", value_parser = entrypoint)]
    pub(crate) entrypoint: Option<Words>,

    /// No writes to the root file system
    #[arg(long)]
    pub(crate) read_only: bool,

    /// Set a label
    #[arg(short, long, value_name = "KEY[=VALUE]", value_parser = label)]
    pub(crate) label: Vec<(String, String)>,

    /// Do not pass the caller's proxy variables on to a container with a network
    #[arg(long)]
    pub(crate) no_http_proxy: bool,
}

impl AsRef<cli::Common> for Args {
    fn as_ref(&self) -> &cli::Common {
        &self.common
    }
}

/// The words of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Words(pub(crate) Vec<String>);

fn entrypoint(text: &str) -> Result<Words, String> {
    if text.starts_with('[') {
        return serde_json::from_str(text).map(Words).map_err(|e| format!("no JSON array of strings: {e}"));
    }
    Ok(Words(if text.is_empty() { Vec::new() } else { vec![text.into()] }))
}

fn absolute(text: &str) -> Result<String, String> {
    if text.starts_with('/') { Ok(text.into()) } else { Err("it has to be absolute".into()) }
}

/// A host name goes into files and into the kernel: letters, digits, `-` and `.`, as many as the kernel takes.
fn hostname(text: &str) -> Result<String, String> {
    const LONGEST: usize = 64;
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if text.is_empty() || text.len() > LONGEST || !text.bytes().all(legal) || text.starts_with(['-', '.']) {
        return Err(format!("1 to {LONGEST} letters, digits, - _ and . , the first a letter or a digit"));
    }
    Ok(text.into())
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() { Err("a label without a name".into()) } else { Ok((key.into(), value.into())) }
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
    fn dockers_spellings_are_understood() {
        let words = "oci-mount --name web --rm -e A=1 -w /srv -u web:adm -v /a:/b:ro --net host -l k=v --entrypoint /e \
                     --read-only -- sh -c x";
        let args = Args::try_parse_from(words.split_whitespace()).expect("parse");
        assert_eq!(args.choices.entrypoint, Some(Words(vec!["/e".into()])));
        assert_eq!(args.choices.net, Network::Host);
        assert_eq!(args.command, ["sh", "-c", "x"]);
    }

    #[test]
    fn names_to_remove_stand_anywhere() {
        for words in [
            "oci-mount --remove web db",
            "oci-mount --remove --force web db",
            "oci-mount web --remove db --force",
        ] {
            let args = Args::try_parse_from(words.split_whitespace()).expect(words);
            assert_eq!(
                (args.remove, args.removed),
                (true, vec!["web".to_string(), "db".to_string()]),
                "{words}"
            );
        }
    }

    #[test]
    fn contradictions_are_refused() {
        for words in [
            "oci-mount --keep-on-failure",
            "oci-mount --replace",
            "oci-mount --remove web --name web",
            "oci-mount --remove web -- sh",
            "oci-mount --rename",
            "oci-mount --rename new web --remove",
            "oci-mount --rename new web --name x",
            "oci-mount --rename new web -- sh",
            "oci-mount -w relative",
            "oci-mount --hostname a/b",
            "oci-mount --net bridge",
        ] {
            Args::try_parse_from(words.split_whitespace()).expect_err(words);
        }
    }
}
