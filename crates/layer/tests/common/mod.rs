//! A place to unpack in, with a canary beside it.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::path::{Path, PathBuf};

use descriptor::{Classify, Exit};
use layer::{Encoding, Error, Flat, Limits, Options, Unpacked};
use sys::Root;
use testkit::canary::Canary;

/// A directory for trees and a canary that no test may change.
pub(crate) struct Scene {
    dir: tempfile::TempDir,
    pub(crate) canary: Canary,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let canary = Canary::plant(&dir.path().join("canary"));
        Self { dir, canary }
    }

    /// The canary's absolute path, for links.
    pub(crate) fn prey(&self) -> String {
        self.canary.path().to_str().expect("UTF-8").to_string()
    }

    /// A new empty directory.
    pub(crate) fn tree(&self, name: &str) -> PathBuf {
        let tree = self.dir.path().join(name);
        std::fs::create_dir(&tree).expect("mkdir");
        tree
    }

    /// Unpacks one archive in overlay form into a new tree, and asserts that nothing outside changed.
    pub(crate) fn unpack(&self, name: &str, archive: &[u8]) -> (PathBuf, Result<Unpacked, Error>) {
        self.unpack_as(name, archive, Encoding::None, Limits::default())
    }

    pub(crate) fn unpack_as(
        &self,
        name: &str,
        bytes: &[u8],
        encoding: Encoding,
        limits: Limits,
    ) -> (PathBuf, Result<Unpacked, Error>) {
        let before = names(self.dir.path());
        let tree = self.tree(name);
        let unpacked = layer::unpack(bytes, encoding, &open(&tree), &Options { limits });
        self.assert_alone(before, name);
        (tree, unpacked)
    }

    /// Applies archives one over the other to a new tree.
    pub(crate) fn flatten(&self, name: &str, archives: &[Vec<u8>]) -> (PathBuf, Result<(), Error>) {
        let before = names(self.dir.path());
        let tree = self.tree(name);
        let root = open(&tree);
        let apply = || {
            let mut flat = Flat::new(&root)?;
            for archive in archives {
                flat.apply(&archive[..], Encoding::None, &Options::default())?;
            }
            flat.finish()
        };
        let result = apply();
        self.assert_alone(before, name);
        (tree, result)
    }

    /// Asserts that beside the canary, which is as it was, there is nothing.
    pub(crate) fn assert_nothing_but_the_canary(&self, case: usize) {
        self.canary.assert_alive();
        assert_eq!(names(self.dir.path()), ["canary"], "{case}: something was made beside the tree");
    }

    fn assert_alone(&self, mut before: Vec<String>, name: &str) {
        self.canary.assert_alive();
        before.push(name.to_string());
        before.sort();
        assert_eq!(names(self.dir.path()), before, "{name}: something was made beside the tree");
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("a directory");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

pub(crate) fn open(path: &Path) -> Root {
    Root::open_ambient(path).expect("open")
}

/// The error, which has to be one of content that names `part`.
pub(crate) fn assert_refused<T: std::fmt::Debug>(result: Result<T, Error>, part: &str, case: &str) {
    let error = result.expect_err(case);
    assert_eq!(error.exit(), Exit::Content, "{case}: {error}");
    assert!(error.to_string().contains(part), "{case}: {error} does not say {part:?}");
}
