//! Naming a process so that no other is taken for it: its id with its start time, within one boot.

use rustix::fs::{Mode, OFlags};

/// A living process's start time in clock ticks since boot (proc_pid_stat(5), field 22); none for a zombie, which runs no
/// more.
///
/// A process whose first thread has ended looks like a zombie while others of its threads run on: it lives.
pub fn start_time(pid: u32) -> Option<u64> {
    living(&read(&format!("/proc/{pid}/stat"))?)
}

/// The start time of a process that lives, by its line of proc_pid_stat(5).
fn living(stat: &str) -> Option<u64> {
    // The command's name may hold spaces and parentheses; its last one ends it.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    // The first of them is field 3.
    let field = |number: usize| fields.get(number - 3).copied();
    let threads: u32 = field(20)?.parse().ok()?;
    match field(3)? {
        "X" | "x" => None,
        // What waits to be reaped is one thread, the last that there is.
        "Z" if threads < 2 => None,
        _ => field(22)?.parse().ok(),
    }
}

/// True where this process is in a user namespace whose processes cannot change their groups (user_namespaces(7)).
pub fn is_bound_to_groups() -> bool {
    read("/proc/self/setgroups").is_some_and(|word| word.trim() == "deny")
}

/// This boot's id.
pub fn boot_id() -> Option<String> {
    read("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_string()).filter(|id| !id.is_empty())
}

fn read(path: &str) -> Option<String> {
    let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::fs::File::from(fd), &mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(state: &str, threads: u32) -> String {
        format!("12 (a) Z 1) {state} 7 12 12 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 {threads} 0 4200 1 1 1")
    }

    #[test]
    fn a_zombie_is_dead_unless_other_threads_of_it_run_on() {
        for (state, threads, want) in
            [("S", 1, Some(4200)), ("Z", 1, None), ("Z", 2, Some(4200)), ("X", 2, None), ("Z", 0, None)]
        {
            assert_eq!(living(&line(state, threads)), want, "{state}, {threads} threads");
        }
        assert_eq!(living("12 (a) S"), None);
    }
}
