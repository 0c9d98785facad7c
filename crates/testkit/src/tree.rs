//! Trees as data: kind, owner, mode, times, extended attributes, link structure, content; and how two differ.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A tree by relative path; the root is the empty path.
pub type Tree = BTreeMap<PathBuf, Entry>;

/// All that two trees are compared by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Kind and what belongs to it: a digest, a link's target, a device's numbers.
    pub what: String,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// uid and gid.
    pub owner: (u32, u32),
    /// Seconds and nanoseconds of the last modification.
    pub mtime: (i64, i64),
    /// Extended attributes.
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// The first name of the same file, where it has several.
    pub link: Option<PathBuf>,
}

/// What a comparison leaves out.
#[derive(Clone, Debug, Default)]
pub struct Ignore {
    subtrees: Vec<PathBuf>,
    mtimes: Vec<PathBuf>,
}

impl Ignore {
    /// Compares all.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Leaves out these paths and all below them.
    pub fn subtrees(mut self, paths: &[&str]) -> Self {
        self.subtrees.extend(paths.iter().map(PathBuf::from));
        self
    }

    /// Leaves out the modification times of these paths (`""` is the root).
    pub fn mtimes(mut self, paths: &[&str]) -> Self {
        self.mtimes.extend(paths.iter().map(PathBuf::from));
        self
    }

    fn covers(&self, path: &Path) -> bool {
        self.subtrees.iter().any(|tree| path.starts_with(tree))
    }
}

/// The relative paths of a tree, sorted, the root first; other file systems mounted inside are not entered.
pub fn paths(root: &Path) -> Vec<PathBuf> {
    let device = std::fs::symlink_metadata(root).expect("the tree's root is there").dev();
    let mut found = vec![PathBuf::new()];
    let mut open = vec![PathBuf::new()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(root.join(&dir)).expect("a directory can be read") {
            let entry = entry.expect("a directory can be read");
            let path = dir.join(entry.file_name());
            let meta = std::fs::symlink_metadata(entry.path()).expect("a listed file is there");
            if meta.is_dir() && meta.dev() == device {
                open.push(path.clone());
            }
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The bytes that the file system has allocated for a tree, as du(1) counts them (`st_blocks`): directories too, a file with
/// several names once; other file systems mounted inside are left out.
pub fn allocated(root: &Path) -> u64 {
    let device = std::fs::symlink_metadata(root).expect("the tree's root is there").dev();
    let mut seen = std::collections::HashSet::new();
    let mut bytes = 0;
    for path in paths(root) {
        let meta = std::fs::symlink_metadata(root.join(path)).expect("a listed file is there");
        if meta.dev() == device && (meta.nlink() == 1 || meta.is_dir() || seen.insert(meta.ino())) {
            bytes += meta.blocks() * 512;
        }
    }
    bytes
}

/// Reads a tree.
pub fn read(root: &Path) -> Tree {
    let mut firsts: BTreeMap<(u64, u64), PathBuf> = BTreeMap::new();
    let mut tree = Tree::new();
    for path in paths(root) {
        let full = root.join(&path);
        let meta = std::fs::symlink_metadata(&full).expect("a listed file is there");
        let shared = !meta.is_dir() && meta.nlink() > 1;
        let link = shared
            .then(|| firsts.entry((meta.dev(), meta.ino())).or_insert_with(|| path.clone()).clone())
            .filter(|first| *first != path);
        let entry = Entry {
            what: what(&full, &meta),
            mode: if meta.is_symlink() { 0 } else { meta.mode() & 0o7777 },
            owner: (meta.uid(), meta.gid()),
            mtime: (meta.mtime(), meta.mtime_nsec()),
            xattrs: xattrs(&full),
            link,
        };
        tree.insert(path, entry);
    }
    tree
}

fn what(path: &Path, meta: &std::fs::Metadata) -> String {
    let kind = meta.file_type();
    if kind.is_dir() {
        return "directory".to_owned();
    }
    if kind.is_symlink() {
        let target = std::fs::read_link(path).expect("a symbolic link can be read");
        return format!("link to {}", target.as_os_str().as_bytes().escape_ascii());
    }
    if kind.is_file() {
        let bytes = std::fs::read(path).expect("a file can be read");
        return format!("file of {} bytes, {}", bytes.len(), crate::digest(&bytes));
    }
    let (major, minor) = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
    match (kind.is_char_device(), kind.is_block_device(), kind.is_fifo()) {
        (true, _, _) => format!("character device {major}:{minor}"),
        (_, true, _) => format!("block device {major}:{minor}"),
        (_, _, true) => "fifo".to_owned(),
        _ => "socket".to_owned(),
    }
}

fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0; 65536];
    let length = rustix::fs::llistxattr(path, names.as_mut_slice()).unwrap_or(0);
    let mut found = BTreeMap::new();
    for name in names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 65536];
        let length = rustix::fs::lgetxattr(path, name, value.as_mut_slice()).unwrap_or(0);
        value.truncate(length);
        found.insert(String::from_utf8_lossy(name).into_owned(), value);
    }
    found
}

/// One line for each difference; empty when the trees are equal.
pub fn difference(wanted: &Tree, found: &Tree, ignore: &Ignore) -> Vec<String> {
    let mut lines = Vec::new();
    for (path, entry) in wanted.iter().filter(|(path, _)| !ignore.covers(path)) {
        let Some(other) = found.get(path) else {
            lines.push(format!("/{}: missing ({})", path.display(), entry.what));
            continue;
        };
        let (mut left, mut right) = (entry.clone(), other.clone());
        if ignore.mtimes.contains(path) {
            (left.mtime, right.mtime) = ((0, 0), (0, 0));
        }
        if left != right {
            lines.push(format!("/{}: wanted {left:?}\n    found {right:?}", path.display()));
        }
    }
    for (path, entry) in found.iter().filter(|(path, _)| !ignore.covers(path) && !wanted.contains_key(*path))
    {
        lines.push(format!("/{}: unexpected ({})", path.display(), entry.what));
    }
    lines
}

/// Panics with the differences of two trees.
pub fn assert_same(wanted: &Path, found: &Path, ignore: &Ignore) {
    let difference = difference(&read(wanted), &read(found), ignore);
    let shown = difference.iter().take(20).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(difference.is_empty(), "{} differences:\n{shown}", difference.len());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_hard_link_is_a_difference() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (one, two) = (dir.path().join("1"), dir.path().join("2"));
        for root in [&one, &two] {
            std::fs::create_dir(root).expect("a directory");
            std::fs::write(root.join("a"), "x").expect("a file");
        }
        std::fs::hard_link(one.join("a"), one.join("b")).expect("a link");
        std::fs::copy(two.join("a"), two.join("b")).expect("a copy");
        let ignore = Ignore::nothing().mtimes(&["", "a", "b"]);
        let lines = difference(&read(&one), &read(&two), &ignore);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with("/b: wanted"));
    }
}
