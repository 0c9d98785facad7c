//! `run`: a container from its making to its end, or left running with `--detach`.

use runtime::lifecycle::{self, Created, Id, Notify};
use runtime::{RawTerminal, Relay, Started, Stdio, Supervisor};

use crate::verbs::bundle as given;
use crate::verbs::bundle::Bundle;
use crate::verbs::{Global, Result, log};

/// Its arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    bundle: Bundle,

    /// Leave it running in the background
    #[arg(short, long)]
    detach: bool,

    /// Leave the stopped container for delete
    #[arg(long)]
    keep: bool,

    /// Do not adopt the container's orphans (they are never adopted here)
    #[arg(long)]
    no_subreaper: bool,
}

/// Runs it; the status is the container's own, or 0 with `--detach`.
pub(crate) fn run(global: &Global, args: Args) -> Result<u8> {
    let mut opened = args.bundle.open(args.detach)?;
    let runtimes = global.runtimes()?;
    let keyboard = match &args.bundle.console_socket {
        None if !args.detach && opened.bundle.wants_terminal() => Some(RawTerminal::open()?),
        _ => None,
    };
    let stdio = match (&args.bundle.console_socket, &keyboard) {
        (Some(path), _) => given::console(path)?,
        (None, Some(keyboard)) => {
            Stdio::Terminal { size: runtime::window_size(std::os::fd::AsFd::as_fd(keyboard)) }
        }
        (None, None) => given::streams()?,
    };
    let mut supervisor = if args.detach { None } else { Some(Supervisor::forwarding()?) };
    log::warnings(global, &std::mem::take(&mut opened.bundle.warnings));
    let takes = opened.takes.take();
    let Created { directory, mut started, warnings, notify, .. } =
        lifecycle::run(&runtimes, args.bundle.creation(global, opened, stdio))?;
    log::warnings(global, &warnings);
    if let Err(error) = args.bundle.tell(takes.as_ref(), &started) {
        let _ = lifecycle::delete(&directory, true);
        return Err(error);
    }
    // The others may look at it and work on it from here on.
    drop(directory);
    let Some(supervisor) = &mut supervisor else {
        if let Some(notify) = notify {
            // Who wants to know waits for this process to say so.
            notify.forward(&started.pidfd, started.pid)?;
        }
        return Ok(0);
    };
    if let Some(notify) = notify {
        forward_beside(notify, &started)?;
    }
    let relay = match (started.terminal.take(), keyboard) {
        (Some(master), Some(keyboard)) => {
            let output = given::copy(std::io::stdout())?;
            Some(Relay::new(RawTerminal::new(keyboard)?, output, master))
        }
        _ => None,
    };
    let ended = supervisor.wait(&started, relay)?;
    if !args.keep {
        log::warnings(global, &remove(&runtimes, &args.bundle.id)?);
    }
    Ok(ended.code())
}

/// Tells the manager while this process stands by the container: it is this process that the manager watches, and believes.
fn forward_beside(notify: Notify, started: &Started) -> Result<()> {
    let container = given::copy(&started.pidfd)?;
    std::thread::spawn(move || notify.forward(&container, std::process::id()));
    Ok(())
}

/// Removes it; somebody else may have done so.
fn remove(runtimes: &lifecycle::Runtimes, id: &Id) -> Result<Vec<String>> {
    match runtimes.find(id) {
        Err(runtime::Error::NoContainer { .. }) => Ok(Vec::new()),
        found => lifecycle::delete(&found?, true),
    }
}
