//! The arguments every tool has.

use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};

/// Arguments of every tool.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Common options")]
pub struct Common {
    /// Keep images and containers in DIR [default: /var/lib/ocipipe for root, else $XDG_DATA_HOME/ocipipe]
    #[arg(long, value_name = "DIR", env = "OCIPIPE_STORE", hide_env_values = true, global = true,
          value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub store: Option<PathBuf>,

    /// How messages look on stderr
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text, global = true)]
    pub log_format: LogFormat,

    /// No progress and no notes on stderr, only warnings and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,

    /// Stop at the first of several lines that fails
    #[arg(long, global = true)]
    pub fail_fast: bool,
}

/// How messages look on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// `tool: what: why`, and a line with a hint.
    Text,
    /// One JSON object a line.
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Tool {
        #[command(flatten)]
        common: Common,
    }

    #[test]
    fn an_empty_store_is_no_mistake() {
        // As an empty OCIPIPE_STORE gives it; the store's own default follows.
        let tool = Tool::try_parse_from(["tool", "--store", ""]).expect("parse");
        assert_eq!(tool.common.store, Some(PathBuf::new()));
    }
}
