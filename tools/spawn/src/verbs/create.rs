//! `create`: a container that waits for `start`.

use runtime::lifecycle;

use crate::verbs::bundle::{self, Bundle};
use crate::verbs::{Global, Result, log};

/// Its arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    bundle: Bundle,
}

/// Makes it and leaves it waiting.
pub(crate) fn create(global: &Global, args: Args) -> Result<u8> {
    let bundle = args.bundle;
    let mut opened = bundle.open(true)?;
    log::warnings(global, &std::mem::take(&mut opened.bundle.warnings));
    let takes = opened.takes.take();
    let stdio = match &bundle.console_socket {
        Some(path) => bundle::console(path)?,
        None => bundle::streams()?,
    };
    let runtimes = global.runtimes()?;
    let created = lifecycle::create(&runtimes, bundle.creation(global, opened, stdio))?;
    log::warnings(global, &created.warnings);
    if let Err(error) = bundle.tell(takes.as_ref(), &created.started) {
        // Nobody could find it.
        let _ = lifecycle::delete(&created.directory, true);
        return Err(error);
    }
    Ok(0)
}
