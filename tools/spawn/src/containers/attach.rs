//! `attach`: this process's terminal or streams on a container that runs in the background.

use std::collections::VecDeque;
use std::io::{IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use cli::{Common, During, Failure, Stage};
use descriptor::Exit;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use runtime::RawTerminal;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use store::Container;

pub(crate) use crate::containers::keys::Keys;
use crate::containers::keys::{Detach, Typed};
use crate::containers::named;
use crate::containers::wait::Alive;
use crate::events;
use crate::wire::{self, Hello};

/// How long a monitor may take from its container's start until who attaches is let in.
const LET_IN_WITHIN: Duration = Duration::from_secs(2);
/// How long apart that is tried.
const PAUSE: Duration = Duration::from_millis(5);
/// Signals that are the container's where it has no terminal.
const PROXIED: [Signal; 8] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGCONT,
    Signal::SIGALRM,
];

/// Its arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "The exit status is the container's, or 0 after the keys that leave it to itself.")]
pub(crate) struct Args {
    /// Show its output alone
    #[arg(long)]
    no_stdin: bool,

    /// The keys that leave it to itself: a letter or ctrl-LETTER, several with commas between them
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    detach_keys: Keys,

    /// Whether signals to this process are the container's
    #[arg(
        long,
        value_name = "TRUTH",
        default_value = "true",
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true
    )]
    sig_proxy: bool,

    /// Its name, its id, or digits that only its id begins with; without it, the line on stdin
    #[arg(value_name = "CONTAINER")]
    name: Option<String>,
}

/// What is attached.
#[derive(Debug)]
pub(crate) struct Attachment {
    /// This process's stdin.
    pub(crate) input: bool,
    /// What leaves the container to itself.
    pub(crate) keys: Keys,
    /// Signals to this process.
    pub(crate) signals: bool,
}

/// Attaches this process; the status is the container's.
pub(crate) fn attach(common: &Common, args: &Args, stage: &mut Stage) -> Result<u8, Failure> {
    stage.keep_errors_home();
    let why = "one container at a time is attached to";
    let container = named::single(common, args.name.as_deref(), why, stage)?;
    // Stdin brought the line.
    let input = !args.no_stdin && args.name.is_some();
    let attachment = Attachment { input, keys: args.detach_keys.clone(), signals: args.sig_proxy };
    join(&container, attachment, stage)
}

/// Attaches to a container that runs.
pub(crate) fn join(container: &Container, attachment: Attachment, stage: &Stage) -> Result<u8, Failure> {
    let what = || format!("attaching to container {}", container.name());
    let refused = |why: &str| Failure::new(Exit::Conflict, what(), why);
    let bundle = container.root().during(what)?;
    let deadline = Instant::now() + LET_IN_WITHIN;
    let socket = loop {
        let state = container.settle().during(what)?;
        match state.now() {
            descriptor::Status::Running => {}
            descriptor::Status::Paused => return Err(named::paused(container)),
            _ => return Err(named::not_running(container)),
        }
        if state.foreground {
            return Err(refused("it runs in somebody's foreground"));
        }
        match wire::connect(&bundle) {
            Ok(socket) => break socket,
            Err(error) if Instant::now() >= deadline => {
                return Err(Failure::new(Exit::Other, what(), error));
            }
            Err(_) if state.monitor.as_ref().is_some_and(store::Process::is_alive) => {
                std::thread::sleep(PAUSE);
            }
            Err(_) => {
                return Err(refused(
                    "nobody stands by it in the background any more: its monitor was killed",
                ));
            }
        }
    };
    ask(&socket).map_err(|e| Failure::new(Exit::Other, what(), e))?;
    events::note(container, &container.create().during(what)?, "attach", &[]);
    stay(container, socket, attachment, stage)
}

/// Asks for the output.
pub(crate) fn ask(socket: &OwnedFd) -> sys::Result<()> {
    let sent = wire::send(socket, &[wire::ATTACH], SendFlags::empty());
    sent.map_err(|errno| sys::Error::new("send", "to the monitor", errno))
}

/// Stays until the container has ended, or is left to itself.
pub(crate) fn stay(
    container: &Container,
    socket: OwnedFd,
    attachment: Attachment,
    stage: &Stage,
) -> Result<u8, Failure> {
    let what = || format!("attaching to container {}", container.name());
    let failed = |errno: Errno| Failure::new(Exit::Other, what(), std::io::Error::from(errno));
    let first = wire::receive(&socket, RecvFlags::empty()).map_err(failed)?;
    let hello = match first.split_first() {
        Some((&wire::ATTACH, bytes)) => Hello::of(bytes),
        // It ended before it heard of this one.
        Some((&wire::EXIT, &[code])) => return Ok(code),
        _ => None,
    };
    let hello = hello.ok_or_else(|| Failure::new(Exit::Other, what(), "its monitor ended without a word"))?;
    let state = container.state().during(what)?;
    let stdin = std::io::stdin();
    let keyboard = if hello.terminal && attachment.input && stdin.is_terminal() {
        let copy = crate::streams::copy(stdin.as_fd())?;
        Some(RawTerminal::new(copy).map_err(|e| Failure::new(Exit::Other, "the terminal", e))?)
    } else {
        None
    };
    let mut session = Session {
        socket,
        hello,
        container: Alive::of(&state),
        proxies: attachment.signals && !hello.terminal,
        signals: signals(attachment.signals && !hello.terminal).map_err(failed)?,
        reads: attachment.input && hello.input,
        typed: Typed::new(attachment.keys),
        unsent: VecDeque::new(),
        keyboard,
    };
    session.fit();
    match session.run() {
        Ok(End::Exited(code)) => Ok(code),
        Ok(End::Detached) => {
            drop(session);
            stage.note("left to itself; oci-spawn attach comes back to it");
            Ok(0)
        }
        Ok(End::Unread) => Err(Failure::reader_gone()),
        Ok(End::CutOff) => {
            drop(session);
            let alive = container.state().is_ok_and(|state| state.monitor.is_some_and(|m| m.is_alive()));
            let why = if alive {
                "it was not read for too long; the container goes on"
            } else {
                "its monitor was killed"
            };
            Err(Failure::new(Exit::Other, what(), why).with_hint("oci-spawn logs has what it said"))
        }
        Err(errno) => Err(failed(errno)),
    }
}

/// The signals that are handled here.
fn signals(proxied: bool) -> rustix::io::Result<SignalFd> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGWINCH);
    if proxied {
        PROXIED.iter().for_each(|&signal| set.add(signal));
    }
    let raw = |errno: nix::Error| Errno::from_raw_os_error(errno as i32);
    set.thread_block().map_err(raw)?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(raw)
}

/// How a session ends.
#[derive(Debug)]
enum End {
    /// With the container.
    Exited(u8),
    /// By the keys.
    Detached,
    /// Nobody reads what it prints.
    Unread,
    /// By the monitor.
    CutOff,
}

#[derive(Debug)]
struct Session {
    socket: OwnedFd,
    hello: Hello,
    container: Option<Alive>,
    proxies: bool,
    signals: SignalFd,
    /// Stdin is the container's, and has not ended.
    reads: bool,
    typed: Typed,
    /// What the monitor has no room for yet. No more is read from stdin meanwhile, but what the container says is: it may wait
    /// for being heard before it takes more.
    unsent: VecDeque<Vec<u8>>,
    keyboard: Option<RawTerminal>,
}

impl Session {
    fn run(&mut self) -> rustix::io::Result<End> {
        let stdin = std::io::stdin();
        loop {
            let signals = self.signals.as_fd();
            let mut flags = PollFlags::IN;
            flags.set(PollFlags::OUT, !self.unsent.is_empty());
            let mut watched = vec![PollFd::new(&self.socket, flags), PollFd::new(&signals, PollFlags::IN)];
            if self.reads && self.unsent.is_empty() {
                watched.push(PollFd::new(&stdin, PollFlags::IN));
            }
            match poll(&mut watched, None) {
                Err(Errno::INTR) => continue,
                answer => answer?,
            };
            let has_room = watched[0].revents().contains(PollFlags::OUT);
            let is_said = watched[0].revents() != PollFlags::OUT;
            let ready: Vec<bool> = watched.iter().map(|fd| !fd.revents().is_empty()).collect();
            if ready[1] {
                self.pass_signals();
            }
            if has_room {
                self.flush()?;
            }
            if ready[0]
                && is_said
                && let Some(end) = self.hear()?
            {
                return Ok(end);
            }
            if ready.get(2) == Some(&true)
                && let Some(end) = self.read(stdin.as_fd())?
            {
                return Ok(end);
            }
        }
    }

    /// Takes a message of the monitor's.
    fn hear(&mut self) -> rustix::io::Result<Option<End>> {
        let message = wire::receive(&self.socket, RecvFlags::empty())?;
        let Some((kind, bytes)) = message.split_first() else { return Ok(Some(End::CutOff)) };
        let written = match *kind {
            wire::STDOUT => write(std::io::stdout(), bytes),
            wire::STDERR => write(std::io::stderr(), bytes),
            wire::EXIT => return Ok(Some(End::Exited(bytes.first().copied().unwrap_or(u8::MAX)))),
            _ => true,
        };
        Ok(if written { None } else { Some(End::Unread) })
    }

    /// Hands on what is typed.
    fn read(&mut self, stdin: impl AsFd) -> rustix::io::Result<Option<End>> {
        let mut bytes = [0; 4096];
        let got = match rustix::io::read(stdin, &mut bytes) {
            Err(Errno::INTR | Errno::AGAIN) => return Ok(None),
            // A terminal that has hung up.
            Err(Errno::IO) => 0,
            got => got?,
        };
        if got == 0 {
            self.reads = false;
            return self.send(vec![wire::END_OF_INPUT]).map(|()| None);
        }
        if !self.hello.terminal {
            return self.send(wire::message(wire::INPUT, &bytes[..got])).map(|()| None);
        }
        let Detach { bytes, detaches } = self.typed.take(&bytes[..got]);
        if !bytes.is_empty() {
            self.send(wire::message(wire::INPUT, &bytes))?;
        }
        Ok(detaches.then_some(End::Detached))
    }

    fn send(&mut self, message: Vec<u8>) -> rustix::io::Result<()> {
        self.unsent.push_back(message);
        self.flush()
    }

    /// Sends what there is room for.
    fn flush(&mut self) -> rustix::io::Result<()> {
        while let Some(message) = self.unsent.front() {
            match wire::send(&self.socket, message, SendFlags::DONTWAIT) {
                Ok(()) => drop(self.unsent.pop_front()),
                Err(Errno::AGAIN | Errno::NOBUFS) => break,
                // What it said at its end is still to be heard.
                Err(Errno::PIPE | Errno::CONNRESET) => {
                    self.reads = false;
                    self.unsent.clear();
                }
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn pass_signals(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let number = info.ssi_signo.cast_signed();
            if number == Signal::SIGWINCH as i32 {
                self.fit();
            } else if let Some(container) = self.container.as_ref().filter(|_| self.proxies) {
                // One that has just ended needs none; what it ended with comes next.
                let _ = container.signal(number);
            }
        }
    }

    /// Tells the container's terminal the size of this one.
    fn fit(&mut self) {
        let Some((rows, columns)) = self.keyboard.as_ref().and_then(RawTerminal::size) else { return };
        let bytes = [rows.to_ne_bytes(), columns.to_ne_bytes()].concat();
        // Only the last one counts.
        self.unsent.retain(|message| message.first() != Some(&wire::RESIZE));
        // Where the monitor is gone the next message says so.
        let _ = self.send(wire::message(wire::RESIZE, &bytes));
    }
}

/// Writes to a stream; false where nobody reads it any more.
fn write(mut to: impl Write, bytes: &[u8]) -> bool {
    to.write_all(bytes).and_then(|()| to.flush()).is_ok()
}
