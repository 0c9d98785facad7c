//! From a container of the store to its running process and to its recorded end.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use cli::{During, Failure};
use descriptor::{ContainerLine, Exit};
use oci_spec::runtime::Spec;
use overlay::Mounted;
use runtime::{Beside, Ended, Guard, Manner, Request, RootSource, Started, Stdio, Supervisor, Tie};
use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;
use store::{Container, CreateDoc, HeldCache, State};
use sys::Root;

use crate::changes::Changes;
use crate::command::stop_signal;
use crate::events;
use crate::groups;
use crate::mounts::Taken;
use crate::verbs::pid_file;
use crate::{others, points};

/// config.json is not longer than this.
const CONFIG_BYTES: u64 = 4 << 20;

/// How to run it.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) changes: Changes,
    pub(crate) mounts: Taken,
    pub(crate) stdio: Stdio,
    pub(crate) tie: Tie,
    /// From the stop signal to SIGKILL; where this run does not say, as the container was made.
    pub(crate) stop_timeout: Option<Duration>,
    /// This process stands by it in the background.
    pub(crate) monitored: bool,
    /// What the next start in the background remembers of this one.
    pub(crate) console: Option<Console>,
    /// Where its process's id is written, an absolute path.
    pub(crate) pidfile: Option<PathBuf>,
}

/// The options that docker calls `Tty` and `OpenStdin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Console {
    pub(crate) tty: bool,
    pub(crate) open_stdin: bool,
}

/// A container that runs, and who stands by it.
#[derive(Debug)]
pub(crate) struct Running {
    container: Container,
    doc: CreateDoc,
    volumes: Vec<events::Volume>,
    started: Started,
    supervisor: Supervisor,
    line: ContainerLine,
    /// Its mounts have something to be taken away when it has ended.
    points: bool,
    /// In use until the end.
    _caches: Vec<HeldCache>,
}

/// Starts the container and records its process; its lock is held meanwhile, so no other tool starts it as well.
pub(crate) fn start(container: &Container, launch: Launch) -> Result<Running, Failure> {
    let named = || format!("container {}", container.name());
    let lock = container.lock().during(named)?;
    let mut state = container.settled(&lock).during(named)?;
    if state.is_alive() {
        let pid = state.pid.unwrap_or_default();
        return Err(Failure::new(Exit::Conflict, named(), format!("it runs already, as process {pid}")));
    }
    let bundle = container.root().during(named)?;
    let mut spec = configuration(&bundle)?;
    // What stays because of a failure does no harm, and the next start tries again.
    let _ = points::sweep(container, &bundle, &state);
    let (root, view) = root(container, &state)?;
    let points = points::make(&bundle, &view, &launch.mounts.points(&spec), launch.changes.workdir(&spec))?;
    let doc = container.create().during(named)?;
    launch.changes.apply(&mut spec, &view, &doc)?;
    launch.mounts.apply(&mut spec);
    let volumes = events::volumes(container, &spec);
    let _of_others = others::open(container, &doc, &mut spec)?;
    drop(view);
    let group = groups::plan(container, &spec, launch.tie, &mut state)?;
    if group.is_some() {
        // Before it is made: whoever finds it recorded can remove it.
        container.set_state(&state).during(named)?;
    }
    let signal = stop_signal(spec.annotations().as_ref());
    let usual = || Duration::from_secs(doc.stop_timeout.unwrap_or(crate::command::PATIENCE_SECONDS).into());
    let supervisor = Supervisor::new(signal, launch.stop_timeout.unwrap_or_else(usual)).during(named)?;
    let command = spec.process().as_ref().and_then(|process| process.args().as_ref()?.first().cloned());
    let request = Request {
        spec,
        bundle: container.path(),
        root,
        stdio: launch.stdio,
        tie: launch.tie,
        manner: Manner { reaper: doc.init, ..Manner::default() },
        guard: Guard::Mounts,
        group,
    };
    let started = match runtime::start(request) {
        Ok(started) => started,
        Err(error) => {
            let left = state.group.is_some();
            groups::clear(&mut state);
            if left {
                container.set_state(&state).during(named)?;
            }
            let _ = points::sweep(container, &bundle, &state);
            return Err(refused(&command.unwrap_or_default(), error));
        }
    };
    state.set_running(started.pid);
    // Whoever it is: a state that tells of a process which has ended is left to it for the moment.
    state.monitor = store::Process::of(std::process::id());
    state.foreground = !launch.monitored;
    if let Some(console) = launch.console {
        (state.tty, state.open_stdin) = (console.tty, console.open_stdin);
    }
    // Hierarchies that it went without are not in this one.
    groups::note(&mut state, started.group.as_ref());
    container.set_state(&state).during(named)?;
    events::note_volumes(container, &volumes, "mount");
    events::note(container, &doc, "start", &[]);
    let mut line = container.line().during(named)?;
    // It may have ended already; this line speaks of its start.
    line.status = state.status;
    drop(lock);
    let _caches = launch.mounts.into_caches();
    let pid = started.pid;
    let running =
        Running { container: container.clone(), doc, volumes, started, supervisor, line, points, _caches };
    match pid_file::write(launch.pidfile.as_deref(), pid) {
        Ok(()) => Ok(running),
        Err(error) => {
            // Nobody would know of it.
            let _ = rustix::process::pidfd_send_signal(&running.started.pidfd, Signal::KILL);
            running.wait(None)?;
            Err(error).during(|| "--pidfile".into())
        }
    }
}

impl Running {
    /// The container's line, with the status it started with.
    pub(crate) fn line(&self) -> &ContainerLine {
        &self.line
    }

    /// The master of the container's terminal, once.
    pub(crate) fn terminal(&mut self) -> Option<OwnedFd> {
        self.started.terminal.take()
    }

    /// Waits for the container's end and records it.
    pub(crate) fn wait(mut self, beside: Option<&mut (dyn Beside + '_)>) -> Result<u8, Failure> {
        let named = || format!("container {}", self.container.name());
        let ended: Ended = self.supervisor.wait_beside(&self.started, beside).during(named)?;
        let code = ended.code();
        // A container that was removed meanwhile has nothing to record its end in.
        if let Ok(lock) = self.container.lock() {
            let mut state = self.container.state().during(named)?;
            // Somebody may have started it again already.
            if state.pid == Some(self.started.pid) || state.pid.is_none() {
                let oom_killed =
                    groups::noted(&state).is_some_and(|group| group.oom_kills().is_ok_and(|n| n > 0));
                groups::clear(&mut state);
                state.set_stopped(Some(code));
                state.oom_killed = oom_killed;
                if oom_killed {
                    events::note(&self.container, &self.doc, "oom", &[]);
                }
                if self.points {
                    // Where that fails the next start tries again.
                    let _ = self
                        .container
                        .root()
                        .during(named)
                        .and_then(|bundle| points::sweep(&self.container, &bundle, &state));
                }
                // Before anybody can know, and note what follows from it.
                events::note(&self.container, &self.doc, "die", &[("exitCode", code.to_string())]);
                events::note_volumes(&self.container, &self.volumes, "unmount");
                self.container.set_state(&state).during(named)?;
            }
            drop(lock);
        }
        Ok(code)
    }
}

/// Records why a container could not be started; one that runs, or cannot be written, has its own story.
pub(crate) fn record_failure(container: &Container, failure: &Failure) {
    let Ok(lock) = container.lock() else { return };
    let Ok(mut state) = container.settled(&lock) else { return };
    if !state.is_alive() {
        state.set_error(&failure.to_string());
        // The failure is told anyway.
        let _ = container.set_state(&state);
    }
}

/// Reads config.json.
pub(crate) fn configuration(bundle: &Root) -> Result<Spec, Failure> {
    let failed = |why: String| Failure::new(Exit::Content, "config.json", why);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = bundle.open("config.json", flags, Mode::empty()).map_err(|e| failed(e.to_string()))?;
    let mut bytes = Vec::new();
    let mut bounded = std::io::Read::take(std::fs::File::from(file), CONFIG_BYTES + 1);
    std::io::Read::read_to_end(&mut bounded, &mut bytes).map_err(|e| failed(e.to_string()))?;
    if bytes.len() as u64 > CONFIG_BYTES {
        return Err(failed(format!("more than {CONFIG_BYTES} bytes")));
    }
    serde_json::from_slice(&bytes).map_err(|e| failed(e.to_string()))
}

/// Where the root is: mounted by oci-mount, or mounted now from the plan, for the container alone.
fn root(container: &Container, state: &State) -> Result<(RootSource, Root), Failure> {
    let named = || format!("the root of container {}", container.name());
    let rootfs = container.path().join("rootfs");
    match overlay::mounted(container, state).during(named)? {
        Mounted::Here(view) => Ok((RootSource::Mounted(rootfs), view)),
        Mounted::Elsewhere => Err(overlay::Error::Elsewhere { name: container.name().into() }).during(named),
        Mounted::Nowhere => {
            let plan = overlay::Plan::of_container(container).during(named)?;
            let relative = format!("containers/{}", container.id());
            let mount = plan.mount_detached(container.store(), &relative).during(named)?;
            let again = mount.try_clone().map_err(|e| Failure::new(Exit::Other, named(), e))?;
            Ok((RootSource::Detached { mount, at: rootfs }, Root::from_fd(again)))
        }
    }
}

/// A start that failed: 126 and 127 are the command's, whoever reads them.
pub(crate) fn refused(command: &str, error: runtime::Error) -> Failure {
    let status = error.status();
    let failure = Err::<(), _>(error).during(|| format!("starting {command:?}"));
    let failure = failure.expect_err("made from an error");
    if status == runtime::EXIT_TOOL { failure } else { failure.exiting_with(status) }
}
