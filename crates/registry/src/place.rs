//! [`Place`]: where an image comes from or goes to.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::reference::{Reference, ReferenceError};

/// An image's place: a registry's repository, or an OCI image layout on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// `docker://REFERENCE`, or the bare reference.
    Registry(Reference),
    /// `oci:DIR[:REF]`.
    Layout(LayoutPlace),
}

/// An OCI image layout and the name of an image in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutPlace {
    /// The layout's directory.
    pub dir: PathBuf,
    /// The image's `org.opencontainers.image.ref.name`; without it the layout's only image is meant.
    pub name: Option<String>,
}

/// Where images are read from.
pub type Source = Place;
/// Where images are written to.
pub type Destination = Place;

/// Why a string names no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// The reference in it is none.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// `oci:` without a directory.
    #[error("{0:?} names no directory: write oci:DIR or oci:DIR:REF")]
    NoDirectory(String),
    /// A transport of other tools that is not known here.
    #[error("{text:?} uses the transport {transport:?}, which is not known here (known: docker://, oci:)")]
    Transport {
        /// The whole string.
        text: String,
        /// The transport's name.
        transport: &'static str,
    },
}

/// Other tools' transports: refused by name rather than read as a repository with a tag.
const FOREIGN: [&str; 8] = [
    "docker-archive:",
    "oci-archive:",
    "dir:",
    "docker-daemon:",
    "containers-storage:",
    "http://",
    "https://",
    "atomic:",
];

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        if let Some(reference) = text.strip_prefix("docker://") {
            return Ok(Self::Registry(reference.parse()?));
        }
        if let Some(rest) = text.strip_prefix("oci:") {
            return LayoutPlace::parse(rest)
                .map(Self::Layout)
                .ok_or_else(|| PlaceError::NoDirectory(text.to_owned()));
        }
        if let Some(transport) = FOREIGN.iter().find(|prefix| text.starts_with(**prefix)) {
            return Err(PlaceError::Transport { text: text.to_owned(), transport });
        }
        Ok(Self::Registry(text.parse()?))
    }
}

impl LayoutPlace {
    /// skopeo's rule: the directory ends at the first colon, so that a reference with colons can follow.
    fn parse(rest: &str) -> Option<Self> {
        let (dir, name) = match rest.split_once(':') {
            Some((dir, name)) => (dir, Some(name.to_owned()).filter(|name| !name.is_empty())),
            None => (rest, None),
        };
        (!dir.is_empty()).then(|| Self { dir: PathBuf::from(dir), name })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(reference) => reference.fmt(f),
            Self::Layout(layout) => layout.fmt(f),
        }
    }
}

impl fmt::Display for LayoutPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "oci:{}", self.dir.display())?;
        self.name.as_ref().map_or(Ok(()), |name| write!(f, ":{name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_by_their_transport() {
        let layout = |dir: &str, name: Option<&str>| {
            Place::Layout(LayoutPlace { dir: dir.into(), name: name.map(ToOwned::to_owned) })
        };
        let table = [
            ("oci:/tmp/x", layout("/tmp/x", None)),
            ("oci:x:latest", layout("x", Some("latest"))),
            ("oci:x:", layout("x", None)),
            ("oci:x:docker.io/library/a:1", layout("x", Some("docker.io/library/a:1"))),
        ];
        for (text, place) in table {
            assert_eq!(text.parse(), Ok(place), "{text}");
        }
        let bare: Place = "debian:12".parse().unwrap_or_else(|e| panic!("{e}"));
        assert_eq!("docker://debian:12".parse(), Ok(bare));
    }

    #[test]
    fn unknown_transports_are_named_and_not_read_as_repositories() {
        for text in [
            "docker-archive:x",
            "oci-archive:x.tar",
            "dir:/x",
            "https://host.example/a",
            "oci:",
            "oci::x",
            "docker://",
        ] {
            assert!(text.parse::<Place>().is_err(), "{text} was taken");
        }
        let message = "dir:/x".parse::<Place>().map_err(|e| e.to_string());
        assert_eq!(
            message,
            Err("\"dir:/x\" uses the transport \"dir:\", which is not known here (known: docker://, oci:)"
                .to_owned())
        );
    }
}
