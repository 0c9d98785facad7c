//! The command line.

use std::time::SystemTime;

use descriptor::Platform;

use crate::form::{Format, Path};

const USAGE: &str = "\
oci-inspect [OPTIONS] [WHAT]...
       oci-inspect LIST [OPTIONS]";

const AFTER_HELP: &str = "\
Without --format: a line in a pipe, a report on a terminal. Lists of images and containers are lines in a pipe and tables on \
a terminal; all other lists are the same text everywhere.

The first word decides: a container or an image that is named like a list is reached behind `--`, or by its id.

    oci-inspect web | oci-spawn -d
    oci-inspect --field State.Status --format docker web
    oci-inspect -f '{{.State.Pid}}' web
    oci-inspect containers -a --filter status=exited -q";

/// Show images, layers and containers by any of their names, and the store.
///
/// Reads lines from stdin where nothing is named. Prints a line in a pipe and a report on a terminal.
#[derive(Debug, clap::Parser)]
#[command(name = "oci-inspect", version, max_term_width = 100, disable_help_subcommand = true, after_help = AFTER_HELP)]
#[command(subcommand_value_name = "LIST", subcommand_help_heading = "Lists", override_usage = USAGE)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) list: Option<List>,

    #[command(flatten)]
    pub(crate) one: One,

    #[command(flatten)]
    pub(crate) common: cli::Common,
}

/// What is asked about things that are named.
#[derive(Debug, clap::Args)]
pub(crate) struct One {
    /// A reference, digest, container's name or id, volume's name, or the first four digits or more of a digest or id
    #[arg(value_name = "WHAT")]
    pub(crate) what: Vec<String>,

    /// How it is shown: line, table, json (all there is to say), docker (docker's document), or a template of docker's members
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) format: Option<Format>,

    /// A member alone, State.Status say: of docker's document with --format docker, else of ours; a string without quotes
    #[arg(long, value_name = "PATH", conflicts_with_all = ["raw", "check"])]
    pub(crate) field: Vec<Path>,

    /// All there is to say, as JSON: the same as --format json
    #[arg(long, conflicts_with_all = ["raw", "check", "format"])]
    pub(crate) full: bool,

    /// With docker's document of a container: how much it wrote, and that with its image
    #[arg(short, long)]
    pub(crate) size: bool,

    /// What is named is of this kind, whatever else has that name
    #[arg(long = "type", value_name = "KIND", value_enum)]
    pub(crate) kind: Option<Kind>,

    /// The exact bytes of an image's manifest or index
    #[arg(long, conflicts_with_all = ["manifests", "check", "format"])]
    pub(crate) raw: bool,

    /// Of an index, the images in it that the store has, one by one
    #[arg(long, conflicts_with = "check")]
    pub(crate) manifests: bool,

    /// Of an index, its image for this platform [default: the index itself]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", conflicts_with = "check")]
    pub(crate) platform: Option<Platform>,

    /// Read all blobs again, compare unpacked layers with theirs, and look for what is damaged or half-made: one JSON document
    /// each in a pipe, a table on a terminal; exit 6 where something is. Nothing is changed
    #[arg(long, conflicts_with_all = ["what", "format"])]
    pub(crate) check: bool,

    /// Check, and remove what is bad and can be had again (oci-pull fetches it, oci-unpack makes it), move aside or name what
    /// cannot; what is in use stays. Exit 6 where something is left
    #[arg(long, conflicts_with_all = ["what", "format", "field", "full", "raw", "manifests", "platform"])]
    pub(crate) repair: bool,
}

impl One {
    /// The first option that was given, where a list takes none of them.
    pub(crate) fn given(&self) -> Option<&'static str> {
        [
            (!self.what.is_empty(), "a name"),
            (self.format.is_some(), "--format"),
            (!self.field.is_empty(), "--field"),
            (self.full, "--full"),
            (self.size, "--size"),
            (self.kind.is_some(), "--type"),
            (self.raw, "--raw"),
            (self.manifests, "--manifests"),
            (self.platform.is_some(), "--platform"),
            (self.check, "--check"),
            (self.repair, "--repair"),
        ]
        .into_iter()
        .find_map(|(given, name)| given.then_some(name))
    }
}

/// A kind of thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// A container.
    Container,
    /// An image.
    Image,
    /// A volume.
    Volume,
}

/// A list, by the first word.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum List {
    /// Containers: those that run, or all
    #[command(visible_alias = "ps")]
    Containers(ContainersArgs),
    /// Images
    Images(ImagesArgs),
    /// Volumes
    Volumes(VolumesArgs),
    /// How an image was made, the last step first
    History(HistoryArgs),
    /// What a container changed of its image: A added, C changed, D deleted
    Diff(DiffArgs),
    /// Layers, what they take on the disk, and who has them
    Layers(LayersArgs),
    /// A picture of what is shared: layers upon layers, images and containers on top
    Tree(TreeArgs),
    /// What the store takes on the disk, and would without sharing
    Df(DfArgs),
    /// The processes of a container
    Top(TopArgs),
    /// What containers use of the machine, again and again
    Stats(StatsArgs),
    /// What happened in the store
    Events(EventsArgs),
}

/// How a list is shown.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ListForm {
    /// How it is shown: line, table, json (an object a row), or a template of the columns, {{.Names}} say
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<Format>,

    /// Whole ids and commands
    #[arg(long)]
    pub(crate) no_trunc: bool,
}

/// `containers`.
#[derive(Debug, clap::Args)]
pub(crate) struct ContainersArgs {
    /// Those that do not run, too
    #[arg(short, long)]
    pub(crate) all: bool,

    /// Only those of which this is true: status=exited, name=web, label=k=v, ancestor=IMAGE, ...
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,

    /// How much they wrote, and that with their images
    #[arg(short, long)]
    pub(crate) size: bool,

    /// The one that was made last, whether it runs or not
    #[arg(short, long)]
    pub(crate) latest: bool,

    /// So many that were made last, whether they run or not
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) last: Option<usize>,

    #[command(flatten)]
    pub(crate) form: ListForm,
}

/// `images`.
#[derive(Debug, clap::Args)]
pub(crate) struct ImagesArgs {
    /// Only those whose name is this, with or without a tag; `*` stands for any text but a slash
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub(crate) name: Option<String>,

    /// Accepted for docker's sake: there are no intermediate images
    #[arg(short, long)]
    pub(crate) all: bool,

    /// Only those of which this is true: dangling=true, label=k=v, reference=PATTERN, before=IMAGE, since=IMAGE
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,

    /// The digests of their manifests
    #[arg(long)]
    pub(crate) digests: bool,

    #[command(flatten)]
    pub(crate) form: ListForm,
}

/// `volumes`.
#[derive(Debug, clap::Args)]
pub(crate) struct VolumesArgs {
    /// Only those of which this is true: dangling=true, name=data, label=k=v, ...
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,

    #[command(flatten)]
    pub(crate) form: ListForm,
}

/// `history`.
#[derive(Debug, clap::Args)]
pub(crate) struct HistoryArgs {
    /// The image
    pub(crate) image: String,

    /// Of an index, its image for this platform [default: the host's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<Platform>,

    #[command(flatten)]
    pub(crate) form: ListForm,
}

/// `diff`.
#[derive(Debug, clap::Args)]
pub(crate) struct DiffArgs {
    /// The container, by name or id
    pub(crate) name: String,

    /// table or json (an object a change)
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<Format>,
}

/// `layers`.
#[derive(Debug, clap::Args)]
pub(crate) struct LayersArgs {
    /// Those of an image or a container, the lowest first
    pub(crate) image: Option<String>,

    #[command(flatten)]
    pub(crate) form: ListForm,
}

/// `tree`.
#[derive(Debug, clap::Args)]
pub(crate) struct TreeArgs {
    /// Only what lies upon the lowest layer of this image or container
    pub(crate) image: Option<String>,
}

/// `df`.
#[derive(Debug, clap::Args)]
pub(crate) struct DfArgs {
    /// Each image, container and volume
    #[arg(short, long)]
    pub(crate) verbose: bool,

    #[command(flatten)]
    pub(crate) form: ListForm,
}

/// `top`.
#[derive(Debug, clap::Args)]
pub(crate) struct TopArgs {
    /// The container, by name or id
    pub(crate) name: String,

    #[command(flatten)]
    pub(crate) form: ListForm,
}

/// `stats`.
#[derive(Debug, clap::Args)]
pub(crate) struct StatsArgs {
    /// Containers by name or id [default: all that run]
    pub(crate) names: Vec<String>,

    /// Those that do not run, too
    #[arg(short, long)]
    pub(crate) all: bool,

    /// Once, after two looks
    #[arg(long)]
    pub(crate) no_stream: bool,

    #[command(flatten)]
    pub(crate) form: ListForm,
}

/// `events`.
#[derive(Debug, clap::Args)]
pub(crate) struct EventsArgs {
    /// None before: a moment, a date, seconds since 1970, or a time before now such as 10m
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) since: Option<SystemTime>,

    /// None after, and then no waiting for more
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) until: Option<SystemTime>,

    /// Only those of which this is true: type=container, event=die, container=web, image=app:1, volume=data, label=k=v
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,

    /// Wait for more; without --since those to come alone
    #[arg(short, long)]
    pub(crate) follow: bool,

    /// table (a line each), json, or a template of docker's members, {{.Action}} say
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<Format>,
}

fn moment(text: &str) -> Result<SystemTime, String> {
    let why = "a moment, a date, seconds since 1970, or a time before now such as 1h30m is wanted";
    store::filter::moment_of(text).ok_or_else(|| why.into())
}

impl AsRef<cli::Common> for Args {
    fn as_ref(&self) -> &cli::Common {
        &self.common
    }
}

/// Whether stdout carries lines by the words of a wrong command line: members and documents are for scripts.
pub(crate) fn carries_lines(words: &[String]) -> bool {
    !words.iter().any(|word| word == "-f" || word.starts_with("--format") || word.starts_with("--field"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    fn parse(words: &[&str]) -> Args {
        Args::try_parse_from([&["oci-inspect"], words].concat()).expect("parse")
    }

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_first_word_decides_between_a_list_and_a_name() {
        assert!(matches!(parse(&["containers"]).list, Some(List::Containers(_))));
        assert!(matches!(parse(&["ps", "-a", "-q"]).list, Some(List::Containers(args)) if args.all));
        let args = parse(&["--store", "/s", "images", "-q"]);
        assert!(matches!(args.list, Some(List::Images(_))) && args.common.quiet);
        for (words, want) in [
            (&["web", "images"][..], &["web", "images"][..]),
            (&["--", "images"], &["images"]),
            (&["help"], &["help"]),
        ] {
            let args = parse(words);
            assert!(args.list.is_none(), "{words:?}");
            assert_eq!(args.one.what, want);
        }
    }
}
