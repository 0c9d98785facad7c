//! What a command must not leave behind: mounts, processes, container directories, names.

use std::path::{Path, PathBuf};

/// Everything below `dir` that is still mounted, used or running, one line each.
pub fn find(dir: &Path) -> Vec<String> {
    let mut found = mounts(dir);
    found.extend(processes(dir));
    for folder in ["containers", "names"] {
        found.extend(entries(&dir.join(folder)).iter().map(|name| format!("{folder}/{name}")));
    }
    found
}

/// The names in a folder of the store, sorted, without the lock that stays there.
pub fn entries(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name != ".lock").collect();
    names.sort();
    names
}

/// Mounts below `dir` in this mount namespace.
pub fn mounts(dir: &Path) -> Vec<String> {
    let info = std::fs::read_to_string("/proc/self/mountinfo").expect("/proc is there");
    let points = info.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    points.filter(|point| Path::new(point).starts_with(dir)).map(|point| format!("mount {point}")).collect()
}

/// mountinfo writes blanks and the like in octal.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// Processes whose environment or command line names `dir`, or whose root is an overlay of folders below it.
pub fn processes(dir: &Path) -> Vec<String> {
    let text = dir.to_string_lossy();
    let mine = std::process::id().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc is there").flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        if pid == mine || !pid.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let info = std::fs::read_to_string(entry.path().join("mountinfo")).unwrap_or_default();
        let root = info.lines().find(|line| line.split(' ').nth(4) == Some("/"));
        let uses = String::from_utf8_lossy(&environment).contains(text.as_ref())
            || command.contains(text.as_ref())
            || root.is_some_and(|line| line.contains(text.as_ref()));
        if uses {
            found.push(format!("process {pid} {command}"));
        }
    }
    found
}

/// Control groups that bear this in their names, on any hierarchy; a longer number that begins so is another one.
pub fn groups(part: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    groups_below(Path::new("/sys/fs/cgroup"), part, 6, &mut found);
    found
}

fn groups_below(dir: &Path, part: &str, depth: u32, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if depth == 0 || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_longer = |at: usize| name[at + part.len()..].starts_with(|c: char| c.is_ascii_digit());
        if name.find(part).is_some_and(|at| !is_longer(at)) {
            found.push(entry.path());
        }
        groups_below(&entry.path(), part, depth - 1, found);
    }
}

/// Takes everything below `dir` away that a failed test may have left: kills, unmounts.
pub fn clear(dir: &Path) {
    for line in processes(dir) {
        let pid =
            line.split(' ').nth(1).and_then(|pid| pid.parse().ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
    for line in mounts(dir).iter().rev() {
        let point = line.trim_start_matches("mount ");
        let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
    }
}
