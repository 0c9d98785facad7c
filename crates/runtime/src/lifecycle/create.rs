//! `create` and `run`: from a bundle to a container, or to nothing.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use oci_spec::runtime::{LinuxIntelRdt, Spec};
use rustix::process::Pid;
use sys::process::Cloned;

use crate::capability;
use crate::channel::Point;
use crate::error::{Error, Result};
use crate::filter::Supervisor;
use crate::group;
use crate::hooks::{self, HookKind, Inherited};
use crate::lifecycle::bundle::Bundle;
use crate::lifecycle::directory::{Directory, Runtimes};
use crate::lifecycle::id::Id;
use crate::lifecycle::notify::{self, Notify};
use crate::lifecycle::record::{Process, Record, Status};
use crate::lifecycle::{delete, family, start};
use crate::newborn::{Newborn, Place};
use crate::plan::{Plan, Stops};
use crate::process::Started;
use crate::request::{Guard, Manner, Request, RootSource, Stdio, Tie};
use crate::resctrl;

const SIGKILL: i32 = 9;

/// What a container is made of.
#[derive(Debug)]
pub struct Creation {
    /// Its id.
    pub id: Id,
    /// Its bundle.
    pub bundle: Bundle,
    /// Its standard streams or terminal.
    pub stdio: Stdio,
    /// What the caller asked for beside the configuration.
    pub manner: Manner,
    /// Who makes its control groups.
    pub driver: cgroup::Driver,
    /// The caller may not expect to be allowed to make any.
    pub rootless: bool,
    /// The socket of who wants to be told that the container is ready (`NOTIFY_SOCKET`).
    pub manager: Option<OsString>,
}

/// A container and its first process.
#[derive(Debug)]
pub struct Created {
    /// Its directory, locked.
    pub directory: Directory,
    /// What was recorded.
    pub record: Record,
    /// Its process, a child of this one.
    pub started: Started,
    /// What its configuration asks for and nobody can have, where that is no error.
    pub warnings: Vec<String>,
    /// What it says of being ready, where its command runs already and somebody wants to know.
    pub notify: Option<Notify>,
}

/// Makes a container that waits for [`start`](crate::lifecycle::start).
///
/// # Errors
/// The step that failed; nothing of the container is left then.
pub fn create(runtimes: &Runtimes, creation: Creation) -> Result<Created> {
    make(runtimes, creation, true)
}

/// Makes a container whose command runs at once.
///
/// # Errors
/// As [`create`].
pub fn run(runtimes: &Runtimes, creation: Creation) -> Result<Created> {
    make(runtimes, creation, false)
}

fn make(runtimes: &Runtimes, creation: Creation, waits: bool) -> Result<Created> {
    debug_assert!(
        sys::process::is_single_threaded(),
        "the setup runs in a copy of a process with one thread"
    );
    let mut creation = creation;
    let mut warnings = std::mem::take(&mut creation.bundle.warnings);
    warnings.extend(capability::keep_grantable(&mut creation.bundle.spec)?);
    let record = record(&creation)?;
    let directory = runtimes.make(&creation.id)?;
    let mut draft = Draft {
        directory,
        record,
        supervisor: Supervisor::of(&creation.bundle.spec),
        notify: None,
        init: None,
        hooked: false,
    };
    match draft.hear(runtimes, &mut creation, waits).and_then(|()| draft.build(creation, waits)) {
        Ok((cloned, terminal, more)) => {
            warnings.extend(more);
            let Cloned { pid, pidfd } = cloned;
            let pid = pid.as_raw_nonzero().get().unsigned_abs();
            let Draft { directory, record, notify, .. } = draft;
            if !waits {
                start::after(&directory, &record, pid)?;
            }
            let started = Started { pid, pidfd, terminal, group: None, _watcher: None };
            Ok(Created { directory, record, started, warnings, notify })
        }
        Err(error) => {
            draft.undo();
            Err(error)
        }
    }
}

/// A container on its way: what exists of it already.
struct Draft {
    directory: Directory,
    record: Record,
    /// Who answers for its filter's notifications.
    supervisor: Option<Supervisor>,
    /// Where it says that it is ready.
    notify: Option<Notify>,
    init: Option<Newborn>,
    /// Hooks may have run, so the last ones are due, too.
    hooked: bool,
}

impl Draft {
    /// Gives it a place to say that it is ready; who listens there is who lets its command run.
    fn hear(&mut self, runtimes: &Runtimes, creation: &mut Creation, waits: bool) -> Result<()> {
        let Some(manager) = &creation.manager else { return Ok(()) };
        notify::add(&mut creation.bundle.spec, &self.directory.make_notify(runtimes)?)?;
        if !waits {
            self.notify = self.directory.notify(manager)?;
        }
        Ok(())
    }

    fn build(&mut self, creation: Creation, waits: bool) -> Result<(Cloned, Option<OwnedFd>, Vec<String>)> {
        self.directory.set_config(&creation.bundle.bytes)?;
        let spec = &creation.bundle.spec;
        self.classify(rdt(spec))?;
        // The groups' names first: whoever finds this record after a crash can remove them.
        self.directory.set_record(&self.record)?;
        group::make(&mut self.record.group, &creation.bundle.spec)?;
        self.record.grouped = true;
        self.directory.set_record(&self.record)?;
        let birthplace = self.record.group.birthplace()?;
        let listener = if waits { Some(self.directory.listen()?) } else { None };
        let stops = Stops { born: true, ready: true, start: waits, ..Stops::default() };
        let (mut plan, stdio) = Plan::new(self.request(creation), stops)?;
        let warnings = std::mem::take(&mut plan.warnings);
        if let Some(mount) = plan.root_mount.take() {
            self.record.root_mount = Some(mount);
            self.directory.set_record(&self.record)?;
        }
        let cgroup = birthplace.as_ref().map(AsFd::as_fd);
        let place = Place { cgroup, listener, forget: Some(self.directory.number()), keep: None };
        self.init = Some(Newborn::make(plan, stdio, place)?);
        let last = if waits { Some(Point::Ready) } else { None };
        self.attend(last, birthplace.as_ref())?;
        self.record.group.release();
        let Some(init) = self.init.take() else { unreachable!("made above") };
        let (cloned, terminal) = init.release()?;
        Ok((cloned, terminal, warnings))
    }

    /// Makes its class of service; what of it will be the container's is recorded first.
    fn classify(&mut self, config: Option<&LinuxIntelRdt>) -> Result<()> {
        let (Some(config), Some(group)) = (config, &mut self.record.resctrl) else { return Ok(()) };
        let mut claimed = group.clone();
        let locked = claimed.claim(config)?;
        *group = claimed;
        self.directory.set_record(&self.record)?;
        let Some(group) = &mut self.record.resctrl else { unreachable!("looked at above") };
        Ok(group.make(locked, config)?)
    }

    fn request(&self, creation: Creation) -> Request {
        Request {
            spec: creation.bundle.spec,
            bundle: self.record.bundle.clone(),
            root: RootSource::Mounted(self.record.rootfs.clone()),
            stdio: creation.stdio,
            tie: Tie::Outlives,
            manner: creation.manner,
            guard: guard(creation.rootless),
            group: None,
        }
    }

    /// Does the runtime's part at each point of init's setup.
    fn attend(&mut self, last: Option<Point>, birthplace: Option<&OwnedFd>) -> Result<()> {
        let Some(init) = self.init.take() else { unreachable!("made before") };
        let Some(pid) = init.pid() else { unreachable!("not released yet") };
        let Some(pidfd) = init.pidfd() else { unreachable!("as its pid") };
        let classified = || self.record.resctrl.as_ref().map_or(Ok(()), |group| group.adopt(pid));
        let housed = group::house(&self.record.group, birthplace, &init);
        if let Err(Error::Cgroup(error)) = &housed
            && error.is_others()
        {
            // What undoes this one is to leave that alone.
            self.record.grouped = false;
        }
        let result = housed
            .and_then(|()| Ok(classified()?))
            .and_then(|()| init.attend(last, |point| self.part(point, (pid, pidfd))));
        self.init = Some(init);
        result
    }

    fn part(&mut self, point: Point, (process, init): (Pid, BorrowedFd<'_>)) -> Result<Vec<u8>> {
        let pid = process.as_raw_nonzero().get().unsigned_abs();
        match point {
            // Done before, or one of the plan's duties.
            Point::Born => Ok(Vec::new()),
            Point::Mounted => {
                // "Created" is a container "after step 2", and these hooks are step 3 and 4 (runtime-spec 1.2, "State").
                let state = self.record.state(Status::Created, pid).to_string().into_bytes();
                self.hooked = true;
                for kind in [HookKind::Prestart, HookKind::CreateRuntime] {
                    let hooks = kind.of(self.record.hooks.as_ref());
                    hooks::run(kind, hooks, &state, Inherited::Runtime)?;
                }
                Ok(state)
            }
            Point::Ready => {
                self.record.init = Process::of(pid);
                if self.record.init.is_none() {
                    return Err(Error::Lost("it has ended".into()));
                }
                self.record.resctrl.iter_mut().for_each(resctrl::Group::settle);
                self.directory.set_record(&self.record)?;
                self.hooked = true;
                // Hooks of the start, where it follows at once.
                Ok(self.record.state(Status::Created, pid).to_string().into_bytes())
            }
            Point::Listening(number) => {
                if let Some(supervisor) = &self.supervisor {
                    let state = self.record.state(Status::Created, pid);
                    supervisor.take(init, number, pid, state)?;
                }
                Ok(Vec::new())
            }
        }
    }

    /// Takes back all that exists, in the opposite order; what cannot be taken back stays recorded for `delete --force`.
    fn undo(mut self) {
        drop(self.init.take());
        let gone = if self.record.grouped {
            // What hooks have left running in them.
            let _ = self.record.group.kill(SIGKILL);
            self.record.group.remove().is_ok()
        } else {
            self.record.group.abandon().is_ok()
        };
        let gone = self.record.resctrl.as_ref().is_none_or(|group| group.remove().is_ok()) && gone;
        let gone = self.record.unmount().is_ok() && gone;
        let _ = if gone { self.directory.remove() } else { self.directory.set_record(&self.record) };
        if self.hooked {
            // The error that led here is what is told.
            let _ = delete::after(&self.record);
        }
    }
}

/// The control group has device rules, but for callers that may go without; those that are in a user namespace need none.
fn guard(rootless: bool) -> Guard {
    if rootless && !cgroup::is_rootless() { Guard::Mounts } else { Guard::Elsewhere }
}

fn record(creation: &Creation) -> Result<Record> {
    let Bundle { path: bundle, spec, .. } = &creation.bundle;
    let root = spec.root().as_ref().ok_or(Error::Incomplete("root"))?;
    let path = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_deref());
    let request = cgroup::Request {
        id: creation.id.as_str(),
        path,
        driver: creation.driver,
        rootless: creation.rootless,
    };
    Ok(Record {
        id: creation.id.to_string(),
        bundle: bundle.clone(),
        rootfs: bundle.join(root.path()),
        created: descriptor::moment::now(),
        owner: rustix::process::geteuid().as_raw(),
        annotations: spec.annotations().clone().unwrap_or_default(),
        hooks: spec.hooks().clone(),
        group: cgroup::Group::plan(&request)?,
        grouped: false,
        pid_namespace: family::is_whole(spec),
        resctrl: class(spec, creation.id.as_str())?,
        keyring: creation.manner.keyring,
        root_mount: None,
        init: None,
    })
}

fn rdt(spec: &Spec) -> Option<&LinuxIntelRdt> {
    spec.linux().as_ref().and_then(|linux| linux.intel_rdt().as_ref())
}

fn class(spec: &Spec, id: &str) -> Result<Option<resctrl::Group>> {
    rdt(spec).map(|config| resctrl::Group::plan(config, id, resctrl::mounted()?)).transpose()
}
