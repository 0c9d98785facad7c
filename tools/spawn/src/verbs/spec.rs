//! `spec`: a configuration to begin with.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use runtime::Error;

use crate::verbs::Result;

/// Its arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The directory to write config.json to
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,

    /// For a container that needs no rights on the host
    #[arg(long)]
    rootless: bool,
}

/// Writes it; one that is there is left.
pub(crate) fn spec(args: &Args) -> Result<u8> {
    let path = args.bundle.join("config.json");
    let failed = |source| Error::File { path: path.clone(), source };
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed)?;
    file.write_all(runtime::example(args.rootless).as_bytes()).map_err(failed)?;
    Ok(0)
}
