//! Read a line, run its container, and either end its journey or pass it on.

use std::os::fd::AsFd;
use std::path::PathBuf;

use cli::{During, Failure, Stage};
use descriptor::{ContainerLine, Exit, Line};
use overlay::OneOff;
use runtime::{Beside, EXIT_TOOL, RawTerminal, Relay, Stdio, Tie};
use store::{Container, Store};

use crate::args::{Args, Pass};
use crate::changes::Changes;
use crate::launch::{self, Launch};
use crate::monitor::{self, Background, Choice};
use crate::mounts::Wanted;
use crate::streams;

/// What a run is otherwise than its container.
type How = Result<(Changes, Wanted), Failure>;

/// Runs the tool; the status is the command's own where there was one in the foreground.
pub(crate) fn run(args: Args, stage: &mut Stage) -> Result<u8, Failure> {
    if args.passes_on() {
        return work(&args, stage);
    }
    // stdout is the container's.
    stage.keep_errors_home();
    work(&args, stage).map_err(as_last)
}

fn work(args: &Args, stage: &mut Stage) -> Result<u8, Failure> {
    args.check()?;
    // What is wrong with it is told when the line is here: a one-off ends there, too.
    let how = Changes::of(args).and_then(|changes| Ok((changes, Wanted::of(args)?)));
    if args.detach {
        return background(args, &how, stage);
    }
    let line = if args.interactive { stage.single_exact()? } else { single(args, stage)? };
    match args.pass {
        Some(pass) => passing(args, how, line, pass, stage),
        None => last(args, how, line, stage),
    }
}

/// The only line of stdin; one-offs of several lines end with the refusal.
fn single(args: &Args, stage: &Stage) -> Result<Line, Failure> {
    let why = "a container in the foreground has this terminal and this status for itself";
    stage.single_or_end(why, |line| {
        if let Ok(store) = Store::open(args.common.store.as_deref()) {
            OneOff::abandon(&store, &line, stage);
        }
    })
}

/// The container's journey ends here.
fn last(args: &Args, how: How, line: Line, stage: &Stage) -> Result<u8, Failure> {
    let (_, container) = resolve(args, line)?;
    let guard = OneOff::made_so_or(&container, args.rm).during(|| "the container".into())?;
    let code = foreground(args, how, &container, stage);
    let ended = code.clone().and_then(success);
    guard.end(&ended, stage)?;
    code
}

/// The container goes on to the next stage.
fn passing(args: &Args, how: How, line: Line, pass: Pass, stage: &Stage) -> Result<u8, Failure> {
    let (_, container) = resolve(args, line)?;
    let guard = OneOff::of(&container).during(|| "the container".into())?;
    let result = foreground(args, how, &container, stage).and_then(|code| {
        if pass == Pass::Success {
            success(code)?;
        }
        let line = container.line().during(|| "the container's line".into())?;
        stage.emit(&Line::Container(line))?;
        Ok(code)
    });
    guard.pass(result, stage)
}

/// Each container is started in the background and its line printed.
fn background(args: &Args, how: &How, stage: &mut Stage) -> Result<u8, Failure> {
    let lines = stage.lines()?;
    let pidfile = pidfile(args)?;
    let mut seen = 0;
    let status = stage.for_each(lines, |stage, line| {
        seen += 1;
        if seen > 1 && pidfile.is_some() {
            return Err(Failure::usage("a second line on stdin", "--pidfile takes a single container"));
        }
        let (_, container) = resolve(args, line)?;
        let run = prepare(args, how, &container, pidfile.clone(), stage);
        if let Err(failure) = &run {
            // The first failure is the one to tell.
            let _ = OneOff::made_so_or(&container, args.rm)
                .map(|guard| guard.end(&Err::<(), _>(failure.clone()), stage));
        }
        let line = monitor::detach(&container, run?, stage)?;
        stage.emit(&Line::Container(line))
    });
    Ok(status)
}

/// What the monitor of a container needs of this process.
fn prepare(
    args: &Args,
    how: &How,
    container: &Container,
    pidfile: Option<PathBuf>,
    stage: &Stage,
) -> Result<Background, Failure> {
    let (changes, mounts) = how.as_ref().map_err(Failure::clone)?;
    let named = || format!("container {}", container.name());
    let (doc, state) = (container.create().during(named)?, container.settle().during(named)?);
    let console = args.console(&state);
    Ok(Background {
        once: args.rm,
        changes: changes.clone().with_terminal(console.tty),
        streams: streams::background(args, console)?,
        console: Some(console),
        pidfile,
        log: Choice::of(&doc.log, args.log_driver, &args.log_opt)?,
        mounts: mounts.take(container.store(), stage)?,
        stop_timeout: args.stop_timeout,
        first: None,
    })
}

/// A command's status as a result.
fn success(code: u8) -> Result<(), Failure> {
    match code {
        0 => Ok(()),
        1..=128 => {
            Err(Failure::with_status(code, "the container's command", format!("ended with status {code}")))
        }
        _ => {
            let why = format!("ended with status {code} (signal {}, or its own)", code - 128);
            Err(Failure::with_status(code, "the container's command", why))
        }
    }
}

/// The container of a line, as this store knows it.
fn resolve(args: &Args, line: Line) -> Result<(ContainerLine, Container), Failure> {
    let line = cli::container_line(line)?;
    let store = Store::open(args.common.store.as_deref()).during(|| "store".into())?;
    let container = store.resolve_line(&line).during(|| format!("container {:?}", line.name))?;
    Ok((line, container))
}

/// Runs the container connected to this process and returns its command's status.
fn foreground(args: &Args, how: How, container: &Container, stage: &Stage) -> Result<u8, Failure> {
    let (changes, mounts) = how?;
    let keyboard = if args.tty { Some(keyboard()?) } else { None };
    let size = keyboard.as_ref().and_then(|tty| runtime::window_size(tty.as_fd()));
    let stdio = match keyboard {
        Some(_) => Stdio::Terminal { size },
        None => Stdio::Streams(streams::foreground(args)?),
    };
    let launch = Launch {
        changes,
        mounts: mounts.take(container.store(), stage)?,
        stdio,
        tie: Tie::DiesWithParent,
        stop_timeout: args.stop_timeout,
        monitored: false,
        console: None,
        pidfile: pidfile(args)?,
    };
    let mut running = launch::start(container, launch)?;
    let mut relay = match (running.terminal(), keyboard) {
        (Some(master), Some(keyboard)) => {
            // With --pass stdout is for lines; the terminal itself shows the container.
            let output = if args.pass.is_some() {
                streams::copy(keyboard.as_fd())?
            } else {
                streams::copy(std::io::stdout().as_fd())?
            };
            let raw = RawTerminal::new(keyboard).map_err(|e| Failure::new(Exit::Other, "the terminal", e))?;
            Some(Relay::new(raw, output, master))
        }
        _ => None,
    };
    running.wait(relay.as_mut().map(|relay| relay as &mut dyn Beside))
}

/// Where the process's id goes, whatever directory its writer is in.
fn pidfile(args: &Args) -> Result<Option<PathBuf>, Failure> {
    let absolute = args.pidfile.as_ref().map(std::path::absolute).transpose();
    absolute.map_err(|e| Failure::new(Exit::Other, "--pidfile", e))
}

pub(crate) fn keyboard() -> Result<std::os::fd::OwnedFd, Failure> {
    RawTerminal::open().map_err(|e| {
        Failure::new(Exit::Usage, "-t", e).with_hint("-t needs a terminal; without one leave it out")
    })
}

/// The failure of a last stage: 2, 9 and 10 tell what to do differently, 126 and 127 are the command's, the rest is 125.
pub(crate) fn as_last(failure: Failure) -> Failure {
    if failure.origin().is_some() {
        return Failure::with_status(EXIT_TOOL, "the stage before failed", failure.to_string());
    }
    let own = [Exit::Usage, Exit::Conflict, Exit::Upstream].map(Exit::code);
    let command = [runtime::EXIT_NOT_EXECUTABLE, runtime::EXIT_NOT_FOUND];
    let status = failure.exit();
    if own.contains(&status) || command.contains(&status) || failure.is_reader_gone() {
        return failure;
    }
    failure.exiting_with(EXIT_TOOL)
}
