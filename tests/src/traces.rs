//! What there is of a world's containers on this machine beside their files: what a crash may leave behind.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use testkit::{leftovers, tree};

/// How long what goes by itself may take.
const SETTLING: Duration = Duration::from_secs(30);

/// Waits until something holds; panics after half a minute with what was found.
pub fn until<T: std::fmt::Debug>(what: &str, mut look: impl FnMut() -> T, holds: impl Fn(&T) -> bool) -> T {
    let deadline = Instant::now() + SETTLING;
    loop {
        let found = look();
        if holds(&found) {
            return found;
        }
        assert!(Instant::now() < deadline, "never {what}: {found:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Locks that somebody holds on a file of a tree (proc_locks(5)), by its path.
pub fn locks(dir: &Path) -> Vec<String> {
    let held = std::fs::read_to_string("/proc/locks").expect("/proc is there");
    // `1: OFDLCK ADVISORY WRITE -1 fd:01:1234 0 EOF`: the last number of the sixth field is the inode.
    let inode = |line: &str| line.split_whitespace().nth(5)?.rsplit(':').next()?.parse::<u64>().ok();
    let inodes: Vec<u64> = held.lines().filter(|line| !line.contains("->")).filter_map(inode).collect();
    let paths = tree::paths(dir).into_iter().map(|path| dir.join(path));
    let is_held = |path: &PathBuf| path.symlink_metadata().is_ok_and(|meta| inodes.contains(&meta.ino()));
    paths.filter(is_held).map(|path| format!("lock {}", path.display())).collect()
}

/// Files of a tree that a process has open, and those that are open in nobody's name any more.
pub fn open_files(pid: u64, dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let targets = entries.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    targets.filter(|path| path.starts_with(dir)).map(|path| format!("open {}", path.display())).collect()
}

/// Everything a store's containers can leave on a machine when none of them runs, but for the mounts of their roots: processes,
/// control groups of these instances, locks, and what was being made.
pub fn left(store: &Path, instances: &[String]) -> Vec<String> {
    let mut left = leftovers::processes(store);
    for instance in instances {
        left.extend(
            leftovers::groups(instance).iter().map(|path| format!("control group {}", path.display())),
        );
    }
    left.extend(locks(store));
    left.extend(leftovers::entries(&store.join("staging")).iter().map(|name| format!("staging/{name}")));
    left
}
