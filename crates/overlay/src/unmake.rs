//! Mount points that were made for a run are taken away again.

use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;
use sys::{Call, Root};

use crate::error::About;
use crate::{Error, Metadata, Result};

const WHAT: &str = "removing a mount point";

/// Removes files and directories that are still as empty as they were made, what lies inside another first. What anybody has
/// put something into stays, and so do the looks of the directories around.
///
/// # Errors
/// A failed call, after all that could be removed was.
pub fn unmake(root: &Root, made: &[PathBuf]) -> Result<()> {
    let mut made: Vec<&PathBuf> = made.iter().collect();
    made.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    let mut failed = Ok(());
    for path in made {
        match one(root, path) {
            Err(e) if !is_gone(&e) => failed = failed.and(Err(e)),
            _ => {}
        }
    }
    failed
}

fn one(root: &Root, path: &Path) -> Result<()> {
    let stat = root.lstat(path).about(WHAT)?;
    let flags = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => AtFlags::REMOVEDIR,
        FileType::RegularFile if stat.st_size == 0 => AtFlags::empty(),
        _ => return Ok(()),
    };
    let above = root.open_dir(path.parent().unwrap_or(Path::new(""))).about(WHAT)?;
    let looks = Metadata::of(&above)?;
    let name = path.file_name().unwrap_or_default();
    match rustix::fs::unlinkat(&above, name, flags) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => return Ok(()),
        done => done.call("unlinkat", || format!("{path:?}")).about(WHAT)?,
    }
    looks.apply(&above)
}

fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Call { source, .. } if source.is_not_found())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, io};

    #[test]
    fn only_what_is_still_empty_goes_and_the_directory_around_looks_as_before() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("etc/a/b"))?;
        fs::create_dir_all(at("run/x"))?;
        fs::write(at("etc/a/b/f"), "")?;
        fs::write(at("run/x/full"), "theirs")?;
        fs::write(at("run/token"), "theirs")?;
        let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        fs::File::open(at("etc"))?.set_modified(old)?;
        let root = Root::open_ambient(dir.path()).expect("open");
        let made = ["etc/a", "etc/a/b", "etc/a/b/f", "run", "run/x", "run/token", "gone/x"];
        unmake(&root, &made.map(PathBuf::from)).expect("unmake");
        assert!(!at("etc/a").exists() && at("run/x/full").exists() && at("run/token").exists());
        assert_eq!(fs::metadata(at("etc"))?.modified()?, old);
        Ok(())
    }
}
