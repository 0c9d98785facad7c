//! `logs`: what a container said in the background, stdout to stdout and stderr to stderr.

use std::io::Write;
use std::str::FromStr;

use cli::{Common, During, Failure, Stage};
use descriptor::Exit;
use serde::Deserialize;

use crate::containers::follow::{Followed, Reader};
use crate::containers::moment::Moment;
use crate::containers::named;

/// Its arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Go on until the container has ended
    #[arg(short, long)]
    follow: bool,

    /// Only what it said from then on: a moment (RFC 3339, UTC where it names no zone; seconds since 1970), or how long ago
    #[arg(long, value_name = "WHEN")]
    since: Option<Moment>,

    /// Only what it said until then
    #[arg(long, value_name = "WHEN")]
    until: Option<Moment>,

    /// How many lines from the end, or all
    #[arg(short = 'n', long, value_name = "N", default_value = "all")]
    tail: Tail,

    /// When it said that before each line
    #[arg(short, long)]
    timestamps: bool,

    /// Its name, its id, or digits that only its id begins with; without it, the line on stdin
    #[arg(value_name = "CONTAINER")]
    name: Option<String>,
}

/// How much of the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tail(Option<u64>);

impl FromStr for Tail {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(lines) => Ok(Self(Some(lines))),
            // As with docker a negative number is no limit.
            Err(_) if text == "all" || text.parse::<i64>().is_ok_and(i64::is_negative) => Ok(Self(None)),
            Err(_) => Err(format!("{text:?} is no number of lines")),
        }
    }
}

/// An object of the log.
#[derive(Debug, Deserialize)]
struct Said<'a> {
    #[serde(borrow)]
    log: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    stream: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    time: std::borrow::Cow<'a, str>,
}

/// Prints the log.
pub(crate) fn logs(common: &Common, args: &Args, stage: &mut Stage) -> Result<u8, Failure> {
    stage.keep_errors_home();
    let container = named::single(common, args.name.as_deref(), "one log at a time", stage)?;
    let what = || format!("the log of container {}", container.name());
    let failed = |e: sys::Error| Failure::new(Exit::Other, what(), e);
    let mut reader = Reader::open(container.root().during(what)?).map_err(failed)?;
    if let Tail(Some(lines)) = args.tail {
        reader.skip_to_last(lines).map_err(failed)?;
    }
    let mut printer = Printer { args, broken: 0 };
    loop {
        // Asked before reading: what was said until its end is in the log by then.
        let followed = if args.follow { Followed::of(&container) } else { Followed::Ended };
        let mut end = None;
        reader.read(|line| {
            end = end.take().or(printer.print(line)?);
            Ok(end.is_none())
        })?;
        if end.is_some() || followed == Followed::Ended {
            break;
        }
        if args.until.is_some_and(|Moment(until)| std::time::SystemTime::now() > until) {
            break;
        }
        reader.wait();
    }
    if printer.broken > 0 {
        stage.warn(&format!("{}: {} lines of it are no JSON and were left out", what(), printer.broken));
    }
    Ok(0)
}

#[derive(Debug)]
struct Printer<'a> {
    args: &'a Args,
    broken: u64,
}

/// All that was asked for is printed.
#[derive(Debug)]
struct Done;

impl Printer<'_> {
    fn print(&mut self, line: &[u8]) -> Result<Option<Done>, Failure> {
        let Ok(said) = serde_json::from_slice::<Said>(line) else {
            self.broken += 1;
            return Ok(None);
        };
        if self.args.since.is_some() || self.args.until.is_some() {
            let when = descriptor::moment::parse(&said.time).map(Moment);
            if when < self.args.since {
                return Ok(None);
            }
            if self.args.until.is_some_and(|until| when > Some(until)) {
                return Ok(Some(Done));
            }
        }
        let mut text = String::new();
        if self.args.timestamps {
            text.push_str(&said.time);
            text.push(' ');
        }
        text.push_str(&said.log);
        let written = match &*said.stream {
            "stderr" => std::io::stderr().write_all(text.as_bytes()),
            _ => std::io::stdout().write_all(text.as_bytes()),
        };
        written.map(|()| None).map_err(|error| Failure::unwritten("what it said", &error))
    }
}
