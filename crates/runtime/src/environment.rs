//! Environment variables as docker's `-e` and `--env-file` spell them.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use descriptor::{Classify, Exit};

/// A file of variables is not longer than this: by default the kernel takes no more for arguments and environment
/// together (execve(2), a quarter of a stack of 8 MiB).
const FILE_LIMIT_BYTES: u64 = 2 << 20;

/// Why variables cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BadEnvironment {
    /// A word without a name.
    #[error("{0:?} has no name before the =")]
    NoName(String),
    /// A file that cannot be read, or is no text.
    #[error("{path:?}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file that is too long.
    #[error("{0:?}: more than {FILE_LIMIT_BYTES} bytes")]
    TooLong(PathBuf),
}

impl Classify for BadEnvironment {
    fn exit(&self) -> Exit {
        match self {
            Self::File { source, .. } if source.kind() == io::ErrorKind::NotFound => Exit::NotFound,
            Self::File { source, .. } if source.kind() != io::ErrorKind::InvalidData => Exit::Other,
            Self::NoName(_) | Self::File { .. } | Self::TooLong(_) => Exit::Usage,
        }
    }
}

/// The variables that files and words set, each `K=V`: the words win over the files, the later over the earlier.
///
/// `K` alone is the caller's variable, or nothing where the caller has none.
///
/// # Errors
/// A word without a name, or a file that cannot be read.
pub fn given(files: &[PathBuf], words: &[String]) -> Result<Vec<String>, BadEnvironment> {
    let mut all = Vec::new();
    for file in files {
        for word in lines(file)? {
            set(&mut all, &word)?;
        }
    }
    for word in words {
        set(&mut all, word)?;
    }
    Ok(all)
}

/// `K=V` as it stands; `K` with the caller's value, or nothing where the caller has none.
pub fn variable(word: &str) -> Option<String> {
    if word.contains('=') {
        return Some(word.to_string());
    }
    std::env::var(word).ok().map(|value| format!("{word}={value}"))
}

/// Sets each `K=V` of `over`, in place where the name stands already. A word without a name or value sets nothing.
pub fn override_env(env: &mut Vec<String>, over: &[String]) {
    let name_of = |pair: &str| pair.split_once('=').map(|(name, _)| name.to_string());
    // An image may name as many variables as its configuration has room for: they are not compared with each other.
    let mut places = HashMap::new();
    for (at, pair) in env.iter().enumerate() {
        if let Some(name) = name_of(pair) {
            places.entry(name).or_insert(at);
        }
    }
    for pair in over {
        let Some(name) = name_of(pair).filter(|name| !name.is_empty()) else { continue };
        match places.get(&name) {
            Some(&at) => env[at].clone_from(pair),
            None => {
                places.insert(name, env.len());
                env.push(pair.clone());
            }
        }
    }
}

fn set(all: &mut Vec<String>, word: &str) -> Result<(), BadEnvironment> {
    if word.is_empty() || word.starts_with('=') {
        return Err(BadEnvironment::NoName(word.into()));
    }
    override_env(all, variable(word).as_slice());
    Ok(())
}

/// The lines of a file that are neither empty nor comments; leading spaces do not count.
///
/// # Errors
/// [`BadEnvironment::File`], [`BadEnvironment::TooLong`].
#[allow(clippy::disallowed_methods, reason = "the caller's own file, as named on the command line")]
pub fn lines(path: &Path) -> Result<Vec<String>, BadEnvironment> {
    let failed = |source| BadEnvironment::File { path: path.into(), source };
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    file.take(FILE_LIMIT_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > FILE_LIMIT_BYTES {
        return Err(BadEnvironment::TooLong(path.into()));
    }
    let lines = text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(String::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_variables_are_set_in_a_moment() {
        let many: Vec<String> = (0..200_000).map(|n| format!("V{n}=1")).collect();
        let mut env = vec!["V7=0".to_string()];
        let start = std::time::Instant::now();
        override_env(&mut env, &many);
        // Each compared with all the others would take minutes.
        assert!(start.elapsed() < std::time::Duration::from_secs(10));
        assert_eq!((env.len(), &*env[0], &*env[1]), (200_000, "V7=1", "V0=1"));
    }

    #[test]
    fn words_win_over_files_and_a_name_alone_is_the_callers_variable() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "# comment\n\n  A=1\nB=a b=c\nPATH\nNO_SUCH_VARIABLE_HERE\n")
            .expect("write");
        let files = [file.path().to_path_buf()];
        let path = format!("PATH={}", std::env::var("PATH").expect("PATH"));
        let env = given(&files, &["A=2".into(), "C=".into()]).expect("variables");
        assert_eq!(env, ["A=2", "B=a b=c", &path, "C="]);
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for word in ["", "=", "=x"] {
            assert_eq!(given(&[], &[word.into()]).expect_err(word).exit(), Exit::Usage);
        }
        let error = given(&["/no/such/file".into()], &[]).expect_err("no file");
        assert_eq!(error.exit(), Exit::NotFound);
        let error = given(&["/dev/zero".into()], &[]).expect_err("no end");
        assert_eq!(error.exit(), Exit::Usage);
    }
}
