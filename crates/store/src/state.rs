//! A container's state, and whether what it says is still true.
//!
//! A process is named by pid, start time and boot: a pid alone is another process sooner or later.

use std::time::{Duration, SystemTime};

use descriptor::moment::now;
use descriptor::{Status, moment};
use serde::{Deserialize, Serialize};

pub use sys::identity::{boot_id, start_time};

/// The exit code of a process whose end nobody saw, as docker gives it after a crash of its own or of the host.
pub const UNSEEN: u8 = 255;

/// The most bytes of [`State::error`]: a failure may quote what an image calls its command, and that has no bounds.
const ERROR_BYTES: usize = 4096;

/// state.json of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// As it was written; [`State::now`] is what is true.
    pub status: Status,
    /// Random for each creation.
    pub instance: String,
    /// The container's first process, in the pid namespace of who wrote this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Its start time, clock ticks since boot (proc_pid_stat(5), field 22).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<u64>,
    /// The boot in which it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// How the last process ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
    /// The live mount of its root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount: Option<MountId>,
    /// When it was made, RFC 3339 with nanoseconds, UTC; so are the next two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// When its command was last executed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When its process last ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<String>,
    /// The kernel ended a process of its last run for want of memory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub oom_killed: bool,
    /// Why it was not started, the last time that was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Its control groups while they are there, as the crate `cgroup` writes them; recorded before they are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<serde_json::Value>,
    /// Who stands by it and records its end; in the background it keeps the log, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitor: Option<Process>,
    /// It runs in that process's foreground: nobody else can attach.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub foreground: bool,
    /// It ends to be started again: a one-off stays for that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restarting: bool,
    /// In the background it has a terminal (`-t`), as docker's `Config.Tty`; so has the next start.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tty: bool,
    /// In the background its input stays open for who attaches (`-i`), as docker's `Config.OpenStdin`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub open_stdin: bool,
    /// What its image was called by who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_name: Option<String>,
    /// True once a supervisor of ours stopped trying to start it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_up: Option<bool>,
}

/// A process that no other will ever be taken for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// In the pid namespace of who wrote this.
    pub pid: u32,
    /// Clock ticks since boot (proc_pid_stat(5), field 22).
    pub start_time: u64,
    /// The boot in which it was started.
    pub boot_id: String,
}

impl Process {
    /// The process that has this pid now; none where it has ended.
    pub fn of(pid: u32) -> Option<Self> {
        Some(Self { pid, start_time: start_time(pid)?, boot_id: boot_id()? })
    }

    /// Whether it lives.
    pub fn is_alive(&self) -> bool {
        Some(&self.boot_id) == boot_id().as_ref() && start_time(self.pid) == Some(self.start_time)
    }
}

/// A mount that no other will ever be taken for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MountId {
    /// The mount namespace's inode.
    pub namespace: u64,
    /// The mount's unique id (statx(2), `STATX_MNT_ID_UNIQUE`, Linux 6.8), or what serves as one.
    pub id: u64,
    /// The boot in which it was mounted: ids begin anew with each.
    pub boot_id: String,
}

impl State {
    /// The state of a container that was just made.
    pub fn created(instance: impl Into<String>) -> Self {
        Self {
            status: Status::Created,
            instance: instance.into(),
            pid: None,
            start_time: None,
            boot_id: None,
            exit_code: None,
            mount: None,
            created_at: Some(now()),
            started_at: None,
            finished_at: None,
            oom_killed: false,
            error: None,
            group: None,
            monitor: None,
            foreground: false,
            restarting: false,
            tty: false,
            open_stdin: false,
            image_name: None,
            given_up: None,
        }
    }

    /// Notes that `pid`, a living process, is the container's.
    pub fn set_running(&mut self, pid: u32) {
        self.status = Status::Running;
        self.pid = Some(pid);
        self.start_time = start_time(pid);
        self.boot_id = boot_id();
        self.exit_code = None;
        self.started_at = Some(now());
        self.finished_at = None;
        self.oom_killed = false;
        self.error = None;
        self.restarting = false;
    }

    /// Notes that the container's process ended.
    pub fn set_stopped(&mut self, exit_code: Option<u8>) {
        self.status = Status::Stopped;
        self.pid = None;
        self.start_time = None;
        self.boot_id = None;
        self.exit_code = exit_code;
        self.finished_at = Some(now());
        self.monitor = None;
        self.foreground = false;
    }

    /// Notes why it was not started; of a long reason the beginning.
    pub fn set_error(&mut self, why: &str) {
        let end = (0..=why.len().min(ERROR_BYTES)).rev().find(|&end| why.is_char_boundary(end));
        self.error = Some(why[..end.unwrap_or(0)].into());
    }

    /// The status that is true now: nothing runs whose process is gone.
    pub fn now(&self) -> Status {
        match self.status {
            Status::Running | Status::Paused if !self.is_alive() => Status::Stopped,
            status => status,
        }
    }

    /// What has to be written in place of a state that cannot be true: its process has ended and nobody is left to record
    /// how, or it is of another boot. None where it is as it says, or where a living monitor will say so.
    ///
    /// Nobody knows the exit code: it is [`UNSEEN`]. The end is dated to the latest it can have been: the beginning of this
    /// boot, or now. Control groups of another boot are forgotten with it; those of this one may still be there.
    pub fn settled(&self) -> Option<Self> {
        let mut state = self.clone();
        let is_past = |boot: &Option<String>| boot.is_some() && *boot != boot_id();
        if state.mount.as_ref().is_some_and(|mount| Some(&mount.boot_id) != boot_id().as_ref()) {
            state.mount = None;
        }
        let ran = matches!(self.status, Status::Running | Status::Paused);
        let is_watched = self.monitor.as_ref().is_some_and(Process::is_alive);
        if ran && !self.is_alive() && !is_watched {
            let rebooted = is_past(&self.boot_id);
            state.set_stopped(Some(UNSEEN));
            if rebooted {
                state.group = None;
                state.finished_at = end_before_boot(self.started_at.as_deref()).or(state.finished_at);
            }
        } else if !ran && !is_watched {
            state.monitor = None;
            state.foreground = false;
        }
        (state != *self).then_some(state)
    }

    /// Whether its process has ended, and who stands by it, another process than this one, lives and is about to record how.
    pub fn is_being_recorded(&self) -> bool {
        let ran = matches!(self.status, Status::Running | Status::Paused);
        let other = self.monitor.as_ref().filter(|monitor| monitor.pid != std::process::id());
        ran && !self.is_alive() && other.is_some_and(Process::is_alive)
    }

    /// Whether the container's process lives: the same pid, start time and boot.
    pub fn is_alive(&self) -> bool {
        let (Some(pid), Some(started)) = (self.pid, self.start_time) else { return false };
        self.boot_id.is_some() && self.boot_id == boot_id() && start_time(pid) == Some(started)
    }
}

/// When this boot began, unless the container was started, by the clock, after that.
fn end_before_boot(started: Option<&str>) -> Option<String> {
    let since_boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let since_boot = Duration::new(since_boot.tv_sec.try_into().ok()?, since_boot.tv_nsec.try_into().ok()?);
    let boot = SystemTime::now().checked_sub(since_boot)?;
    let is_later = started.and_then(moment::parse).is_some_and(|started| started > boot);
    (!is_later).then(|| moment::of(boot))
}
