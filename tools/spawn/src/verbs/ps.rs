//! `ps`: the processes of a container, as ps(1) of the host shows them.

use std::process::Command;

use clap::ValueEnum;
use runtime::Error;
use runtime::lifecycle::{self, Id};

use crate::verbs::print;
use crate::verbs::{Global, Result};

/// Its arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Everything after the id goes to ps(1); its output must have a column PID.")]
pub(crate) struct Args {
    /// How they are shown
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value = "table")]
    format: Format,

    /// The container's id, and the options of ps(1) [default: -ef]
    #[arg(value_names = ["ID", "OPTION"], required = true, trailing_var_arg = true)]
    words: Vec<String>,
}

impl Args {
    /// The container's id.
    pub(super) fn id(&self) -> Option<&str> {
        self.words.first().map(String::as_str)
    }
}

/// How a list is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Lines for people.
    Table,
    /// JSON.
    Json,
}

/// Prints them.
pub(crate) fn ps(global: &Global, args: &Args) -> Result<u8> {
    let (id, options) = args.words.split_first().ok_or(Error::Incomplete("container id"))?;
    let pids = lifecycle::processes(&global.runtimes()?.look(&id.parse::<Id>()?)?)?;
    if args.format == Format::Json {
        print::line(serde_json::json!(pids))?;
        return Ok(0);
    }
    for line in listed(&table(options)?, &pids)? {
        print::line(line)?;
    }
    Ok(0)
}

/// What ps(1) says.
pub(crate) fn table(options: &[String]) -> Result<String> {
    let failed = |source| Error::File { path: "ps".into(), source };
    let mut command = Command::new("ps");
    if options.is_empty() {
        command.arg("-ef");
    }
    let output = command.args(options).output().map_err(failed)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    // What follows the first line is how ps is used.
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let said = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it failed without a word");
    Err(failed(std::io::Error::other(said.trim_start_matches("error: ").to_string())))
}

/// The title and the lines of these processes.
pub(crate) fn listed<'a>(table: &'a str, pids: &[u32]) -> Result<Vec<&'a str>> {
    let failed =
        |why: &str| Error::File { path: "ps".into(), source: std::io::Error::other(why.to_string()) };
    let mut lines = table.lines();
    let title = lines.next().unwrap_or_default();
    let column = title.split_whitespace().position(|name| name == "PID");
    let column = column.ok_or_else(|| failed("couldn't find PID field in ps output"))?;
    let mut found = vec![title];
    for line in lines.filter(|line| !line.trim().is_empty()) {
        let number = line.split_whitespace().nth(column).and_then(|field| field.parse().ok());
        if pids.contains(&number.ok_or_else(|| failed("a line of its output has no PID"))?) {
            found.push(line);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_title_and_the_containers_lines_are_kept() {
        let table =
            "UID   PID  PPID CMD\nroot    1     0 init\nroot   12     1 sleep 12\n\nroot   13     1 sh\n";
        assert_eq!(
            listed(table, &[12]).expect("a table"),
            ["UID   PID  PPID CMD", "root   12     1 sleep 12"]
        );
        assert!(listed("USER COMMAND\nroot sh\n", &[1]).is_err());
        assert!(listed("PID\nx\n", &[1]).is_err());
    }
}
