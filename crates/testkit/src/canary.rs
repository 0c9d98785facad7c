//! A tree outside of every store that an attack would love to change, and the proof that nothing did.

use crate::tree::{self, Tree};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The canary's directory and what it was like at the start.
pub struct Canary {
    dir: PathBuf,
    before: Tree,
    inodes: Vec<(PathBuf, u64)>,
}

impl Canary {
    /// Puts a 0600 file, a setuid file, a 0700 directory and a directory with a file into `dir`.
    pub fn plant(dir: &Path) -> Self {
        std::fs::create_dir_all(dir.join("dir")).expect("the canary can be made");
        std::fs::create_dir(dir.join("closed")).expect("the canary can be made");
        for (name, mode) in [("f", 0o600), ("setuid", 0o4755), ("dir/inner", 0o644)] {
            let path = dir.join(name);
            std::fs::write(&path, "canary\n").expect("the canary can be made");
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("its modes can be set");
        }
        std::fs::set_permissions(dir.join("closed"), PermissionsExt::from_mode(0o700)).expect("its mode");
        Self { dir: dir.to_owned(), before: tree::read(dir), inodes: inodes(dir) }
    }

    /// The directory, to be used as the target of attacks.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Panics with the difference if anything at all changed: content, metadata, links, inodes, names.
    pub fn assert_alive(&self) {
        let changes = self.changes();
        assert!(changes.is_empty(), "the canary changed:\n{}", changes.join("\n"));
    }

    /// All that changed: content, metadata, links, inodes, names.
    pub fn changes(&self) -> Vec<String> {
        let mut changes = tree::difference(&self.before, &tree::read(&self.dir), &tree::Ignore::nothing());
        if self.inodes != inodes(&self.dir) {
            changes.push("files were replaced or linked".to_owned());
        }
        changes
    }
}

fn inodes(dir: &Path) -> Vec<(PathBuf, u64)> {
    use std::os::unix::fs::MetadataExt;
    let mut found = Vec::new();
    for path in tree::paths(dir) {
        let meta = std::fs::symlink_metadata(dir.join(&path)).expect("a listed file is there");
        found.push((path, meta.ino() ^ (meta.nlink() << 56)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dies(change: impl FnOnce(&Path)) -> bool {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let canary = Canary::plant(&dir.path().join("canary"));
        canary.assert_alive();
        change(canary.path());
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| canary.assert_alive())).is_err()
    }

    #[test]
    fn every_kind_of_change_kills_the_canary() {
        assert!(dies(|dir| std::fs::write(dir.join("f"), "canarY\n").expect("write")));
        assert!(dies(|dir| std::fs::write(dir.join("new"), "").expect("write")));
        assert!(dies(|dir| std::fs::hard_link(dir.join("f"), dir.with_extension("link")).expect("link")));
        assert!(dies(|dir| std::fs::set_permissions(dir, PermissionsExt::from_mode(0o777)).expect("chmod")));
        assert!(dies(|dir| rustix::fs::setxattr(
            dir.join("f"),
            "user.k",
            b"v",
            rustix::fs::XattrFlags::empty()
        )
        .expect("setxattr")));
    }
}
