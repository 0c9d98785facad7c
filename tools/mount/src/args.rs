//! The command line.

mod limits;
mod mounts;
mod network;
mod process;
mod security;
pub(crate) mod spaces;

use std::path::PathBuf;

use cli::Failure;
use store::{CreateDoc, Store};

use limits::Limits;
use mounts::Mounts;
use network::Network;
use process::Process;
use security::Isolation;

/// Make a container of each rootfs line on stdin, mount its root and print its line.
///
/// A container is a writable layer over the image's, with docker's defaults and the choices made here. Its directory is
/// an OCI bundle.
#[derive(Debug, clap::Parser)]
#[command(name = "oci-mount", version, max_term_width = 100, disable_help_flag = true)]
pub(crate) struct Args {
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,

    /// Remove containers, those named or those of the lines on stdin, instead of making any
    #[arg(long, conflicts_with_all = ["name", "rm", "keep_on_failure", "replace", "cidfile", "Process", "Limits", "Mounts", "Isolation", "Network"])]
    pub(crate) remove: bool,

    /// Give a container, the one named or that of the line on stdin, the name NEW instead of making any
    #[arg(long, value_name = "NEW", conflicts_with_all = ["remove", "force", "name", "rm", "keep_on_failure", "replace", "cidfile", "Process", "Limits", "Mounts", "Isolation", "Network"])]
    pub(crate) rename: Option<String>,

    /// Make volumes of the names given, or one without a name, and print their names, instead of making any container
    #[arg(long, conflicts_with_all = ["remove", "rename", "force", "name", "rm", "keep_on_failure", "replace", "cidfile", "Process", "Limits", "Mounts", "Isolation", "Network"])]
    pub(crate) create_volume: bool,

    /// With --create-volume: a label of the new volumes
    #[arg(long, value_name = "KEY[=VALUE]", requires = "create_volume", value_parser = process::label)]
    pub(crate) volume_label: Vec<(String, String)>,

    /// With --remove: also the volumes without a name that were made for them
    #[arg(long, requires = "remove")]
    pub(crate) volumes: bool,

    /// With --remove: containers by name or id; with --rename: one; with --create-volume: names of volumes
    #[arg(value_name = "NAME|ID")]
    pub(crate) removed: Vec<String>,

    /// With --remove or --replace: kill the container first where it runs
    #[arg(long)]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) choices: Choices,

    /// What to run in place of the image's CMD
    #[arg(last = true, value_name = "CMD", conflicts_with_all = ["remove", "rename", "create_volume"])]
    pub(crate) command: Vec<String>,

    #[command(flatten)]
    pub(crate) common: cli::Common,
}

/// What a container is made with.
#[derive(Debug, clap::Args)]
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

    /// Write the container's id to a file, which must not exist
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) process: Process,

    #[command(flatten)]
    pub(crate) limits: Limits,

    #[command(flatten)]
    pub(crate) mounts: Mounts,

    #[command(flatten)]
    pub(crate) isolation: Isolation,

    #[command(flatten)]
    pub(crate) network: Network,
}

impl Choices {
    /// Where CDI specifications are, where that was said.
    pub(crate) fn cdi_dirs(&self) -> &[PathBuf] {
        &self.isolation.cdi_spec_dir
    }

    /// All of them as create.json has them; `declared` are the volumes of the image itself.
    pub(crate) fn record(
        &self,
        store: &Store,
        command: &[String],
        declared: &[PathBuf],
    ) -> Result<CreateDoc, Failure> {
        let mut doc =
            CreateDoc { auto_remove: self.rm, keep_on_failure: self.keep_on_failure, ..CreateDoc::default() };
        self.process.record(&mut doc, command)?;
        self.limits.record(&mut doc)?;
        self.network.record(&mut doc, store, self.isolation.shares_names())?;
        self.isolation.record(&mut doc, store)?;
        self.mounts.record(&mut doc, store, declared)?;
        Ok(doc)
    }
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
    fn dockers_spellings_are_understood() {
        let words = "oci-mount --name web --rm -e A=1 -w /srv -u web:adm -v /a:/b:ro --net host -l k=v --entrypoint /e \
                     --read-only -- sh -c x";
        let args = Args::try_parse_from(words.split_whitespace()).expect("parse");
        let doc = args.choices.process;
        assert_eq!(doc.entrypoint, Some(process::Words(vec!["/e".into()])));
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
            "oci-mount --create-volume data -e A=1",
            "oci-mount --create-volume --remove data",
            "oci-mount --create-volume data -- sh",
            "oci-mount --volume-label a=b",
            "oci-mount --volumes",
            "oci-mount --remove --memory 1g",
            "oci-mount --remove --privileged",
            "oci-mount --remove --dns 1.1.1.1",
            "oci-mount --remove --tmpfs /run",
            "oci-mount --remove -e A=1",
        ] {
            Args::try_parse_from(words.split_whitespace()).expect_err(words);
        }
    }
}
