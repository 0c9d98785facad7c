//! The child between its birth and its command: runs the steps in order.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use oci_spec::runtime::Hook;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags};
use rustix::net::SocketFlags;
use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal, Uid};
use rustix::thread::LinkNameSpaceType;
use sys::mount::{Change, Extent};
use sys::{Call, Error, Result, Root};

use crate::channel::{Channel, Point};
use crate::error::EXIT_TOOL;
use crate::hooks::{HookFailure, HookKind};
use crate::labels::Module;
use crate::procfs::Procfs;
use crate::report::Report;
use crate::step::{Action, Command, Identity, MountPlan, RLIMITS, Rights, Source, Step, TerminalPlan};
use crate::{
    devices, exec, filter, hooks, identity, joining, labels, masks, mounts, reaper, terminal, users,
};

/// The first descriptor number beyond the standard streams.
pub(crate) const FIRST: RawFd = 3;

/// What the child holds while it sets itself up.
pub(crate) struct Child<'a> {
    /// How it speaks to its runtime.
    channel: Channel,
    /// Where it waits for `start`.
    listener: Option<OwnedFd>,
    /// How many descriptors beyond the standard ones the command gets.
    preserved: RawFd,
    /// What it will become.
    command: Command,
    /// A working directory that this process must be the user to enter.
    cwd: Option<PathBuf>,
    /// The container's root, once it is there.
    root: Option<Root>,
    /// A procfs of this pid namespace, however the container's /proc looks.
    procfs: Option<Procfs>,
    /// The container's /dev/null, checked.
    null: Option<OwnedFd>,
    /// The three streams to be.
    pub(crate) streams: Option<[BorrowedFd<'a>; 3]>,
    /// The slave of the container's terminal.
    pub(crate) slave: Option<OwnedFd>,
    /// Where the terminal's master goes.
    pub(crate) terminal_socket: Option<BorrowedFd<'a>>,
    /// The parent, to see whether it still lives.
    pub(crate) parent: BorrowedFd<'a>,
    /// The container's state for hooks, as it came with the last word to go on.
    state: Vec<u8>,
    /// The filter of the command's system calls, where it is loaded last, and the capabilities that are given up after it.
    filter: Option<(seccomp::Program, Option<Rights>)>,
    /// Limits that are set once no descriptor but those of the command is open.
    limits: Option<Vec<(Resource, Rlimit)>>,
}

impl<'a> Child<'a> {
    pub(crate) fn new(
        parent: BorrowedFd<'a>,
        channel: Channel,
        listener: Option<OwnedFd>,
        command: Command,
    ) -> Self {
        Self {
            channel,
            listener,
            preserved: command.preserved,
            command,
            cwd: None,
            root: None,
            procfs: None,
            null: None,
            streams: None,
            slave: None,
            terminal_socket: None,
            parent,
            state: Vec::new(),
            filter: None,
            limits: None,
        }
    }

    /// Runs all steps and then the command; where that fails it tells why and ends this process.
    ///
    /// Never returns, so that nothing is dropped: by then the numbers of closed descriptors still have owners.
    pub(crate) fn run(mut self, steps: Vec<Step>) -> ! {
        let why = match self.attempt(steps) {
            Ok(umask) => self.execute(umask),
            Err(why) => why,
        };
        self.channel.report(&why);
        sys::process::end(EXIT_TOOL)
    }

    /// Runs the steps; the umask that the command is to have.
    fn attempt(&mut self, steps: Vec<Step>) -> std::result::Result<u32, Report> {
        // Modes given to mkdir and mknod here are meant exactly.
        rustix::process::umask(Mode::empty());
        let mut umask = exec::DEFAULT_UMASK;
        for Step { name, action } in steps {
            match action {
                Action::FindCommand => exec::missing(&self.command).map_or(Ok(()), Err)?,
                Action::Hooks(kind, hooks) => self.hooks(kind, &hooks).map_err(Report::Hook)?,
                action => {
                    if let Action::Identity(identity) = &action {
                        umask = identity.umask.unwrap_or(umask);
                    }
                    self.act(action).map_err(|error| Report::step(&name, &error))?;
                }
            }
        }
        Ok(umask)
    }

    /// Becomes the command; what comes back is why not.
    fn execute(&mut self, umask: u32) -> Report {
        rustix::process::umask(Mode::from_raw_mode(umask));
        if let Err(error) = self.last_descriptors() {
            return Report::step("close descriptors", &error);
        }
        if let Err(error) = identity::rlimits(self.limits.as_deref().unwrap_or_default()) {
            return Report::step(RLIMITS, &error);
        }
        if !self.command.reaper {
            return self.become_command();
        }
        let error = reaper::stand_by(|| {
            let why = self.become_command();
            self.channel.report(&why);
            EXIT_TOOL
        });
        Report::step("start the first process", &error)
    }

    /// All that is left when this process is the command's own.
    fn become_command(&mut self) -> Report {
        sys::process::default_signals();
        let prepared = match exec::prepare(&self.command) {
            Ok(prepared) => prepared,
            Err(why) => return why,
        };
        match self.filter() {
            Ok(()) => prepared.execute(),
            Err(error) => Report::step(filter::STEP, &error),
        }
    }

    /// Loads the filter that is for the command alone.
    fn filter(&mut self) -> Result<()> {
        let Some((program, rights)) = self.filter.take() else { return Ok(()) };
        if rights.is_some() {
            filter::raise_privilege()?;
        }
        filter::load(&program, &self.channel)?;
        rights.as_ref().map_or(Ok(()), identity::capabilities)
    }

    /// Closes every descriptor but the standard ones, the preserved ones, and the channel, which exec closes.
    fn last_descriptors(&mut self) -> Result<()> {
        let number = FIRST + self.preserved;
        (FIRST..number).try_for_each(sys::process::keep_at_exec)?;
        self.channel.move_to(number)?;
        sys::process::close_range(number.unsigned_abs() + 1, u32::MAX, sys::process::Range::Close)
    }

    /// An arm for each kind of step: what takes more than a call has a function of its own.
    fn act(&mut self, action: Action) -> Result<()> {
        match action {
            Action::DieWithParent => die_with_parent(self.parent),
            Action::Untie => untie(),
            Action::Reach(point) => self.reach(point),
            Action::HeedSignals => {
                sys::process::end_by_signals();
                Ok(())
            }
            Action::AwaitStart => self.await_start(),
            // Answered where reports of their own are made.
            Action::FindCommand | Action::Hooks(..) => Ok(()),
            Action::Session(keyring) => session(keyring),
            Action::Disguise => reaper::disguise(),
            Action::Unshare(flags) => unshare(flags),
            Action::EnterTime => enter_time(),
            Action::Join(file, kind) => joining::namespace(file.as_fd(), kind),
            Action::JoinProcess(process, kinds) => joining::namespaces_of(process.as_fd(), kinds),
            Action::RootOfUsers => become_root_of_users(),
            Action::Inside => keep(Root::open_ambient("/"), &mut self.root),
            Action::InsideOf(root) => keep(inside_of(Root::from_fd(root)), &mut self.root),
            Action::Affinity(set) => joining::processors(&set),
            Action::Home(uid) => self.add_home(uid),
            Action::Propagation(flags) => propagation(flags),
            Action::Root(plan) => keep(mounts::root(plan), &mut self.root),
            Action::Mount(plan) => self.mount(plan),
            Action::Devices(nodes) => nodes.iter().try_for_each(|node| devices::make(self.root()?, node)),
            Action::SealDevices(nodes) => devices::seal(self.root()?, &nodes),
            Action::FreeDevices(nodes) => devices::free(self.root()?, &nodes),
            Action::DeviceLinks => devices::links(self.root()?),
            Action::Null => keep(devices::null(self.root()?), &mut self.null),
            Action::Terminal(wanted) => self.allocate_terminal(&wanted),
            Action::Streams => self.connect(),
            Action::Procfs => self.hold_procfs(),
            Action::Mask(paths) => masks::mask(self.root()?, self.null.as_ref().ok_or_else(no_root)?, &paths),
            Action::ReadOnly(paths) => masks::read_only(self.root()?, &paths),
            Action::RootPropagation(kind) => masks::root_propagation(self.root()?, kind),
            Action::ReadOnlyRoot => masks::read_only_root(self.root()?),
            Action::Loopback => sys::loopback_up(),
            Action::Hostname(name) => host_name(&name),
            Action::Domainname(name) => domain_name(&name),
            Action::OomScoreAdj(score) => self.procfs()?.write("self/oom_score_adj", &score.to_string()),
            Action::Pivot => pivot(self.root()?),
            Action::Chroot => change_root(self.root()?),
            Action::MoveRoot => move_root(self.root()?),
            Action::Sysctls(list) => self.sysctls(&list),
            Action::NetDevices(list) => {
                list.iter().try_for_each(|(name, held)| sys::link::set_up(name, held))
            }
            Action::Schedule(how) => sys::tuning::schedule(how),
            Action::IoPriority(class, level) => sys::tuning::io_priority(class, level),
            Action::MemoryPolicy(mode, nodes) => sys::tuning::memory_policy(mode, &nodes),
            Action::Personality(domain) => sys::tuning::personality(domain),
            Action::Label(module, label) => self.label(module, &label),
            Action::Cwd(path, make) => self.enter(path, make),
            Action::Rlimits(limits) => identity::rlimits(&limits),
            Action::LastRlimits(limits) => keep(Ok(limits), &mut self.limits),
            Action::Bounding(keep) => identity::bounding(keep),
            Action::Identity(identity) => self.become_user(&identity),
            Action::Capabilities(rights) => identity::capabilities(&rights),
            Action::Filter(program) => self.load_with_privilege(&program),
            Action::FilterAtExec(program, rights) => keep(Ok((program, rights)), &mut self.filter),
            Action::NoNewPrivileges => no_new_privileges(),
        }
    }

    /// Waits at a point, and keeps the state that comes with the word to go on.
    fn reach(&mut self, point: Point) -> Result<()> {
        self.state = self.channel.reach(point)?;
        Ok(())
    }

    fn hooks(&self, kind: HookKind, hooks: &[Hook]) -> std::result::Result<(), HookFailure> {
        hooks::run(kind, hooks, &self.state, hooks::Inherited::Process(&self.command.env))
    }

    /// Mounts, and takes a procfs that is the container's own and writable as the one that is written through.
    fn mount(&mut self, plan: MountPlan) -> Result<()> {
        let is_procfs = matches!(&plan.what, Source::New { kind, .. } if kind == "proc");
        let is_writable = !plan.options.is_read_only();
        let mounted = mounts::mount(self.root()?, plan)?;
        if is_procfs && is_writable {
            self.procfs = Some(Procfs::of_mount(mounted));
        }
        Ok(())
    }

    fn allocate_terminal(&mut self, wanted: &TerminalPlan) -> Result<()> {
        keep(terminal::allocate(self.root()?, self.terminal_socket, wanted), &mut self.slave)
    }

    fn sysctls(&self, list: &[(String, String)]) -> Result<()> {
        list.iter().try_for_each(|(path, value)| self.procfs()?.write(path, value))
    }

    fn label(&mut self, module: Module, label: &str) -> Result<()> {
        self.hold_procfs()?;
        labels::at_exec(self.procfs()?, module, label)
    }

    fn become_user(&mut self, identity: &Identity) -> Result<()> {
        identity::become_user(identity)?;
        // Where root could not go the user may.
        if let Some(path) = self.cwd.take() {
            enter(self.root()?, &path)?;
        }
        // The kernel has set that anew, to what the host says of set-user-id programs (fs.suid_dumpable).
        hide()
    }

    /// Loads a filter while the right to do so is still held.
    fn load_with_privilege(&self, program: &seccomp::Program) -> Result<()> {
        filter::raise_privilege()?;
        filter::load(program, &self.channel)
    }

    /// Waits until a runtime says that the command is to run, and speaks to that one from here on.
    fn await_start(&mut self) -> Result<()> {
        let listener = self.listener.take().ok_or_else(no_root)?;
        loop {
            let accepted = match rustix::net::accept_with(&listener, SocketFlags::CLOEXEC) {
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                answer => answer.call("accept4", || "start".into())?,
            };
            let channel = Channel::from_fd(accepted);
            // Somebody who only looked whether anybody listens, or died, is no start.
            if let Ok(Some(state)) = channel.may_go() {
                self.state = state;
                self.channel = channel;
                return Ok(());
            }
        }
    }

    /// An account's home, or `/` where the container's files name none that can be used.
    fn add_home(&mut self, uid: Uid) -> Result<()> {
        if !self.command.env.iter().any(|entry| entry.to_bytes().starts_with(b"HOME=")) {
            let home = users::home(self.root()?, uid.as_raw()).unwrap_or_else(|| "/".into());
            self.command.env.extend(CString::new(format!("HOME={home}")));
        }
        Ok(())
    }

    /// Enters the working directory, with `make` made where it is missing, now or as the user.
    fn enter(&mut self, path: PathBuf, make: bool) -> Result<()> {
        let root = self.root()?;
        let entered = match enter(root, &path) {
            Err(error) if make && error.is_not_found() => {
                mounts::directory(root, &path, false).and_then(|_| enter(root, &path))
            }
            answer => answer,
        };
        match entered {
            Err(error) if matches!(error.errno, Errno::ACCESS | Errno::PERM) => {
                self.cwd = Some(path);
                Ok(())
            }
            answer => answer,
        }
    }

    fn root(&self) -> Result<&Root> {
        self.root.as_ref().ok_or_else(no_root)
    }

    /// Uses the mount that became /proc, else makes a procfs that is attached nowhere.
    fn hold_procfs(&mut self) -> Result<()> {
        if self.procfs.is_none() {
            self.procfs = Some(Procfs::private()?);
        }
        Ok(())
    }

    fn procfs(&self) -> Result<&Procfs> {
        self.procfs.as_ref().ok_or_else(no_root)
    }

    /// Puts the streams, or three times the terminal, onto 0, 1 and 2.
    fn connect(&self) -> Result<()> {
        let streams = match (&self.slave, self.streams) {
            (Some(slave), _) => [slave.as_fd(); 3],
            (None, Some(streams)) => streams,
            (None, None) => return Err(no_root()),
        };
        // Copies beyond 2 first, so that none is overwritten before its turn.
        let mut high = Vec::with_capacity(3);
        for stream in streams {
            // Through the host's own null device the container could change that node's mode and owner.
            let null = devices::null_again(self.root()?, stream)?;
            let stream = null.as_ref().map_or(stream, AsFd::as_fd);
            let copy = rustix::io::fcntl_dupfd_cloexec(stream, FIRST);
            high.push(copy.call("fcntl", || "F_DUPFD_CLOEXEC".into())?);
        }
        for (number, stream) in (0..).zip(&high) {
            sys::process::set_standard(stream, number)?;
        }
        Ok(())
    }
}

/// A step that needs an earlier one's result ran without it: the plan is wrong.
fn no_root() -> Error {
    Error::new("setup", "a step came before the one it needs", Errno::INVAL)
}

/// Puts what a step has made where later steps find it.
fn keep<T>(made: Result<T>, place: &mut Option<T>) -> Result<()> {
    *place = Some(made?);
    Ok(())
}

fn unshare(flags: CloneFlags) -> Result<()> {
    nix::sched::unshare(flags).map_err(std::io::Error::from).call("unshare", || format!("{flags:?}"))
}

fn host_name(name: &str) -> Result<()> {
    rustix::system::sethostname(name.as_bytes()).call("sethostname", || format!("{name:?}"))
}

fn domain_name(name: &str) -> Result<()> {
    rustix::system::setdomainname(name.as_bytes()).call("setdomainname", || format!("{name:?}"))
}

fn no_new_privileges() -> Result<()> {
    rustix::thread::set_no_new_privs(true).call("prctl", || "PR_SET_NO_NEW_PRIVS".into())
}

/// Joins the time namespace of this process's children, whose clocks are set by now.
fn enter_time() -> Result<()> {
    let path = c"/proc/self/ns/time_for_children";
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let namespace = rustix::fs::open(path, flags, Mode::empty()).call("open", || format!("{path:?}"))?;
    joining::namespace(namespace.as_fd(), LinkNameSpaceType::Time)
}

fn session(keyring: bool) -> Result<()> {
    rustix::process::setsid().call("setsid", String::new)?;
    if keyring {
        // The caller's keys are not the container's.
        sys::process::new_session_keyring()?;
    }
    hide()
}

fn become_root_of_users() -> Result<()> {
    identity::become_root()?;
    // Changing credentials has set that anew, for processes of this namespace to see.
    hide()
}

/// While the host's files are open here, no process of a joined namespace may look into this one (CVE-2016-9962).
pub(crate) fn hide() -> Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .call("prctl", || "PR_SET_DUMPABLE, 0".into())
}

/// Asks for SIGKILL when the parent dies. `getppid` is 0 across pid namespaces, so a descriptor of the parent tells
/// whether it had died before the kernel was asked.
fn die_with_parent(parent: BorrowedFd<'_>) -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .call("prctl", || "PR_SET_PDEATHSIG, SIGKILL".into())?;
    let mut watched = [PollFd::new(&parent, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let dead = poll(&mut watched, Some(&now)).call("poll", || "parent".into())?;
    if dead == 0 { Ok(()) } else { Err(Error::new("poll", "the parent has died", Errno::SRCH)) }
}

/// Takes the request back: from here on the parent's death is nothing to this process.
fn untie() -> Result<()> {
    rustix::process::set_parent_process_death_signal(None).call("prctl", || "PR_SET_PDEATHSIG, 0".into())
}

fn propagation(flags: MountPropagationFlags) -> Result<()> {
    let root = Root::open_ambient("/")?;
    let extent = if flags.contains(MountPropagationFlags::REC) { Extent::Tree } else { Extent::Mount };
    let kind = flags.difference(MountPropagationFlags::REC);
    sys::mount::set_attributes(root.as_fd(), extent, Change { propagation: Some(kind), ..Change::default() })
}

/// `pivot_root(2)` onto the root itself, and the old root, now stacked on it, taken away with all below.
fn pivot(root: &Root) -> Result<()> {
    let old = Root::open_ambient("/")?;
    rustix::process::fchdir(root).call("fchdir", || "root".into())?;
    rustix::process::pivot_root(c".", c".").call("pivot_root", || "\".\", \".\"".into())?;
    // What is unmounted here must not be unmounted on the host.
    let slave = Change { propagation: Some(MountPropagationFlags::DOWNSTREAM), ..Change::default() };
    sys::mount::set_attributes(old.as_fd(), Extent::Tree, slave)?;
    rustix::mount::unmount(c".", UnmountFlags::DETACH).call("umount2", || "old root, MNT_DETACH".into())?;
    rustix::process::chdir(c"/").call("chdir", || "\"/\"".into())
}

/// Moves the root's mount over `/` and changes into it: what is below the old one stays mounted, out of reach.
fn move_root(root: &Root) -> Result<()> {
    let old = Root::open_ambient("/")?;
    sys::mount::attach(root.as_fd(), old.as_fd())?;
    change_root(root)
}

fn change_root(root: &Root) -> Result<()> {
    rustix::process::fchdir(root).call("fchdir", || "root".into())?;
    rustix::process::chroot(c".").call("chroot", || "\".\"".into())?;
    rustix::process::chdir(c"/").call("chdir", || "\"/\"".into())
}

fn inside_of(root: Root) -> Result<Root> {
    change_root(&root)?;
    Root::open_ambient("/")
}

/// Enters the working directory by a descriptor resolved inside the root, and makes sure that it has a name there.
fn enter(root: &Root, path: &Path) -> Result<()> {
    let directory = root.open(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
    rustix::process::fchdir(&directory).call("fchdir", || format!("{path:?}"))?;
    // Outside the root the kernel answers "(unreachable)/..." (getcwd(2)).
    let real = rustix::process::getcwd(Vec::new()).call("getcwd", || format!("{path:?}"))?;
    if real.as_bytes().starts_with(b"/") {
        Ok(())
    } else {
        Err(Error::new("getcwd", format!("{path:?} is outside the root"), Errno::XDEV))
    }
}
