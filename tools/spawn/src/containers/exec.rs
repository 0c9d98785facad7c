//! `exec`: a further process in a container that runs.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use cgroup::Inside;
use cli::{Common, During, Failure, Stage};
use descriptor::{Exit, Status};
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Process, Spec};
use runtime::lifecycle::{Execution, Host};
use runtime::{RawTerminal, Relay, Stdio, Supervisor, Tie, defaults, environment};
use store::{Container, State};
use sys::Root;

use crate::changes::Changes;
use crate::containers::wait::Alive;
use crate::containers::{named, pause};
use crate::{groups, launch, run, streams};

/// Its arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The container is the first word, or the line on stdin where the words begin with `--`:

    oci-spawn exec -it web sh
    oci-inspect web | oci-spawn exec -- cat /etc/hostname

Exit status: the command's own; 128+n after signal n; 125 the tool failed, 126 the command cannot be executed, 127 it does not \
exist; 2 usage, 9 the container does not run or is paused. In the foreground the command dies with oci-spawn.")]
pub(crate) struct Args {
    /// Leave it running in the background, without input and output
    #[arg(short, long)]
    detach: bool,

    /// Give it this command's stdin
    #[arg(short, long)]
    interactive: bool,

    /// Give it a terminal, connected to this one
    #[arg(short, long, conflicts_with = "detach")]
    tty: bool,

    /// Set an environment variable; without a value, the caller's
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    env: Vec<String>,

    /// Set the environment variables that FILE lists, one KEY[=VALUE] a line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,

    /// The working directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,

    /// The user and group, by name or number as the container's files know them
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,

    /// Give it all capabilities
    #[arg(long)]
    privileged: bool,

    /// The container, and the command with its arguments
    #[arg(value_names = ["CONTAINER", "COMMAND"], trailing_var_arg = true)]
    words: Vec<String>,
}

/// Runs it; the status is its own, or 0 with `-d`.
pub(crate) fn exec(common: &Common, args: &Args, stage: &mut Stage) -> Result<u8, Failure> {
    stage.keep_errors_home();
    work(common, args, stage).map_err(run::as_last)
}

fn work(common: &Common, args: &Args, stage: &Stage) -> Result<u8, Failure> {
    let (name, command) = args.split(is_escaped(args.words.len()))?;
    let env = environment::given(&args.env_file, &args.env).during(|| "environment".into())?;
    let changes = Changes::further(command, env, args.workdir.as_ref(), args.user.clone(), args.tty);
    let container = match name {
        None if args.interactive => named::of_line(&named::open(common)?, stage.single_exact()?)?,
        name => named::single(common, name, "a command is executed in one container at a time", stage)?,
    };
    let what = || format!("container {}", container.name());
    let state = container.settle().during(what)?;
    let (host, process) = host(&container, &state, &changes, args.privileged)?;
    let keyboard = if args.tty { Some(run::keyboard()?) } else { None };
    let stdio = match &keyboard {
        Some(tty) => Stdio::Terminal { size: runtime::window_size(tty.as_fd()) },
        None => Stdio::Streams(args.streams()?),
    };
    let tie = if args.detach { Tie::Outlives } else { Tie::DiesWithParent };
    let mut supervisor = if args.detach { None } else { Some(Supervisor::forwarding().during(what)?) };
    let execution = Execution { process: &process, stdio, preserved: 0, inside: Inside::default(), tie };
    let word = command.first().cloned().unwrap_or_default();
    let mut started = host.exec(execution).map_err(|error| launch::refused(&word, error))?;
    pause::note(&container, "exec_start");
    let Some(supervisor) = &mut supervisor else { return Ok(0) };
    let relay = match (started.terminal.take(), keyboard) {
        (Some(master), Some(keyboard)) => {
            let output = streams::copy(std::io::stdout().as_fd())?;
            let raw = RawTerminal::new(keyboard).map_err(|e| Failure::new(Exit::Other, "the terminal", e))?;
            Some(Relay::new(raw, output, master))
        }
        _ => None,
    };
    Ok(supervisor.wait(&started, relay).during(what)?.code())
}

/// True where the words follow a `--`.
fn is_escaped(count: usize) -> bool {
    let all: Vec<_> = std::env::args_os().collect();
    all.len().checked_sub(count + 1).is_some_and(|at| all[at] == *"--")
}

impl Args {
    /// The container's name, where one is given, and the command.
    fn split(&self, escaped: bool) -> Result<(Option<&str>, &[String]), Failure> {
        let (name, command) = match self.words.split_first() {
            Some((name, rest)) if !escaped => {
                let rest = rest.strip_prefix(&["--".to_string()]).unwrap_or(rest);
                (Some(name.as_str()), rest)
            }
            _ => (None, self.words.as_slice()),
        };
        match command.is_empty() {
            true => Err(Failure::new(Exit::Usage, "exec", "which command?").with_hint(
                "oci-spawn exec CONTAINER COMMAND, or a line on stdin and oci-spawn exec -- COMMAND",
            )),
            false => Ok((name, command)),
        }
    }

    fn streams(&self) -> Result<[OwnedFd; 3], Failure> {
        if self.detach {
            return Ok([streams::nothing()?, streams::nothing()?, streams::nothing()?]);
        }
        let input = match self.interactive {
            true => streams::copy(std::io::stdin().as_fd())?,
            false => streams::nothing()?,
        };
        Ok([input, streams::copy(std::io::stdout().as_fd())?, streams::copy(std::io::stderr().as_fd())?])
    }
}

/// The container as one that may be given processes, and the process to give it.
fn host(
    container: &Container,
    state: &State,
    changes: &Changes,
    privileged: bool,
) -> Result<(Host, Process), Failure> {
    let what = || format!("container {}", container.name());
    match state.now() {
        Status::Running => {}
        Status::Paused => return Err(named::paused(container)),
        _ => return Err(named::not_running(container)),
    }
    let pid = state.pid.unwrap_or_default();
    let pidfd = Alive::of(state).ok_or_else(|| named::not_running(container))?.into_pidfd();
    let mut spec = launch::configuration(&container.root().during(what)?)?;
    let view =
        Root::open_ambient(format!("/proc/{pid}/root")).map_err(|e| Failure::new(Exit::Other, what(), e))?;
    // Whose root that was is known only if the process still is the one.
    if !state.is_alive() {
        return Err(named::not_running(container));
    }
    changes.apply(&mut spec, &view, &container.create().during(what)?)?;
    with_network(&mut spec);
    let group = groups::noted(state);
    let mut process = spec
        .process()
        .clone()
        .ok_or_else(|| Failure::new(Exit::Content, what(), "its config.json has no process"))?;
    if privileged {
        process.set_capabilities(Some(defaults::all_capabilities()));
    }
    process.set_terminal(Some(changes.has_terminal()));
    let host = Host::of(container.id(), spec, group, (pid, pidfd)).during(what)?;
    let (process, _) = host.grantable(process).during(what)?;
    Ok((host, process))
}

/// A run may have been given another network than the container was made with: where it is its own, it is entered.
fn with_network(spec: &mut Spec) {
    let Some(linux) = spec.linux_mut() else { return };
    let mut namespaces = linux.namespaces().clone().unwrap_or_default();
    if namespaces.iter().all(|one| one.typ() != LinuxNamespaceType::Network) {
        let mut network = LinuxNamespace::default();
        network.set_typ(LinuxNamespaceType::Network);
        namespaces.push(network);
    }
    linux.set_namespaces(Some(namespaces));
}
