//! A connection to a service manager: its private socket, else the message bus that it listens to.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::systemd::message::{Call, Kind, Message, Property, Writer};
use crate::{Error, Result};

const SERVICE: &str = "org.freedesktop.systemd1";
const OBJECT: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const BUS: &str = "org.freedesktop.DBus";
/// A manager that has not answered, or not finished a job, by then is not going to (runc's patience for a job).
const PATIENCE: Duration = Duration::from_secs(30);
/// No line of the authentication is longer.
const LINE_BYTES: u64 = 4096;

/// A connection.
#[derive(Debug)]
pub(crate) struct Bus {
    stream: BufReader<UnixStream>,
    serial: u32,
    deadline: Instant,
}

impl Bus {
    /// Connects to the system's manager, or to the user's own.
    ///
    /// # Errors
    /// [`Error::Systemd`] where there is none to be reached.
    pub(crate) fn connect(user: bool) -> Result<Self> {
        let run = if user { own_runtime()? } else { PathBuf::from("/run") };
        let private = run.join("systemd/private");
        match Self::open(&private) {
            Ok(bus) => Ok(bus),
            Err(first) => {
                // Reached by who may not open the private socket; systemd must be asked for signals there.
                let path = if user { run.join("bus") } else { run.join("dbus/system_bus_socket") };
                let mut bus =
                    Self::open(&path).map_err(|_| failed("connecting to systemd", &private, &first))?;
                bus.join()?;
                Ok(bus)
            }
        }
    }

    fn open(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        let mut bus = Self { stream: BufReader::new(stream), serial: 0, deadline: Instant::now() + PATIENCE };
        // "Authentication Protocol": the kernel tells who we are; the name is the uid's digits in hexadecimal.
        let uid = rustix::process::geteuid().as_raw().to_string();
        let hex: String = uid.bytes().map(|digit| format!("{digit:02x}")).collect();
        // BEGIN goes before the answer, as systemd's own clients send it: what systemd reads together with a later BEGIN (256 bytes
        // at most, bus_socket_read_auth in its bus-socket.c) lies there unread until more comes.
        bus.write(format!("\0AUTH EXTERNAL {hex}\r\nBEGIN\r\n").as_bytes())?;
        let mut line = String::new();
        bus.wait_for_bytes()?;
        io::Read::take(&mut bus.stream, LINE_BYTES).read_line(&mut line)?;
        if !line.starts_with("OK ") {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "refused at the authentication"));
        }
        Ok(bus)
    }

    /// On a bus: says hello, and asks for the signals that tell of jobs.
    fn join(&mut self) -> Result<()> {
        let to = |member, signature| Call {
            destination: BUS,
            path: "/org/freedesktop/DBus",
            interface: BUS,
            member,
            signature,
        };
        self.call(to("Hello", ""), Writer::default())?;
        let mut rule = Writer::default();
        rule.text(&format!("type='signal',interface='{MANAGER}',member='JobRemoved'"));
        self.call(to("AddMatch", "s"), rule)?;
        self.call(manager("Subscribe", ""), Writer::default()).map(drop)
    }

    /// Starts a transient scope of these properties and waits until it is there.
    ///
    /// # Errors
    /// [`Error::Systemd`] with systemd's words, [`Error::UnitExists`], a job that failed or was not done in time.
    pub(crate) fn start(&mut self, unit: &str, properties: &[Property]) -> Result<()> {
        let mut body = Writer::default();
        body.text(unit);
        body.text("replace");
        body.properties(properties);
        // auxiliary units: none
        body.array(8, |_| {});
        let answer = self.call(manager("StartTransientUnit", "ssa(sv)a(sa(sv))"), body)?;
        let job = answer.arguments().text().unwrap_or_default();
        self.done(&job, unit)
    }

    /// Stops a unit and waits for it; one that is not there is fine.
    ///
    /// # Errors
    /// As [`Bus::start`].
    pub(crate) fn stop(&mut self, unit: &str) -> Result<()> {
        let mut body = Writer::default();
        body.text(unit);
        body.text("replace");
        match self.call(manager("StopUnit", "ss"), body) {
            Ok(answer) => {
                let job = answer.arguments().text().unwrap_or_default();
                self.done(&job, unit)?;
            }
            Err(Error::Systemd { name, .. }) if name.ends_with(".NoSuchUnit") => {}
            Err(error) => return Err(error),
        }
        self.forget_failed(unit);
        Ok(())
    }

    /// Looks at a unit that failed: a scope whose processes were killed stays until somebody has. Others are let be.
    pub(crate) fn forget_failed(&mut self, unit: &str) {
        let mut body = Writer::default();
        body.text(unit);
        let _ = self.call(manager("ResetFailedUnit", "s"), body);
    }

    /// Changes a unit's properties until it is gone.
    ///
    /// # Errors
    /// [`Error::Systemd`] with systemd's words.
    pub(crate) fn set(&mut self, unit: &str, properties: &[Property]) -> Result<()> {
        let mut body = Writer::default();
        body.text(unit);
        body.flag(true);
        body.properties(properties);
        self.call(manager("SetUnitProperties", "sba(sv)"), body).map(drop)
    }

    /// The manager's own control group: below it a user's units are.
    ///
    /// # Errors
    /// [`Error::Systemd`] with systemd's words.
    pub(crate) fn control_group(&mut self) -> Result<String> {
        let mut body = Writer::default();
        body.text(MANAGER);
        body.text("ControlGroup");
        let call = Call {
            destination: SERVICE,
            path: OBJECT,
            interface: "org.freedesktop.DBus.Properties",
            member: "Get",
            signature: "ss",
        };
        Ok(self.call(call, body)?.arguments().variant_text().unwrap_or_default())
    }

    fn call(&mut self, call: Call<'_>, body: Writer) -> Result<Message> {
        self.deadline = Instant::now() + PATIENCE;
        self.serial += 1;
        let what = |error: io::Error| failed(call.member, Path::new(SERVICE), &error);
        self.write(&call.to_bytes(self.serial, body)).map_err(what)?;
        loop {
            let message = self.read().map_err(what)?;
            match &message.kind {
                Kind::Reply(serial) if *serial == self.serial => return Ok(message),
                Kind::Refusal(serial, name) if *serial == self.serial => {
                    let why = message.arguments().text().unwrap_or_default();
                    return Err(Error::Systemd { what: call.member.into(), name: name.clone(), why });
                }
                _ => {}
            }
        }
    }

    /// Waits for a job's end.
    fn done(&mut self, job: &str, unit: &str) -> Result<()> {
        loop {
            let message =
                self.read().map_err(|error| failed("waiting for a job", Path::new(unit), &error))?;
            if message.kind != Kind::Signal("JobRemoved".into()) {
                continue;
            }
            let mut arguments = message.arguments();
            let (_, path) = (arguments.u32(), arguments.text());
            if path.as_deref() != Some(job) {
                continue;
            }
            let (_, result) = (arguments.text(), arguments.text().unwrap_or_default());
            return match result.as_str() {
                "done" | "skipped" => Ok(()),
                other => {
                    let why = format!("the job for {unit} ended as {other:?}");
                    Err(Error::Systemd { what: "JobRemoved".into(), name: String::new(), why })
                }
            };
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let left = self.left()?;
        let stream = self.stream.get_mut();
        stream.set_write_timeout(Some(left))?;
        stream.write_all(bytes)
    }

    fn read(&mut self) -> io::Result<Message> {
        self.wait_for_bytes()?;
        Message::read(&mut self.stream)
    }

    fn wait_for_bytes(&mut self) -> io::Result<()> {
        let left = self.left()?;
        self.stream.get_mut().set_read_timeout(Some(left))
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

fn manager<'a>(member: &'a str, signature: &'a str) -> Call<'a> {
    Call { destination: SERVICE, path: OBJECT, interface: MANAGER, member, signature }
}

fn own_runtime() -> Result<PathBuf> {
    let given = std::env::var_os("XDG_RUNTIME_DIR").filter(|path| !path.is_empty());
    given.map(PathBuf::from).ok_or_else(|| Error::Systemd {
        what: "connecting to the user's systemd".into(),
        name: String::new(),
        why: "XDG_RUNTIME_DIR is not set".into(),
    })
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Error {
    let late = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
    let why = if late { format!("no answer within {} s", PATIENCE.as_secs()) } else { error.to_string() };
    Error::Systemd { what: what.into(), name: String::new(), why: format!("{}: {why}", path.display()) }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;
    use std::time::Duration;

    use super::*;

    #[test]
    fn all_of_the_authentication_is_there_before_it_is_answered() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("private");
        let listener = UnixListener::bind(&path).expect("a socket");
        let manager = std::thread::spawn(move || {
            let (mut peer, _) = listener.accept().expect("a client");
            peer.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout");
            let mut said = Vec::new();
            while !said.ends_with(b"BEGIN\r\n") {
                let mut bytes = [0; 64];
                match peer.read(&mut bytes) {
                    Ok(count) if count > 0 => said.extend(&bytes[..count]),
                    _ => break,
                }
            }
            peer.write_all(b"OK 0123\r\n").expect("an answer");
            String::from_utf8(said).expect("a text")
        });
        Bus::open(&path).expect("a connection");
        let said = manager.join().expect("a manager");
        assert!(said.starts_with("\0AUTH EXTERNAL ") && said.ends_with("\r\nBEGIN\r\n"), "{said:?}");
    }
}
