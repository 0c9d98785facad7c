//! A path of the command line: the host's, or a container's.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Where something is copied from or to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A path of the host.
    Host(PathBuf),
    /// `-`: an archive on stdin or stdout.
    Stream,
    /// A path in a container: the line's, or one that is named.
    Container(Option<String>, PathBuf),
}

impl From<OsString> for Place {
    /// `[NAME]:PATH` is a container's; a path of the host with a colon has a slash before it (`./a:b`), and so has a file `-`.
    fn from(text: OsString) -> Self {
        if text == "-" {
            return Self::Stream;
        }
        let bytes = text.as_bytes();
        let colon = bytes.iter().position(|&b| b == b':');
        let Some(colon) = colon.filter(|&colon| !bytes[..colon].contains(&b'/') && bytes[0] != b'.') else {
            return Self::Host(text.into());
        };
        let name = String::from_utf8_lossy(&bytes[..colon]).into_owned();
        let path = PathBuf::from(OsString::from_vec(bytes[colon + 1..].to_vec()));
        Self::Container((!name.is_empty()).then_some(name), path)
    }
}

/// How a path ends, which decides what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// A name.
    Name,
    /// `/`: it has to be a directory, and a link is followed.
    Slash,
    /// `/.`: what is in the directory.
    Contents,
}

impl Ending {
    /// Of a path.
    pub(crate) fn of(path: &Path) -> Self {
        match path.as_os_str().as_bytes() {
            b"." | b".." => Self::Contents,
            bytes if bytes.ends_with(b"/.") || bytes.ends_with(b"/..") => Self::Contents,
            bytes if bytes.ends_with(b"/") => Self::Slash,
            _ => Self::Name,
        }
    }
}

/// The parent of a path as it stands, and its last name; none where it ends in `.`, `..` or is `/`.
pub(crate) fn split(path: &Path) -> Option<(&Path, &OsStr)> {
    let (parent, name) = sys::parent_and_name(path)?;
    Some((if parent.as_os_str().is_empty() { Path::new(".") } else { parent }, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_before_any_slash_names_a_container() {
        let container = |name: Option<&str>, path: &str| Place::Container(name.map(Into::into), path.into());
        for (text, want) in [
            (":/a", container(None, "/a")),
            (":", container(None, "")),
            ("web:/a:b", container(Some("web"), "/a:b")),
            ("-", Place::Stream),
            ("./-", Place::Host("./-".into())),
            ("a/b:c", Place::Host("a/b:c".into())),
            ("./a:b", Place::Host("./a:b".into())),
            ("/a:b", Place::Host("/a:b".into())),
            ("a", Place::Host("a".into())),
        ] {
            assert_eq!(Place::from(OsString::from(text)), want, "{text}");
        }
    }

    #[test]
    fn paths_end_in_a_name_a_slash_or_a_dot() {
        for (path, ending) in [
            ("a", Ending::Name),
            ("a/", Ending::Slash),
            ("/", Ending::Slash),
            ("a/.", Ending::Contents),
            (".", Ending::Contents),
            ("a/..", Ending::Contents),
            ("a/...", Ending::Name),
        ] {
            assert_eq!(Ending::of(Path::new(path)), ending, "{path}");
        }
    }

    #[test]
    fn parents_are_taken_as_they_stand() {
        let split = |path| {
            super::split(Path::new(path)).map(|(p, n)| (p.to_str().unwrap_or(""), n.to_str().unwrap_or("")))
        };
        assert_eq!(split("a"), Some((".", "a")));
        assert_eq!(split("/a"), Some(("/", "a")));
        assert_eq!(split("a/b//"), Some(("a/", "b")));
        assert_eq!(split("/"), None);
        assert_eq!(split("a/.."), None);
    }
}
