//! The processes of a container: docker's `top`.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use cli::{During, Failure};
use descriptor::moment;
use serde_json::{Value, json};
use store::Store;

use crate::args::TopArgs;
use crate::lists::{no_lines, tell, tell_ids};
use crate::live::Live;
use crate::table::{Column, fixed, flexible};

/// A process's times are counted in these, as the kernel gives them to everybody (`USER_HZ`, proc_pid_stat(5)).
const TICKS: u64 = 100;
const COLUMNS: [(Column, &str); 8] = [
    (fixed("UID"), "UID"),
    (fixed("PID"), "PID"),
    (fixed("PPID"), "PPID"),
    (fixed("C"), "C"),
    (fixed("STIME"), "STIME"),
    (fixed("TTY"), "TTY"),
    (fixed("TIME"), "TIME"),
    (flexible("CMD", 12), "CMD"),
];

/// Shows them, as `ps -ef` would.
pub(crate) fn top(store: &Store, args: &TopArgs, ids_only: bool) -> Result<(), Failure> {
    no_lines(&args.form)?;
    let container = store.container(&args.name).during(|| format!("container {:?}", args.name))?;
    let live = Live::must(&container)?;
    let users = users();
    // One that has ended since has no row.
    let rows: Vec<Value> = live.processes()?.into_iter().filter_map(|pid| row(pid, &users)).collect();
    if ids_only { tell_ids(&rows, "PID") } else { tell(&rows, &args.form, &COLUMNS) }
}

/// The names of the host's users.
fn users() -> HashMap<u32, String> {
    let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_string();
        Some((fields.nth(1)?.parse().ok()?, name))
    };
    text.lines().filter_map(entry).collect()
}

fn row(pid: u32, users: &HashMap<u32, String>) -> Option<Value> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let stat = Stat::parse(&text)?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let uid: u32 =
        status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().nth(1)?.parse().ok()?;
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = command.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    let command = words.join(" ").trim_end().to_string();
    let up = Duration::new(
        rustix::time::clock_gettime(rustix::time::ClockId::Boottime).tv_sec.try_into().ok()?,
        0,
    );
    let age = up.as_secs().saturating_sub(stat.started / TICKS);
    let used = stat.used / TICKS;
    Some(json!({
        "UID": users.get(&uid).cloned().unwrap_or_else(|| uid.to_string()), "PID": pid.to_string(),
        "PPID": stat.parent.to_string(), "C": (used * 100).checked_div(age).unwrap_or(0).min(99).to_string(),
        "STIME": started(age), "TTY": terminal(stat.terminal),
        "TIME": format!("{:02}:{:02}:{:02}", used / 3600, used / 60 % 60, used % 60),
        "CMD": if command.is_empty() { format!("[{}]", stat.name) } else { command },
    }))
}

/// When it was started, in UTC: the time of day, or the day where that is not today's.
fn started(age: u64) -> String {
    let Some(moment) = SystemTime::now().checked_sub(Duration::from_secs(age)) else { return "?".into() };
    let (text, now) = (moment::of(moment), moment::now());
    let part = if text.get(..10) == now.get(..10) { text.get(11..16) } else { text.get(..10) };
    part.unwrap_or("?").into()
}

/// A terminal by its device number (proc_pid_stat(5), field 7).
fn terminal(number: u32) -> String {
    let (major, minor) = ((number >> 8) & 0xfff, (number & 0xff) | ((number >> 12) & 0xf_ff00));
    match major {
        0 => "?".into(),
        // Eight majors of 256 pseudo terminals each (the kernel's devices.txt).
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        4 => format!("tty{minor}"),
        _ => format!("{major}:{minor}"),
    }
}

/// What proc_pid_stat(5) tells.
struct Stat<'a> {
    name: &'a str,
    parent: u32,
    terminal: u32,
    /// Ticks.
    used: u64,
    /// Ticks since boot.
    started: u64,
}

impl<'a> Stat<'a> {
    /// The name is in brackets and may have brackets in it.
    fn parse(text: &'a str) -> Option<Self> {
        let (before, after) = (text.find('(')?, text.rfind(')')?);
        let fields: Vec<&str> = text.get(after + 1..)?.split_whitespace().collect();
        // The first of them is field 3.
        let field = |number: usize| fields.get(number - 3);
        let ticks = |number| field(number)?.parse::<u64>().ok();
        Some(Self {
            name: text.get(before + 1..after)?,
            parent: field(4)?.parse().ok()?,
            terminal: field(7)?.parse().ok()?,
            used: ticks(14)? + ticks(15)?,
            started: ticks(22)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let text = "12 (a) (b) S 7 12 12 34816 12 4194560 1 0 0 0 250 50 0 0 20 0 1 0 4200 1 1 1";
        let stat = Stat::parse(text).expect("a process");
        assert_eq!((stat.name, stat.parent, stat.used, stat.started), ("a) (b", 7, 300, 4200));
        assert_eq!(terminal(stat.terminal), "pts/0");
        assert_eq!((terminal(0), terminal(0x8903)), ("?".into(), "pts/259".into()));
        assert!(Stat::parse("12 (a) S").is_none());
    }
}
