//! `-v SRC:DST[:ro]`, docker's short form of a bind mount.

use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A directory or file of the host in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// On the host, absolute.
    pub source: PathBuf,
    /// In the container, absolute.
    pub target: PathBuf,
    /// No writes through it.
    pub read_only: bool,
}

impl FromStr for Volume {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':');
        let (Some(source), Some(target)) = (parts.next(), parts.next()) else {
            return Err("SRC:DST[:ro] is wanted; a directory of the container's own needs no -v".into());
        };
        let read_only = match (parts.next(), parts.next()) {
            (None | Some("rw"), None) => false,
            (Some("ro"), None) => true,
            _ => return Err("after DST there is ro, rw or nothing".into()),
        };
        if !source.starts_with(['/', '.']) {
            return Err(format!(
                "{source:?} is no path: begin it with / or ./ (volumes by name are not known here)"
            ));
        }
        if !target.starts_with('/') || Path::new(target).components().count() < 2 {
            return Err(format!("{target:?} is no absolute path below /"));
        }
        if target.split('/').any(|name| name == "..") {
            return Err(format!("{target:?} goes up"));
        }
        let source = std::path::absolute(source).map_err(|e| e.to_string())?;
        Ok(Self { source, target: target.into(), read_only })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_short_form_is_read() {
        let volume: Volume = "/a:/b:ro".parse().expect("a volume");
        assert_eq!(volume, Volume { source: "/a".into(), target: "/b".into(), read_only: true });
        assert!("./x:/b".parse::<Volume>().expect("relative").source.is_absolute());
        for text in ["/a", "name:/b", "/a:b", "/a:/", "/a:/b:z", "/a:/b:ro:rw", "/a:/b/../c", "", ":"] {
            text.parse::<Volume>().expect_err(text);
        }
    }
}
