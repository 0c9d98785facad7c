//! The command line.

use std::path::PathBuf;

use cli::Common;
use descriptor::Platform;
use layer::Compression;

use crate::change::{self, Before, Change, ChangeError, Changes, Instruction};

/// Make an image from a container's files: one layer with all of them, or --layer, one more with the changes
#[derive(Debug, clap::Parser)]
#[command(name = "oci-commit", version, max_term_width = 100, after_help = AFTER)]
pub(crate) struct Args {
    /// The container's name or id, in place of lines on stdin
    #[arg(value_name = "CONTAINER", conflicts_with = "rootfs")]
    pub(crate) container: Option<String>,

    /// Write only what the container changed, as one layer on top of the image's own
    #[arg(long, conflicts_with = "rootfs")]
    pub(crate) layer: bool,

    /// Write what lies above this image's layers, the container's changes included, as one layer on top of them
    #[arg(long, value_name = "IMAGE", conflicts_with_all = ["layer", "rootfs"])]
    pub(crate) squash_since: Option<String>,

    /// Let the container's processes run on meanwhile; they stand still otherwise, so that no file is torn
    #[arg(long, conflicts_with = "rootfs")]
    pub(crate) no_pause: bool,

    /// Name the image; for several lines the name contains {name}, {platform}, or n in braces for the count
    #[arg(short, long = "tag", value_name = "REF")]
    pub(crate) tags: Vec<String>,

    /// Make the image from this directory; there is no container then
    #[arg(long, value_name = "DIR")]
    pub(crate) rootfs: Option<PathBuf>,

    /// What the files of --rootfs run on [default: this machine]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", requires = "rootfs")]
    pub(crate) platform: Option<Platform>,

    /// How the layer is compressed: gzip[:1-9], zstd[:1-19] or none
    #[arg(long, value_name = "METHOD", default_value = "gzip")]
    pub(crate) compression: Compression,

    /// Files and the image are not newer than this many seconds since 1970
    #[arg(long, value_name = "SECONDS", env = "SOURCE_DATE_EPOCH", hide_env_values = true)]
    pub(crate) source_date_epoch: Option<i64>,

    #[command(flatten)]
    pub(crate) config: ConfigArgs,

    #[command(flatten)]
    pub(crate) common: Common,
}

const AFTER: &str = "\
Containers made by `oci-mount --rm` are removed once the image is there. What was given to oci-mount (-e, -w, -u, -v, \
labels, a command) is not part of the image unless --inherit is given.";

/// Changes to the image's configuration.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Configuration")]
pub(crate) struct ConfigArgs {
    /// Apply an instruction of a Dockerfile: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL,
    /// STOPSIGNAL, USER, VOLUME or WORKDIR. Variables in it ($PATH) are the image's
    #[arg(short, long = "change", value_name = "INSTRUCTION")]
    changes: Vec<Instruction>,

    /// Set an environment variable; without a value, the caller's
    #[arg(short, long, value_name = "KEY[=VALUE]", value_parser = change::env_flag)]
    env: Vec<(String, String)>,

    /// The working directory of the image's command
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,

    /// The user of the image's command
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,

    /// The entrypoint: a JSON array, or a line for the shell. Clears the image's CMD unless --cmd is given
    #[arg(long, value_name = "COMMAND", allow_hyphen_values = true)]
    entrypoint: Option<String>,

    /// The command: a JSON array, or a line for the shell
    #[arg(long, value_name = "COMMAND", allow_hyphen_values = true)]
    cmd: Option<String>,

    /// Set a label
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = change::pair)]
    label: Vec<(String, String)>,

    /// Declare a port
    #[arg(long, value_name = "PORT[/PROTOCOL]", value_parser = change::expose_flag)]
    expose: Vec<Changes>,

    /// Declare a directory with data of its own
    #[arg(long, value_name = "DIR")]
    volume: Vec<String>,

    /// The signal that stops the image's command
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,

    /// Who made the image
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) author: Option<String>,

    /// What was done, for the image's history
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) message: Option<String>,

    /// Carry over what was given to oci-mount: environment, working directory, user, command, labels, volumes
    #[arg(long)]
    pub(crate) inherit: bool,
}

impl ConfigArgs {
    /// All changes in the order they apply: instructions first, flags over them. What instructions refer to is what was
    /// `before`, and what the instructions before made of it.
    pub(crate) fn changes(&self, mut before: Before) -> Result<Vec<Change>, ChangeError> {
        let mut all = Vec::new();
        for instruction in &self.changes {
            let changes = instruction.changes(&before)?;
            changes.iter().for_each(|change| before.note(change));
            all.extend(changes);
        }
        let pairs = |pairs: &[(String, String)], change: fn(String, String) -> Change| {
            pairs.iter().cloned().map(|(key, value)| change(key, value)).collect::<Vec<_>>()
        };
        all.extend(pairs(&self.env, Change::Env));
        all.extend(pairs(&self.label, Change::Label));
        all.extend(self.workdir.clone().map(Change::WorkingDir));
        all.extend(self.user.clone().map(Change::User));
        all.extend(self.entrypoint.as_deref().map(|text| Change::Entrypoint(change::command(text, &before))));
        all.extend(self.cmd.as_deref().map(|text| Change::Cmd(change::command(text, &before))));
        all.extend(self.expose.iter().flat_map(|ports| ports.0.clone()));
        all.extend(self.volume.iter().cloned().map(Change::Volume));
        all.extend(self.stop_signal.clone().map(Change::StopSignal));
        Ok(all)
    }
}

impl AsRef<Common> for Args {
    fn as_ref(&self) -> &Common {
        &self.common
    }
}
