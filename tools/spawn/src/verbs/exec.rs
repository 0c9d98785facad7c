//! `exec`: a further process in a container.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, Process, User};
use runtime::lifecycle::{Execution, Host, Id};
use runtime::{Error, RawTerminal, Relay, Stdio, Supervisor};

use crate::verbs::bundle;
use crate::verbs::handover;
use crate::verbs::log;
use crate::verbs::options::{Given, given};
use crate::verbs::pid_file;
use crate::verbs::{Global, Result};

/// Its arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Everything after the id is the command. Without --process FILE the process is that of the \
    container's configuration, with the command and the options in place of its own.\n\
    Exit status: the command's own, 128+n after signal n; 255 where it could not be run."
)]
pub(crate) struct Args {
    /// A socket that takes the master of the terminal
    #[arg(long, value_name = "SOCKET", value_parser = given(), default_value = "", hide_default_value = true)]
    console_socket: Given,

    /// A socket that takes a descriptor of the process
    #[arg(long, value_name = "SOCKET", value_parser = given(), default_value = "", hide_default_value = true)]
    pidfd_socket: Given,

    /// The working directory in the container
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,

    /// Set an environment variable
    #[arg(short, long, value_name = "KEY=VALUE")]
    env: Vec<String>,

    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,

    /// Its user, by numbers
    #[arg(short, long, value_name = "UID[:GID]", value_parser = user)]
    user: Option<(u32, Option<u32>)>,

    /// Supplementary groups, by number
    #[arg(short = 'g', long, value_name = "GID", value_parser = id, value_delimiter = ',')]
    additional_gids: Vec<u32>,

    /// A file with the process as the specification writes it
    #[arg(short, long, value_name = "FILE", value_parser = given(), default_value = "", hide_default_value = true)]
    process: Given,

    /// Leave it running in the background
    #[arg(short, long)]
    detach: bool,

    /// A file to write its pid to
    #[arg(long, value_name = "FILE", value_parser = given(), default_value = "", hide_default_value = true)]
    pid_file: Given,

    /// Its SELinux label
    #[arg(long, value_name = "LABEL")]
    process_label: Option<String>,

    /// Its AppArmor profile
    #[arg(long, value_name = "PROFILE")]
    apparmor: Option<String>,

    /// Forbid it to gain privileges
    #[arg(long)]
    no_new_privs: bool,

    /// A capability beside those of the container's configuration
    #[arg(short, long, value_name = "CAPABILITY")]
    cap: Vec<String>,

    /// How many descriptors from number 3 on it gets
    #[arg(long, value_name = "N", default_value = "0")]
    preserve_fds: u32,

    /// A group below the container's control group to run it in
    #[arg(long, value_name = "[CONTROLLER[,...]:]PATH")]
    cgroup: Vec<String>,

    /// Exec in a paused container, too: the process waits until it is resumed
    #[arg(long)]
    ignore_paused: bool,

    /// Do not adopt orphans (they are never adopted here)
    #[arg(long, hide = true)]
    no_subreaper: bool,

    /// The container's id, and the command with its arguments
    #[arg(value_names = ["ID", "COMMAND"], required = true, trailing_var_arg = true)]
    words: Vec<String>,
}

impl Args {
    /// The container's id.
    pub(super) fn id(&self) -> Option<&str> {
        self.words.first().map(String::as_str)
    }
}

/// Runs it; the status is its own, or 0 with `--detach`.
pub(crate) fn exec(global: &Global, args: &Args) -> Result<u8> {
    handover::preserved(0, args.preserve_fds)?;
    let (id, command) = args.words.split_first().ok_or(Error::Incomplete("container id"))?;
    let directory = global.runtimes()?.look(&id.parse::<Id>()?)?;
    let host = Host::new(&directory, args.ignore_paused)?;
    let (process, warnings) = match &args.process {
        Some(path) => host.parse(&read(path)?)?,
        None => {
            let (known, unknown) = capabilities(&args.cap);
            let (process, mut warnings) =
                host.grantable(args.process(host.process()?, command, &known)?)?;
            warnings.extend(
                unknown.map(|names| format!("ignoring unknown or unavailable capabilities: [{names}]")),
            );
            (process, warnings)
        }
    };
    log::warnings(global, &warnings);
    let inside = cgroup::Inside::parse(&args.cgroup)?;
    let terminal = process.terminal() == Some(true);
    bundle::check_console(terminal, args.detach, args.console_socket.as_ref())?;
    let keyboard = if terminal && !args.detach { Some(RawTerminal::open()?) } else { None };
    let stdio = match (&args.console_socket, &keyboard) {
        (Some(path), _) => bundle::console(path)?,
        (None, Some(keyboard)) => {
            Stdio::Terminal { size: runtime::window_size(std::os::fd::AsFd::as_fd(keyboard)) }
        }
        (None, None) => bundle::streams()?,
    };
    let takes = args.pidfd_socket.as_ref().map(handover::connect).transpose()?;
    let mut supervisor = if args.detach { None } else { Some(Supervisor::forwarding()?) };
    let execution = Execution {
        process: &process,
        stdio,
        preserved: args.preserve_fds,
        inside,
        tie: runtime::Tie::Outlives,
    };
    let mut started = host.exec(execution)?;
    if let Some(mask) = runtime::lifecycle::initial_affinity(&process)? {
        log::debug(global, &format!("CPU affinity: {mask}"));
    }
    let told = takes
        .map_or(Ok(()), |socket| handover::send(&socket, "setns", &started.pidfd))
        .and_then(|()| pid_file::write(args.pid_file.as_deref(), started.pid));
    if let Err(error) = told {
        // Nobody could find it.
        let _ = sys::process::signal(&started.pidfd, SIGKILL);
        return Err(error);
    }
    let Some(supervisor) = &mut supervisor else { return Ok(0) };
    let relay = match (started.terminal.take(), keyboard) {
        (Some(master), Some(keyboard)) => {
            let output = bundle::copy(std::io::stdout())?;
            Some(Relay::new(RawTerminal::new(keyboard)?, output, master))
        }
        _ => None,
    };
    Ok(supervisor.wait(&started, relay)?.code())
}

const SIGKILL: i32 = 9;

impl Args {
    /// The container's own process with what the options change.
    fn process(&self, mut process: Process, command: &[String], more: &[Capability]) -> Result<Process> {
        if command.is_empty() {
            return Err(Error::Incomplete("command to exec"));
        }
        process.set_args(Some(command.to_vec()));
        process.set_terminal(Some(self.tty));
        if let Some(cwd) = &self.cwd {
            process.set_cwd(cwd.clone());
        }
        if let Some(profile) = &self.apparmor {
            process.set_apparmor_profile(Some(profile.clone()));
        }
        if let Some(label) = &self.process_label {
            process.set_selinux_label(Some(label.clone()));
        }
        if self.no_new_privs {
            process.set_no_new_privileges(Some(true));
        }
        let mut env = process.env().clone().unwrap_or_default();
        env.extend(self.env.iter().cloned());
        process.set_env(Some(env));
        if !more.is_empty() {
            let own = process.capabilities().clone().unwrap_or_else(none);
            process.set_capabilities(Some(with(own, more)));
        }
        let user = self.identity(process.user().clone());
        process.set_user(user);
        Ok(process)
    }

    fn identity(&self, mut user: User) -> User {
        if let Some((uid, gid)) = self.user {
            user.set_uid(uid);
            if let Some(gid) = gid {
                user.set_gid(gid);
            }
        }
        if !self.additional_gids.is_empty() {
            let mut groups = user.additional_gids().clone().unwrap_or_default();
            groups.extend(&self.additional_gids);
            user.set_additional_gids(Some(groups));
        }
        user
    }
}

/// No capabilities, which is not the type's default.
fn none() -> LinuxCapabilities {
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(None).set_effective(None).set_permitted(None).set_inheritable(None).set_ambient(None);
    sets
}

/// Adds capabilities as runc does: never to the inheritable ones, and to the ambient ones where there are inheritable ones.
fn with(mut sets: LinuxCapabilities, more: &[Capability]) -> LinuxCapabilities {
    let add = |set: &Option<Capabilities>| {
        let mut set: HashSet<Capability> = set.clone().unwrap_or_default();
        set.extend(more);
        Some(set)
    };
    sets.set_bounding(add(sets.bounding()));
    sets.set_effective(add(sets.effective()));
    sets.set_permitted(add(sets.permitted()));
    if sets.inheritable().is_some() {
        sets.set_ambient(add(sets.ambient()));
    }
    sets
}

/// A file of the host, which may not be endless.
fn read(path: &Path) -> Result<Vec<u8>> {
    let file = std::fs::File::open(path).map_err(|source| Error::File { path: path.into(), source })?;
    runtime::lifecycle::bounded(file.into(), &path.display().to_string())
}

/// `UID[:GID]`: numbers only, as nothing of the container is read to find out who that is.
fn user(text: &str) -> std::result::Result<(u32, Option<u32>), String> {
    match text.split_once(':') {
        Some((uid, gid)) => Ok((id(uid)?, Some(id(gid)?))),
        None => Ok((id(text)?, None)),
    }
}

/// A decimal number without sign below 4294967295, which means "no change" to the kernel.
fn id(text: &str) -> std::result::Result<u32, String> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = if plain { text.parse().ok() } else { None };
    number
        .filter(|&number| number != u32::MAX)
        .ok_or_else(|| format!("{text:?} is no decimal number below 4294967295"))
}

/// The capabilities of these names, and the names that are none.
fn capabilities(names: &[String]) -> (Vec<Capability>, Option<String>) {
    let parse = |name: &String| {
        let upper = name.to_uppercase();
        upper.strip_prefix("CAP_").unwrap_or(&upper).parse().map_err(|_| name.clone())
    };
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for name in names {
        match parse(name) {
            Ok(capability) => known.push(capability),
            Err(name) => unknown.push(name),
        }
    }
    (known, if unknown.is_empty() { None } else { Some(unknown.join(" ")) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_decimal_numbers_and_never_names() {
        for (text, want) in [
            ("0", Some((0, None))),
            ("1", Some((1, None))),
            ("1:1", Some((1, Some(1)))),
            ("2147483648", Some((1 << 31, None))),
            ("4294967294", Some((u32::MAX - 1, None))),
            ("4294967295", None),
            ("4294967296", None),
            ("-1", None),
            ("+1", None),
            ("0x0", None),
            ("1000:", None),
            (":5", None),
            ("", None),
            ("root", None),
            ("1 ", None),
        ] {
            assert_eq!(user(text).ok(), want, "{text:?}");
        }
    }

    #[test]
    fn capabilities_are_added_as_runc_adds_them() {
        let one = |name: &str| capabilities(&[name.to_string()]).0[0];
        let some = |names: &[&str]| Some(names.iter().map(|name| one(name)).collect::<HashSet<_>>());
        let mut sets = LinuxCapabilities::default();
        sets.set_bounding(some(&["CAP_KILL"]));
        sets.set_effective(None);
        sets.set_permitted(None);
        sets.set_inheritable(None);
        sets.set_ambient(None);
        let more = with(sets.clone(), &[one("net_raw")]);
        assert_eq!(*more.bounding(), some(&["KILL", "NET_RAW"]));
        assert_eq!(*more.effective(), some(&["NET_RAW"]));
        assert_eq!((more.inheritable(), more.ambient()), (&None, &None));
        sets.set_inheritable(some(&["KILL"]));
        let more = with(sets, &[one("CAP_NET_RAW")]);
        assert_eq!(*more.inheritable(), some(&["KILL"]));
        assert_eq!(*more.ambient(), some(&["NET_RAW"]));
        let (known, unknown) = capabilities(&["CAP_KILL".into(), "CAP_NONSENSE".into()]);
        assert_eq!((known.len(), unknown.as_deref()), (1, Some("CAP_NONSENSE")));
    }
}
