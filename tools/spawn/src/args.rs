//! The command line, and which of its options go together.

use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use clap::Parser;
use cli::{Common, Failure};
use runtime::convert::Network;

use store::State;

use crate::launch::Console;
use crate::monitor::{Driver, LogOption};
use crate::mounts::{self, Given};

/// The tool's name.
pub(crate) const TOOL: &str = "oci-spawn";

const AFTER_HELP: &str = "\
Options before `--` hold for this run only and are never recorded.

A cache (--mount type=cache) is a directory of the store that outlives runs and containers; oci-prune --caches removes it. A \
secret (type=secret) is a file in memory, /run/secrets/ID unless a target is given, that only root of the container can read \
(mode=0400); without src and env it is the environment variable ID of the caller, else the file ID.

Which of these go together (everything else is exit 2):

              -d    --pass  -i    -t    --stdin  --stdout  --stderr
    -d        .     no      yes   yes   yes      yes       yes
    --pass    no    .       yes   yes   yes      yes       yes
    -i        yes   yes     .     yes   no       yes       yes
    -t        yes   yes     yes   .     no       no        no

Without -i the container's stdin is /dev/null. With -d its output goes to the container's log, with --pass to stderr; -i and \
-t are for who attaches then (oci-spawn attach).

Exit status: the command's own; 128+n after signal n; 125 the tool failed, 126 the command cannot be executed, 127 it does \
not exist; 2 usage, 9 the container runs already, 10 no line on stdin. With -d and --pass, where lines go on, a failure of \
the tool has the status of its kind as with the other tools.

It is an OCI runtime, too, with the verbs and options of runc: create, start, state, kill, delete, run, exec, ps, list, pause, \
resume, update, events, features, spec; and it drives the store's containers: start, stop, restart, wait, logs, attach, ... \
`oci-spawn help` lists the verbs, `oci-spawn VERB --help` describes one.

    oci-pull debian:12 | oci-unpack | oci-mount --rm | oci-spawn -- cat /etc/os-release";

/// Ours, and that of the runtime specification.
pub(crate) static VERSION: LazyLock<String> =
    LazyLock::new(|| format!("{}\nspec: {}", env!("CARGO_PKG_VERSION"), runtime::lifecycle::SPECIFICATION));

/// Run the container of the line on stdin
#[derive(Debug, Clone, Parser)]
#[command(name = TOOL, version = VERSION.as_str(), max_term_width = 100, after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// A word that is no verb of the runtime face: refused with a hint
    #[arg(hide = true, value_name = "VERB")]
    pub(crate) verb: Option<String>,

    /// The command, in place of the container's own, for this run
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,

    /// Leave the container running in the background and print its line once the command runs
    #[arg(short, long)]
    pub(crate) detach: bool,

    /// Send the output to stderr and print the container's line for the next stage [always: after a failure too]
    #[arg(long, value_name = "WHEN", value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "success")]
    pub(crate) pass: Option<Pass>,

    /// Remove the container when it has ended, however it was made
    #[arg(long, conflicts_with = "pass")]
    pub(crate) rm: bool,

    /// Read one line from stdin and give what follows to the container; with -d, keep its stdin open for who attaches
    #[arg(short, long)]
    pub(crate) interactive: bool,

    /// Give the container a terminal, connected to this one; with -d, to who attaches
    #[arg(short, long)]
    pub(crate) tty: bool,

    /// The container's stdin: a file, or /dev/fd/N of the caller
    #[arg(long, value_name = "FILE")]
    pub(crate) stdin: Option<PathBuf>,

    /// The container's stdout: a file, or /dev/fd/N of the caller
    #[arg(long, value_name = "FILE")]
    pub(crate) stdout: Option<PathBuf>,

    /// The container's stderr: a file, or /dev/fd/N of the caller
    #[arg(long, value_name = "FILE")]
    pub(crate) stderr: Option<PathBuf>,

    /// Set an environment variable; without a value, the caller's
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub(crate) env: Vec<String>,

    /// Set the environment variables that FILE lists, one KEY[=VALUE] a line
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,

    /// The working directory
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,

    /// The user and group, by name or number as the container's files know them
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,

    /// Mount the host's SRC at DST (ro, rw, rshared, ...)
    #[arg(short, long, value_name = "SRC:DST[:OPT,...]", value_parser = mounts::short)]
    pub(crate) volume: Vec<Given>,

    /// Mount for this run: type=bind (src, target, ro), tmpfs (target, size, mode), cache (target, id, sharing=shared, private or
    /// locked, mode, uid, gid, ro), secret (id, src=FILE or env=VARIABLE, target, mode, uid, gid, required)
    #[arg(long, value_name = "type=TYPE,...", value_parser = mounts::long)]
    pub(crate) mount: Vec<Given>,

    /// Mount a file system in memory (size=64m,mode=1777,exec)
    #[arg(long, value_name = "DST[:OPT,...]", value_parser = mounts::tmpfs)]
    pub(crate) tmpfs: Vec<Given>,

    /// The network: none, private (a loopback interface of its own) or host
    #[arg(long, visible_alias = "network", value_name = "NET")]
    pub(crate) net: Option<Network>,

    /// How large /dev/shm is
    #[arg(long, value_name = "BYTES", value_parser = cli::units::bytes)]
    pub(crate) shm_size: Option<u64>,

    /// Do not pass the caller's proxy variables on to a container with a network
    #[arg(long)]
    pub(crate) no_http_proxy: bool,

    /// Write the process's id, as the host sees it, to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) pidfile: Option<PathBuf>,

    /// What keeps the output of a run with -d: json-file, the container's log, or none
    #[arg(long, value_name = "DRIVER", value_enum, hide_possible_values = true)]
    pub(crate) log_driver: Option<Driver>,

    /// How the log is kept: max-size=SIZE, where a file ends and its successor begins, and max-file=N, how many there are
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) log_opt: Vec<LogOption>,

    /// Seconds between the stop signal and SIGKILL [default: what it was made with, else 10]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) stop_timeout: Option<Duration>,

    #[command(flatten)]
    pub(crate) common: Common,
}

/// Whether stdout carries lines by the words of a wrong command line; without --pass or -d it is the container's.
pub(crate) fn carries_lines(words: &[String]) -> bool {
    const SHORT_WITH_VALUE: [char; 4] = ['e', 'w', 'u', 'v'];
    let detaches = |word: &String| {
        let cluster = word.strip_prefix('-').filter(|rest| !rest.starts_with('-')).unwrap_or_default();
        cluster.chars().take_while(|c| !SHORT_WITH_VALUE.contains(c)).any(|c| c == 'd')
    };
    words
        .iter()
        .any(|word| word == "--detach" || word == "--pass" || word.starts_with("--pass=") || detaches(word))
}

/// When the container's line is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Pass {
    /// After a command that ended with 0.
    Success,
    /// Whatever the command ended with.
    Always,
}

impl AsRef<Common> for Args {
    fn as_ref(&self) -> &Common {
        &self.common
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: u32 = text.parse().map_err(|_| format!("{text:?} is no number of seconds"))?;
    Ok(Duration::from_secs(seconds.into()))
}

impl Args {
    /// Refuses options that do not go together, and words that look like names.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if let Some(word) = &self.verb {
            let hint =
                format!("a container comes as a line: oci-inspect {word} | {TOOL}; a command follows --");
            return Err(
                Failure::usage("command line", format!("{word:?} is no verb of {TOOL}")).with_hint(hint)
            );
        }
        let (stdin, stdout, stderr) = (self.stdin.is_some(), self.stdout.is_some(), self.stderr.is_some());
        let conflicts = [
            (self.detach && self.pass.is_some(), "-d and --pass"),
            (!self.detach && self.log_driver.is_some(), "--log-driver and a run without -d"),
            (!self.detach && !self.log_opt.is_empty(), "--log-opt and a run without -d"),
            (self.interactive && stdin, "-i and --stdin"),
            (self.tty && stdin, "-t and --stdin"),
            (self.tty && stdout, "-t and --stdout"),
            (self.tty && stderr, "-t and --stderr"),
        ];
        match conflicts.iter().find(|(both, _)| *both) {
            Some((_, names)) => Err(Failure::usage("command line", format!("{names} do not go together"))
                .with_hint(format!("the table in {TOOL} --help says what does"))),
            None => Ok(()),
        }
    }

    /// The console of a run in the background: what is asked for here, and what the container was made with or had before.
    pub(crate) fn console(&self, state: &State) -> Console {
        let elsewhere = [&self.stdin, &self.stdout, &self.stderr].into_iter().any(Option::is_some);
        Console {
            tty: self.tty || (state.tty && !elsewhere),
            open_stdin: self.interactive || (state.open_stdin && self.stdin.is_none()),
        }
    }

    /// True where the container's line goes on to another stage.
    pub(crate) fn passes_on(&self) -> bool {
        self.detach || self.pass.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(words: &[&str]) -> Result<(), Failure> {
        let words = std::iter::once(&TOOL).chain(words);
        Args::try_parse_from(words).expect("arguments").check()
    }

    #[test]
    fn the_table_of_the_help_is_what_is_checked() {
        let options = ["-d", "--pass", "-i", "-t", "--stdin=f", "--stdout=f", "--stderr=f"];
        let table: Vec<Vec<&str>> = AFTER_HELP
            .lines()
            .filter(|line| line.starts_with("    -"))
            .map(|line| line.split_whitespace().skip(1).collect())
            .collect();
        assert_eq!(table.len(), 4);
        for (row, cells) in table.iter().enumerate() {
            for (column, cell) in cells.iter().enumerate() {
                if *cell != "." {
                    let result = check(&[options[row], options[column]]);
                    assert_eq!(result.is_ok(), *cell == "yes", "{} {}", options[row], options[column]);
                }
            }
        }
    }

    #[test]
    fn a_wrong_command_line_tells_whose_stdout_is() {
        for (words, lines) in [
            (&["--bogus", "--pass"][..], true),
            (&["-qd"], true),
            (&["--pass=sometimes"], true),
            (&["-ed", "-udaemon", "--bogus"], false),
        ] {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            assert_eq!(carries_lines(&words), lines, "{words:?}");
        }
    }

    #[test]
    fn a_name_as_first_word_is_usage_with_a_hint() {
        let failure = check(&["web"]).expect_err("no verb");
        assert_eq!(failure.exit(), 2);
        let line = failure.to_line(TOOL).expect("travels");
        assert!(line.hint.is_some_and(|hint| hint.contains("oci-inspect web | oci-spawn")));
    }

    #[test]
    fn pass_takes_its_value_only_after_an_equals_sign() {
        let args = Args::try_parse_from([TOOL, "--pass", "--", "always"]).expect("arguments");
        assert_eq!((args.pass, args.command), (Some(Pass::Success), vec!["always".to_string()]));
        let args = Args::try_parse_from([TOOL, "--pass=always"]).expect("arguments");
        assert_eq!(args.pass, Some(Pass::Always));
    }
}
