//! From the command line to the exit status: the same way for every tool.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use descriptor::Exit;

use crate::{Common, Failure, LogFormat, Stage};

/// Parses the arguments, runs the tool and turns its end into messages, an error line and the exit status.
///
/// `tool` returns the status it wants to exit with.
pub fn run<A>(name: &'static str, tool: impl FnOnce(A, &mut Stage) -> Result<u8, Failure>) -> ExitCode
where
    A: Parser + AsRef<Common>,
{
    run_with(name, |_| true, tool)
}

/// As [`run`], for a tool whose stdout does not always carry lines: `carries_lines` tells from the words of a
/// command line that cannot be read whether an error line belongs there.
pub fn run_with<A>(
    name: &'static str,
    carries_lines: fn(&[String]) -> bool,
    tool: impl FnOnce(A, &mut Stage) -> Result<u8, Failure>,
) -> ExitCode
where
    A: Parser + AsRef<Common>,
{
    let args = match A::try_parse() {
        Ok(args) => args,
        Err(error) => return refused(name, &error, carries_lines),
    };
    let mut stage = Stage::new(name, Some(args.as_ref()));
    match tool(args, &mut stage) {
        Ok(status) => status.into(),
        Err(failure) => {
            stage.fail(&failure);
            failure.exit().into()
        }
    }
}

/// Help and version go to stdout with status 0; a wrong command line to stderr, and as an error line down the pipe.
fn refused(name: &'static str, error: &clap::Error, carries_lines: fn(&[String]) -> bool) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // A reader that is gone (`--help | head`) needs no message.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.render().to_string();
    let mut paragraphs = text.trim().trim_start_matches("error: ").split("\n\n");
    let why = paragraphs.next().unwrap_or("wrong");
    let why = why.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let failure = Failure::usage("command line", why).with_hint(format!("{name} --help"));
    let words: Vec<String> = options(std::env::args_os().skip(1));
    let mut stage = Stage::new(name, None).with_format(log_format(&words));
    if !carries_lines(&words) {
        stage.keep_errors_home();
    }
    stage.fail(&failure);
    Exit::Usage.code().into()
}

/// The words before `--`.
fn options(args: impl Iterator<Item = OsString>) -> Vec<String> {
    args.map(|word| word.to_string_lossy().into_owned()).take_while(|word| word != "--").collect()
}

/// What `--log-format` says, on a command line that is wrong in another place.
fn log_format(words: &[String]) -> LogFormat {
    let spaced = words.windows(2).any(|pair| pair == ["--log-format", "json"]);
    if spaced || words.iter().any(|word| word == "--log-format=json") {
        LogFormat::Json
    } else {
        LogFormat::Text
    }
}
