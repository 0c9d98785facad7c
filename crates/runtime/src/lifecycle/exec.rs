//! `exec`: a further process in a container's namespaces and control group.

use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::path::PathBuf;

use cgroup::{Group, Inside};
use oci_spec::runtime::{Process, Spec};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open, prlimit};
use sys::Call;
use sys::process::Cloned;

use crate::capability;
use crate::channel::Point;
use crate::error::{Error, Result};
use crate::filter::Supervisor;
use crate::lifecycle::directory::Directory;
use crate::lifecycle::family;
use crate::lifecycle::record::{self, Record, Status};
use crate::newborn::{Newborn, Place};
use crate::plan::{self, Further};
use crate::process::Started;
use crate::request::{Manner, Stdio, Tie};
use crate::watcher::Watcher;

/// What is to run in a container.
#[derive(Debug)]
pub struct Execution<'a> {
    /// The process, all of it.
    pub process: &'a Process,
    /// Its standard streams or terminal.
    pub stdio: Stdio,
    /// How many descriptors from number 3 on it gets as they are.
    pub preserved: u32,
    /// Where below the container's control group it goes.
    pub inside: Inside,
    /// What happens to it when its parent dies.
    pub tie: Tie,
}

/// The processors that a process runs on before it is in its container's control group, as a mask in hexadecimal digits.
///
/// # Errors
/// [`Error::Invalid`] for what is no list of processors.
pub fn initial_affinity(process: &Process) -> Result<Option<String>> {
    Ok(plan::initial_affinity(process)?.map(|processors| {
        let digit = |four: &[bool]| four.iter().rev().fold(0, |sum, &bit| sum * 2 + u32::from(bit));
        let digits = processors.chunks(4).rev().filter_map(|four| char::from_digit(digit(four), 16));
        let text: String = digits.skip_while(|&digit| digit == '0').collect();
        format!("0x{text}")
    }))
}

/// A container that may be given processes.
#[derive(Debug)]
pub struct Host {
    record: Record,
    spec: Spec,
    init: Cloned,
}

impl Host {
    /// Looks at a container; a paused one is refused unless `paused` allows it: the new process waits to be thawed then.
    ///
    /// # Errors
    /// [`Error::Exec`] for one that has ended or is paused.
    pub fn new(directory: &Directory, paused: bool) -> Result<Self> {
        let refused = |why| Error::Exec { why };
        let record = directory.record()?.ok_or_else(|| refused("that is being created"))?;
        match directory.status(&record)? {
            Status::Created | Status::Running => {}
            Status::Paused if paused => {}
            Status::Paused => return Err(refused("that is paused (--ignore-paused overrides)")),
            Status::Creating => return Err(refused("that is being created")),
            Status::Stopped => return Err(refused("that is stopped")),
        }
        let number = record.init.as_ref().and_then(|init| Pid::from_raw(i32::try_from(init.pid).ok()?));
        let open = record.init.as_ref().and_then(|init| init.open());
        let (Some(pid), Some(pidfd)) = (number, open) else { return Err(refused("that is stopped")) };
        let init = Cloned { pid, pidfd };
        let spec = directory.config()?;
        Ok(Self { record, spec, init })
    }

    /// A container that no state root has: its configuration, its control group and its first process.
    ///
    /// Whether it may be given processes is the caller's to know.
    ///
    /// # Errors
    /// [`Error::Exec`] for one whose process has ended.
    pub fn of(id: &str, spec: Spec, group: Option<Group>, (pid, pidfd): (u32, OwnedFd)) -> Result<Self> {
        let ended = || Error::Exec { why: "that is stopped" };
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(ended)?;
        let record = Record {
            id: id.into(),
            bundle: PathBuf::new(),
            rootfs: PathBuf::new(),
            created: String::new(),
            owner: rustix::process::geteuid().as_raw(),
            annotations: spec.annotations().clone().unwrap_or_default(),
            hooks: None,
            group: group.unwrap_or_else(Group::none),
            grouped: true,
            pid_namespace: family::is_whole(&spec),
            resctrl: None,
            root_mount: None,
            keyring: true,
            init: Some(record::Process::of(pid).ok_or_else(ended)?),
        };
        Ok(Self { record, spec, init: Cloned { pid: number, pidfd } })
    }

    /// The process of the container's own configuration: what `exec` without a process of its own begins with.
    ///
    /// # Errors
    /// [`Error::Incomplete`].
    pub fn process(&self) -> Result<Process> {
        self.spec.process().clone().ok_or(Error::Incomplete("process"))
    }

    /// Reads a process as the specification writes it, for this container; what of it is not possible is told in warnings.
    ///
    /// # Errors
    /// [`Error::Invalid`] where it makes no sense.
    pub fn parse(&self, bytes: &[u8]) -> Result<(Process, Vec<String>)> {
        let wrong = |e: serde_json::Error| Error::Invalid { member: "process".into(), why: e.to_string() };
        let mut whole = serde_json::json!({ "process": null });
        whole["process"] = serde_json::from_slice(bytes).map_err(wrong)?;
        let unknown = capability::drop_unknown(&mut whole);
        let process = crate::typed(&whole["process"]).map_err(wrong)?;
        let process = self.inherit(process);
        let (process, mut warnings) = self.grantable(process)?;
        warnings.extend(unknown);
        Ok((process, warnings))
    }

    /// What the process does not say is as with the container's own, as runc does.
    fn inherit(&self, mut process: Process) -> Process {
        let Some(own) = self.spec.process() else { return process };
        if process.capabilities().is_none() {
            process.set_capabilities(own.capabilities().clone());
        }
        if process.rlimits().as_ref().is_none_or(Vec::is_empty) {
            process.set_rlimits(own.rlimits().clone());
        }
        if process.apparmor_profile().is_none() {
            process.set_apparmor_profile(own.apparmor_profile().clone());
        }
        if process.selinux_label().is_none() {
            process.set_selinux_label(own.selinux_label().clone());
        }
        if process.scheduler().is_none() {
            process.set_scheduler(own.scheduler().clone());
        }
        if process.io_priority().is_none() {
            process.set_io_priority(*own.io_priority());
        }
        if process.exec_cpu_affinity().is_none() {
            process.set_exec_cpu_affinity(own.exec_cpu_affinity().clone());
        }
        process
    }

    /// The process without the capabilities that nobody can give it; the warnings name them.
    ///
    /// # Errors
    /// [`Error::Invalid`] for inheritable ones beyond the bounding set, and for a user that is none.
    pub fn grantable(&self, process: Process) -> Result<(Process, Vec<String>)> {
        crate::letter::user(&process)?;
        let mut spec = self.spec.clone();
        spec.set_process(Some(process));
        let warnings = capability::keep_grantable(&mut spec)?;
        let process = spec.process().clone().ok_or(Error::Incomplete("process"))?;
        Ok((process, warnings))
    }

    /// Runs a further process; returns once its command has been executed.
    ///
    /// # Errors
    /// The step that failed; nothing of the process is left then.
    pub fn exec(&self, execution: Execution<'_>) -> Result<Started> {
        debug_assert!(
            sys::process::is_single_threaded(),
            "the setup runs in a copy of a process with one thread"
        );
        let Execution { process, stdio, preserved, inside, tie } = execution;
        let manner = Manner { preserved, keyring: self.record.keyring, ..Manner::default() };
        let birthplace = self.record.group.birthplace_at(&inside)?;
        let beside = inside == Inside::default();
        let make = |birthplace: Option<&OwnedFd>, stdio| {
            let further = Further::new(process, &self.spec, &self.init, &stdio, (manner, tie))?;
            let cgroup = birthplace.map(AsFd::as_fd);
            let place = Place { cgroup, keep: Some(further.keep), ..Place::default() };
            Ok::<_, Error>((Newborn::make(further.plan, stdio, place)?, further.limits))
        };
        let (newborn, limits) = match make(birthplace.as_ref(), again(&stdio)?) {
            // The container has given its controllers to groups below its own: only those may hold processes.
            Err(error) if error.errno() == Some(Errno::BUSY) && birthplace.is_some() && beside => {
                let birthplace = self.record.group.birthplace_beside(self.init.pid)?;
                make(birthplace.as_ref(), stdio)?
            }
            made => made?,
        };
        let Some(pid) = newborn.pid() else { unreachable!("not released yet") };
        // It waits for its birth to be over, so that there is no moment without a watcher.
        let watcher = match (newborn.pidfd(), tie) {
            (Some(pidfd), Tie::DiesWithParent) => {
                let me = pidfd_open(getpid(), PidfdFlags::empty()).call("pidfd_open", || "self".into())?;
                Some(Watcher::start(pidfd, me.as_fd(), None)?)
            }
            _ => None,
        };
        newborn.attend(None, |point| {
            match point {
                Point::Born => {
                    if birthplace.is_none() {
                        self.record.group.adopt_at(pid, &inside)?;
                    }
                    if let Some(class) = &self.record.resctrl {
                        class.adopt(pid)?;
                    }
                    if let Some(score) = process.oom_score_adj() {
                        set_score(pid, score)?;
                    }
                }
                // What the caller may not do either, the process itself will tell.
                Point::Ready => limits.iter().for_each(|&(resource, limit)| {
                    let _ = prlimit(Some(pid), resource, limit);
                }),
                Point::Listening(number) => self.supervise(&newborn, number)?,
                Point::Mounted => {}
            }
            Ok(Vec::new())
        })?;
        let (Cloned { pid, pidfd }, terminal) = newborn.release()?;
        Ok(Started {
            pid: pid.as_raw_nonzero().get().unsigned_abs(),
            pidfd,
            terminal,
            group: None,
            _watcher: watcher,
        })
    }
}

impl Host {
    /// Hands the listener of the process's filter to who answers.
    fn supervise(&self, newborn: &Newborn, number: RawFd) -> Result<()> {
        let (Some(supervisor), Some(pid), Some(pidfd)) =
            (Supervisor::of(&self.spec), newborn.pid(), newborn.pidfd())
        else {
            return Ok(());
        };
        let init = self.init.pid.as_raw_nonzero().get().unsigned_abs();
        let state = self.record.state(Status::Running, init);
        supervisor.take(pidfd, number, pid.as_raw_nonzero().get().unsigned_abs(), state)
    }
}

fn again(stdio: &Stdio) -> Result<Stdio> {
    let copy = |fd: &OwnedFd| fd.try_clone().call("dup", || "a standard stream".into());
    Ok(match stdio {
        Stdio::Streams([input, output, error]) => Stdio::Streams([copy(input)?, copy(output)?, copy(error)?]),
        Stdio::Terminal { size } => Stdio::Terminal { size: *size },
        Stdio::Console(socket) => Stdio::Console(copy(socket)?),
    })
}

/// By the host's procfs, which the container cannot have replaced; the process is a child not waited for, so the number is
/// its own.
fn set_score(pid: Pid, score: i32) -> Result<()> {
    let path = format!("/proc/{}/oom_score_adj", pid.as_raw_nonzero());
    let failed = |errno| Error::Step {
        step: "set oomScoreAdj".into(),
        source: sys::Error::new("write", format!("{path}, {score}"), errno),
    };
    let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC;
    let file = rustix::fs::open(&path, flags, rustix::fs::Mode::empty()).map_err(failed)?;
    rustix::io::write(&file, score.to_string().as_bytes()).map_err(failed)?;
    Ok(())
}
