//! From the command line to the exit status: the same way for every tool.

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use descriptor::Exit;

use crate::{Common, Failure, Stage};

/// Parses the arguments, runs the tool and turns its end into messages, an error line and the exit status.
///
/// `tool` returns the status it wants to exit with.
pub fn run<A>(name: &'static str, tool: impl FnOnce(A, &mut Stage) -> Result<u8, Failure>) -> ExitCode
where
    A: Parser + AsRef<Common>,
{
    let args = match A::try_parse() {
        Ok(args) => args,
        Err(error) => return refused(name, &error),
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
fn refused(name: &'static str, error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // A reader that is gone (`--help | head`) needs no message.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.render().to_string();
    let mut paragraphs = text.trim().trim_start_matches("error: ").split("\n\n");
    let why = paragraphs.next().unwrap_or("wrong").replace('\n', " ");
    let failure = Failure::usage("command line", why).with_hint(format!("{name} --help"));
    Stage::new(name, None).fail(&failure);
    Exit::Usage.code().into()
}
