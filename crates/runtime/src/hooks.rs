//! Hooks: the host's own programs, run at their points of a container's life (runtime-spec 1.2, "POSIX-platform Hooks").

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use oci_spec::runtime::{Hook, Hooks};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use serde::{Deserialize, Serialize};
use sys::{Call, Error, Result};

/// As much of what a hook wrote to stderr is part of the error.
const WORDS_BYTES: u64 = 1024;

/// A point of the life that hooks are run at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HookKind {
    /// Deprecated, still called; in the runtime's namespaces.
    Prestart,
    /// Before `pivot_root(2)`, in the runtime's namespaces.
    CreateRuntime,
    /// Before `pivot_root(2)`, in the container's namespaces.
    CreateContainer,
    /// Before the command, in the container's namespaces.
    StartContainer,
    /// After the command was executed, in the runtime's namespaces.
    Poststart,
    /// After the container was deleted, in the runtime's namespaces.
    Poststop,
}

impl HookKind {
    /// All kinds, in the order of a life.
    pub(crate) const ALL: [Self; 6] = [
        Self::Prestart,
        Self::CreateRuntime,
        Self::CreateContainer,
        Self::StartContainer,
        Self::Poststart,
        Self::Poststop,
    ];

    /// The member of the configuration.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::StartContainer => "startContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        }
    }

    /// The step of running them, as messages call it.
    pub(crate) fn step(self) -> &'static str {
        match self {
            Self::Prestart => "run prestart hooks",
            Self::CreateRuntime => "run createRuntime hooks",
            Self::CreateContainer => "run createContainer hooks",
            Self::StartContainer => "run startContainer hooks",
            Self::Poststart => "run poststart hooks",
            Self::Poststop => "run poststop hooks",
        }
    }

    /// The hooks of this kind, in their order.
    pub(crate) fn of(self, hooks: Option<&Hooks>) -> &[Hook] {
        #[allow(deprecated, reason = "prestart hooks are still to be called")]
        let list = hooks.and_then(|hooks| match self {
            Self::Prestart => hooks.prestart().as_ref(),
            Self::CreateRuntime => hooks.create_runtime().as_ref(),
            Self::CreateContainer => hooks.create_container().as_ref(),
            Self::StartContainer => hooks.start_container().as_ref(),
            Self::Poststart => hooks.poststart().as_ref(),
            Self::Poststop => hooks.poststop().as_ref(),
        });
        list.map_or(&[], Vec::as_slice)
    }
}

/// The environment of hooks whose configuration names none; the specification is silent, runc gives them these.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Inherited<'a> {
    /// The runtime's own, for hooks beside it.
    Runtime,
    /// The container process's, for hooks among its namespaces: what the runtime's holds is not theirs to see.
    Process(&'a [CString]),
}

/// A hook that failed: which, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{kind} hook {index}, {path:?}: {why}")]
pub struct HookFailure {
    /// The member of the configuration that lists it.
    pub kind: String,
    /// Its place there, from 0.
    pub index: usize,
    /// The program.
    pub path: PathBuf,
    /// Its status or its timeout, with what it wrote to stderr, or what kept it from being run.
    pub why: String,
}

/// Runs hooks in order, each with the container's state on its stdin; the first failure ends it.
///
/// # Errors
/// A hook that cannot be executed, ends with another status than 0 or does not end within its timeout, with what it wrote
/// to stderr.
pub(crate) fn run(
    kind: HookKind,
    hooks: &[Hook],
    state: &[u8],
    inherited: Inherited<'_>,
) -> std::result::Result<(), HookFailure> {
    hooks.iter().enumerate().try_for_each(|(index, hook)| numbered(kind, index, hook, state, inherited))
}

/// Runs the hooks after a container's end: each of them, whatever became of the others (runtime-spec 1.2, "Lifecycle").
pub(crate) fn poststop(hooks: Option<&Hooks>, state: &[u8]) -> Vec<HookFailure> {
    let kind = HookKind::Poststop;
    let each = kind.of(hooks).iter().enumerate();
    each.filter_map(|(index, hook)| numbered(kind, index, hook, state, Inherited::Runtime).err()).collect()
}

fn numbered(
    kind: HookKind,
    index: usize,
    hook: &Hook,
    state: &[u8],
    inherited: Inherited<'_>,
) -> std::result::Result<(), HookFailure> {
    let path = hook.path().clone();
    let failed = |why| HookFailure { kind: kind.name().into(), index, path, why };
    match one(hook, state, inherited) {
        Ok(None) => Ok(()),
        Ok(Some(why)) => Err(failed(why)),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// Runs it to its end; what is wrong with that.
fn one(hook: &Hook, state: &[u8], inherited: Inherited<'_>) -> Result<Option<String>> {
    // The path is the host's, or the container's, and never relative to a working directory.
    if !hook.path().is_absolute() {
        return Err(Error::new("execve", "the path is not absolute", Errno::INVAL));
    }
    let limit = match hook.timeout() {
        None => None,
        Some(seconds) => Some(
            u64::try_from(seconds).ok().filter(|&n| n > 0).map(Duration::from_secs).ok_or_else(|| {
                Error::new(
                    "execve",
                    format!("the timeout {seconds} is no number of seconds above 0"),
                    Errno::INVAL,
                )
            })?,
        ),
    };
    // Written to a file, so that a hook's child that keeps it open holds nobody up.
    let mut words = memory(c"hook-stderr")?;
    let mut input = memory(c"hook-stdin")?;
    input.write_all(state).call("write", || "state".into())?;
    input.seek(SeekFrom::Start(0)).call("lseek", || "state".into())?;
    let mut command = command(hook, inherited);
    command.stdin(input).stdout(Stdio::null()).stderr(words.try_clone().call("dup", || "stderr".into())?);
    let end = match (spawn_and_wait(command, limit)?, limit) {
        (Some(status), _) if status.success() => return Ok(None),
        (Some(status), _) => ended(status),
        (None, limit) => {
            format!("it was not done within its timeout of {} s", limit.unwrap_or_default().as_secs())
        }
    };
    let mut said = Vec::new();
    let _ = words.seek(SeekFrom::Start(0));
    let _ = words.take(WORDS_BYTES).read_to_end(&mut said);
    let said = String::from_utf8_lossy(&said);
    Ok(Some(if said.trim().is_empty() { end } else { format!("{end}: {}", said.trim()) }))
}

fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it ended with status {code}"),
        (None, Some(signal)) => format!("it was ended by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

fn command(hook: &Hook, inherited: Inherited<'_>) -> Command {
    let args = hook.args().clone().unwrap_or_default();
    let mut command = Command::new(hook.path());
    if let Some(name) = args.first() {
        command.arg0(name);
    }
    command.args(args.iter().skip(1)).process_group(0);
    match (hook.env(), inherited) {
        (None, Inherited::Runtime) => {}
        (None, Inherited::Process(entries)) => {
            let entries = entries.iter().map(|entry| OsStr::from_bytes(entry.as_bytes()));
            command.env_clear().envs(entries.map(pair));
        }
        (Some(entries), _) => {
            command.env_clear().envs(entries.iter().map(|entry| pair(OsStr::new(entry))));
        }
    }
    command
}

/// A name and its value.
fn pair(entry: &OsStr) -> (&OsStr, &OsStr) {
    let bytes = entry.as_bytes();
    let at = bytes.iter().position(|&byte| byte == b'=').unwrap_or(bytes.len());
    (OsStr::from_bytes(&bytes[..at]), OsStr::from_bytes(bytes.get(at + 1..).unwrap_or_default()))
}

/// How it ended; none where it did not within the limit, and was killed.
fn spawn_and_wait(mut command: Command, limit: Option<Duration>) -> Result<Option<ExitStatus>> {
    let mut child = command.spawn().call("execve", String::new)?;
    if let Some(limit) = limit {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| Error::new("execve", "its pid", Errno::RANGE))?;
        if !ends_within(pid, limit)? {
            let _ = kill_process_group(pid, Signal::KILL);
            let _ = child.wait();
            return Ok(None);
        }
    }
    child.wait().call("wait", String::new).map(Some)
}

fn ends_within(pid: Pid, limit: Duration) -> Result<bool> {
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).call("pidfd_open", || "hook".into())?;
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
            Err(Errno::INTR) => {}
            answer => return answer.map(|count| count > 0).call("poll", || "hook".into()),
        }
    }
}

fn memory(name: &std::ffi::CStr) -> Result<File> {
    rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC).call("memfd_create", String::new).map(File::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn hook(value: serde_json::Value) -> Hook {
        serde_json::from_value(value).expect("a hook")
    }

    #[test]
    fn a_hook_gets_the_state_its_arguments_and_nothing_but_its_environment() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let out = dir.path().join("out");
        let script = format!("(cat; echo; echo $0 $1 $A $HOME) >{}", out.display());
        let one =
            hook(json!({"path": "/bin/sh", "args": ["sh", "-c", script, "zero", "one"], "env": ["A=b=c"]}));
        run(HookKind::Prestart, &[one], b"{\"id\":1}", Inherited::Runtime).expect("the hook");
        assert_eq!(std::fs::read_to_string(out).expect("its file"), "{\"id\":1}\nzero one b=c\n");
    }

    #[test]
    fn the_first_failing_hook_ends_the_row_with_its_words() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let out = dir.path().join("out");
        let shell = |script: String| hook(json!({"path": "/bin/sh", "args": ["sh", "-c", script]}));
        let row = [shell("echo broken >&2; exit 3".into()), shell(format!("touch {}", out.display()))];
        let error = run(HookKind::CreateRuntime, &row, b"", Inherited::Runtime).expect_err("failed");
        let want = r#"createRuntime hook 0, "/bin/sh": it ended with status 3: broken"#;
        assert_eq!(error.to_string(), want);
        let killed = [shell("kill -9 $$".into())];
        let error = run(HookKind::Poststart, &killed, b"", Inherited::Runtime).expect_err("killed");
        assert_eq!(error.to_string(), r#"poststart hook 0, "/bin/sh": it was ended by signal 9"#);
        assert!(!out.exists());
    }

    #[test]
    fn a_hook_that_takes_too_long_is_killed_with_its_children() {
        let slow = hook(json!({"path": "/bin/sh", "args": ["sh", "-c", "sleep 100; exit 0"], "timeout": 1}));
        let begun = Instant::now();
        let error = run(HookKind::Poststop, &[slow], b"", Inherited::Runtime).expect_err("too slow");
        let want = r#"poststop hook 0, "/bin/sh": it was not done within its timeout of 1 s"#;
        assert_eq!(error.to_string(), want);
        assert!(begun.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn hooks_without_an_environment_have_the_runtimes_or_the_processs() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let out = dir.path().join("out");
        let script = format!("echo $A $CARGO_PKG_NAME >>{}", out.display());
        let shell = [hook(json!({"path": "/bin/sh", "args": ["sh", "-c", script]}))];
        run(HookKind::Prestart, &shell, b"", Inherited::Runtime).expect("the hook");
        let own = [CString::from(c"A=b=c"), CString::from(c"A-WORD")];
        run(HookKind::StartContainer, &shell, b"", Inherited::Process(&own)).expect("the hook");
        let said = std::fs::read_to_string(out).expect("its file");
        assert_eq!(said, "runtime\nb=c\n");
    }

    #[test]
    fn every_hook_after_the_end_is_run_and_what_failed_is_told() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let out = dir.path().join("out");
        let shell = |script: String| json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
        let row = json!({"poststop": [
            shell("exit 3".into()), shell(format!("echo ran >{}", out.display())), {"path": "/no/such"}
        ]});
        let hooks: Hooks = serde_json::from_value(row).expect("hooks");
        let failed: Vec<_> = poststop(Some(&hooks), b"").iter().map(ToString::to_string).collect();
        assert!(matches!(&failed[..], [first, last] if first.contains("hook 0") && last.contains("hook 2")));
        assert_eq!(std::fs::read_to_string(out).expect("its file"), "ran\n");
    }

    #[test]
    fn relative_paths_and_senseless_timeouts_are_refused() {
        for value in [
            json!({"path": "sh"}),
            json!({"path": "/bin/true", "timeout": 0}),
            json!({"path": "/bin/true", "timeout": -1}),
        ] {
            let wrong = run(HookKind::Poststart, &[hook(value)], b"", Inherited::Runtime);
            let wrong = wrong.expect_err("wrong").why;
            assert!(wrong.contains("is not absolute") || wrong.contains("no number of seconds"), "{wrong}");
        }
    }
}
