//! What runs in the container, and how it ends.

use std::path::PathBuf;

use cli::{During, Failure, units};
use descriptor::Exit;
use runtime::environment;
use store::CreateDoc;

/// Options of docker's json-file that would have no effect here.
const OTHER_LOG_OPTIONS: [&str; 8] =
    ["compress", "labels", "labels-regex", "env", "env-regex", "mode", "max-buffer-size", "tag"];

/// The process and its surroundings.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Process")]
pub(crate) struct Process {
    /// Set an environment variable; without a value, the caller's
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    env: Vec<String>,

    /// Set the environment variables that FILE lists, one KEY[=VALUE] a line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,

    /// The working directory
    #[arg(short, long, value_name = "DIR", value_parser = absolute)]
    workdir: Option<String>,

    /// The user and group, by name or number as the container's files know them
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,

    /// In place of the image's ENTRYPOINT, whose CMD then does not apply; "" for none, or a JSON array
    #[arg(long, value_name = "CMD", value_parser = entrypoint)]
    pub(super) entrypoint: Option<Words>,

    /// A small first process reaps what the command leaves behind, and forwards signals to it
    #[arg(long)]
    init: bool,

    /// Its input stays open where it is started in the background, for who attaches
    #[arg(short, long)]
    pub(crate) interactive: bool,

    /// It has a terminal where it is started in the background
    #[arg(short, long)]
    pub(crate) tty: bool,

    /// No writes to the root file system
    #[arg(long)]
    read_only: bool,

    /// Set a label
    #[arg(short, long, value_name = "KEY[=VALUE]", value_parser = label)]
    label: Vec<(String, String)>,

    /// Set the labels that FILE lists, one KEY[=VALUE] a line
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,

    /// The signal that asks it to stop [default: the image's, or SIGTERM]
    #[arg(long, value_name = "SIGNAL", value_parser = signal)]
    stop_signal: Option<String>,

    /// Seconds from that signal to SIGKILL
    #[arg(long, value_name = "SECONDS")]
    stop_timeout: Option<u32>,

    /// How its output is kept in the background: max-size=BYTES, max-file=N
    #[arg(long, value_name = "KEY=VALUE", value_parser = log_option)]
    log_opt: Vec<(String, String)>,
}

impl Process {
    /// Writes the choices down.
    pub(crate) fn record(&self, doc: &mut CreateDoc, command: &[String]) -> Result<(), Failure> {
        doc.process.entrypoint = self.entrypoint.as_ref().map(|words| words.0.clone());
        doc.process.args = (!command.is_empty()).then(|| command.to_vec());
        doc.process.env = environment::given(&self.env_file, &self.env).during(|| "environment".into())?;
        doc.process.cwd.clone_from(&self.workdir);
        doc.process.user.clone_from(&self.user);
        doc.init = self.init;
        doc.read_only = self.read_only;
        for file in &self.label_file {
            let what = || format!("--label-file {}", file.display());
            for line in environment::lines(file).during(what)? {
                let (key, value) = label(&line).map_err(|why| Failure::usage(what(), why))?;
                doc.labels.insert(key, value);
            }
        }
        doc.labels.extend(self.label.iter().cloned());
        doc.stop_signal.clone_from(&self.stop_signal);
        doc.stop_timeout = self.stop_timeout;
        for (key, value) in &self.log_opt {
            if OTHER_LOG_OPTIONS.contains(&key.as_str()) {
                let why = format!("{key} is not supported; there are max-size and max-file");
                return Err(Failure::new(Exit::Privilege, "--log-opt", why));
            }
            doc.log.insert(key.clone(), value.clone());
        }
        if doc.log.contains_key("max-file") && !doc.log.contains_key("max-size") {
            return Err(Failure::usage(
                "--log-opt",
                "max-file needs max-size: a file without an end has no successor",
            ));
        }
        Ok(())
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

pub(super) fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() { Err("a label without a name".into()) } else { Ok((key.into(), value.into())) }
}

/// A signal's name with SIG, or its number without one; both mean the same to the kernel.
fn signal(text: &str) -> Result<String, String> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    match runtime::signal_number(text) {
        Some(number) if text.parse::<i32>().is_ok() => Ok(number.to_string()),
        Some(_) => Ok(format!("SIG{name}")),
        None => Err(format!("invalid signal: {text:?}")),
    }
}

fn log_option(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is no KEY=VALUE"))?;
    let value = match key {
        "max-size" if value == "-1" => value.into(),
        "max-size" => match units::bytes(value)? {
            0 => return Err("max-size is not positive".into()),
            bytes => bytes.to_string(),
        },
        "max-file" => match value.parse::<u32>() {
            Ok(count) if count > 0 => count.to_string(),
            _ => return Err(format!("max-file is not a positive number: {value:?}")),
        },
        key if OTHER_LOG_OPTIONS.contains(&key) => value.into(),
        _ => return Err(format!("unknown log opt {key:?}")),
    };
    Ok((key.into(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_bounded_in_dockers_words() {
        assert_eq!(log_option("max-size=10m"), Ok(("max-size".into(), "10485760".into())));
        assert_eq!(log_option("max-file=3"), Ok(("max-file".into(), "3".into())));
        for text in ["max-size", "max-size=0", "max-size=x", "max-file=0", "other=1"] {
            log_option(text).expect_err(text);
        }
    }

    #[test]
    fn signals_have_one_spelling() {
        for (text, want) in
            [("term", "SIGTERM"), ("SIGTERM", "SIGTERM"), ("15", "15"), ("RTMIN+3", "SIGRTMIN+3")]
        {
            assert_eq!(signal(text).as_deref(), Ok(want), "{text}");
        }
        signal("nonsense").expect_err("no signal");
    }
}
