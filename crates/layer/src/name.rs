//! What a member's name means: where in the tree it lies, and whether it is a whiteout (image-spec v1.1, layer.md).

use overlay::marks;

use crate::tar::{Kind, Member};

/// The prefix of whiteouts.
const WHITEOUT: &[u8] = b".wh.";

/// The prefix of what aufs kept for itself; only the opaque marker among these means anything.
const AUFS: &[u8] = b".wh..wh.";

/// The marker of an opaque directory.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// A path inside a tree: `a/b/c`, with no empty, `.` or `..` component; empty for the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path {
    bytes: Vec<u8>,
}

/// What a member does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Gives the root its attributes.
    Root,
    /// Puts something at this path.
    Entry(Path),
    /// Takes away what lower layers have at this path.
    Whiteout(Path),
    /// Takes away all that lower layers have in this directory.
    Opaque(Path),
    /// Nothing: what aufs left behind.
    Nothing,
}

impl Path {
    /// Makes an archive's name a path: leading slashes go, as do empty and `.` components; `..` is refused.
    pub(crate) fn parse(name: &[u8]) -> Result<Self, &'static str> {
        if name.is_empty() {
            return Err("its name is empty");
        }
        let mut bytes = Vec::with_capacity(name.len());
        for component in name.split(|&b| b == b'/') {
            match component {
                b"" | b"." => continue,
                b".." => return Err("its name has a .. component"),
                _ if component.contains(&0) => return Err("its name has a NUL"),
                _ => {}
            }
            if !bytes.is_empty() {
                bytes.push(b'/');
            }
            bytes.extend_from_slice(component);
        }
        Ok(Self { bytes })
    }

    /// All but the last component.
    pub(crate) fn parent(&self) -> &[u8] {
        &self.bytes[..self.last_start().saturating_sub(1)]
    }

    /// The last component; empty for the root.
    pub(crate) fn last(&self) -> &[u8] {
        &self.bytes[self.last_start()..]
    }

    pub(crate) fn is_root(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn last_start(&self) -> usize {
        self.bytes.iter().rposition(|&b| b == b'/').map_or(0, |slash| slash + 1)
    }

    fn with_last(&self, last: &[u8]) -> Self {
        Self { bytes: [&self.bytes[..self.last_start()], last].concat() }
    }
}

impl Meaning {
    /// What the member does, by its name first: a whiteout is one whatever its type.
    pub(crate) fn of(member: &Member) -> Result<Self, &'static str> {
        let path = Path::parse(&member.path)?;
        if path.is_root() {
            return match member.kind {
                Kind::Directory => Ok(Self::Root),
                _ => Err("it names the root and is no directory"),
            };
        }
        if path.bytes.starts_with(AUFS) && path.bytes != OPAQUE {
            return Ok(Self::Nothing);
        }
        if path.parent().split(|&b| b == b'/').any(|component| component.starts_with(WHITEOUT)) {
            return Err("it lies in a whiteout");
        }
        let Some(hidden) = path.last().strip_prefix(WHITEOUT) else {
            let is_mark = member.kind == Kind::CharDevice && (member.major, member.minor) == (0, 0);
            // No overlay can show such a device: to the kernel it is a whiteout, and so it is in every form of ours.
            return Ok(if is_mark { Self::Whiteout(path) } else { Self::Entry(path) });
        };
        if path.last() == OPAQUE {
            return Ok(Self::Opaque(Path { bytes: path.parent().to_vec() }));
        }
        if path.last().starts_with(AUFS) {
            return Ok(Self::Nothing);
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err("a whiteout of no name, . or ..");
        }
        Ok(Self::Whiteout(path.with_last(hidden)))
    }
}

/// Xattrs that name facts of the machine an archive was made on, not of its content (umoci leaves out the same).
const HOST_XATTRS: [&[u8]; 2] = [b"security.selinux", b"system.nfs4_acl"];

/// True for an xattr that is content.
pub(crate) fn is_content_xattr(name: &[u8]) -> bool {
    !marks::is_reserved(name) && !HOST_XATTRS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::Time;

    fn member(path: &[u8], kind: Kind) -> Member {
        Member {
            path: path.to_vec(),
            target: Vec::new(),
            kind,
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: Time::default(),
            major: 0,
            minor: 1,
            xattrs: Vec::new(),
            sparse: None,
        }
    }

    fn at(path: &str) -> Path {
        Path { bytes: path.as_bytes().to_vec() }
    }

    #[test]
    fn names_mean_what_the_specification_says() {
        for (name, want) in [
            ("a/b", Some(Meaning::Entry(at("a/b")))),
            ("//a//./b/", Some(Meaning::Entry(at("a/b")))),
            ("/abs", Some(Meaning::Entry(at("abs")))),
            ("a/.wh.b", Some(Meaning::Whiteout(at("a/b")))),
            (".wh.b", Some(Meaning::Whiteout(at("b")))),
            ("a/.wh..wh..opq", Some(Meaning::Opaque(at("a")))),
            (".wh..wh..opq", Some(Meaning::Opaque(at("")))),
            (".wh..wh.plnk/1.2", Some(Meaning::Nothing)),
            ("a/.wh..wh.orph", Some(Meaning::Nothing)),
            ("a/.whb", Some(Meaning::Entry(at("a/.whb")))),
            (".wh.", None),
            ("a/.wh..", None),
            ("a/.wh...", None),
            ("a/.wh.../x", None),
            ("a/.wh.b/x", None),
            ("../e", None),
            ("a/../e", None),
            ("a/..", None),
            ("..", None),
            ("", None),
            (".", None),
            ("/", None),
            ("a\0b", None),
        ] {
            assert_eq!(Meaning::of(&member(name.as_bytes(), Kind::File)).ok(), want, "{name:?}");
        }
    }

    #[test]
    fn only_a_directory_may_be_the_root() {
        for name in [".", "./", "/", "/."] {
            let of = |kind| Meaning::of(&member(name.as_bytes(), kind));
            assert_eq!(of(Kind::Directory), Ok(Meaning::Root), "{name:?}");
            for kind in [Kind::Symlink, Kind::HardLink, Kind::Fifo, Kind::CharDevice] {
                assert!(of(kind).is_err(), "{name:?} {kind:?}");
            }
        }
    }

    #[test]
    fn a_whiteout_is_one_whatever_its_type() {
        for kind in [Kind::HardLink, Kind::Symlink, Kind::Directory, Kind::Fifo, Kind::BlockDevice] {
            assert_eq!(Meaning::of(&member(b".wh.x", kind)), Ok(Meaning::Whiteout(at("x"))));
        }
    }
}
