//! Naming a process so that no other is taken for it: its id with its start time, within one boot.

use rustix::fs::{Mode, OFlags};

/// A living process's start time in clock ticks since boot (proc_pid_stat(5), field 22); none for a zombie, which runs no
/// more.
pub fn start_time(pid: u32) -> Option<u64> {
    let stat = read(&format!("/proc/{pid}/stat"))?;
    // The command's name may hold spaces and parentheses; its last one ends it.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    if matches!(fields.next()?, "Z" | "X" | "x") {
        return None;
    }
    // Field 3 is taken; 22 is the nineteenth from here.
    fields.nth(18)?.parse().ok()
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
