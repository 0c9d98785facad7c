//! Whose namespaces a container has.

use cli::{During, Failure};
use descriptor::Exit;
use store::Store;

/// Another container, as docker writes it.
const CONTAINER: &str = "container:";

/// A kind of namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Users and groups.
    User,
    /// Shared memory and message queues.
    Ipc,
    /// Processes.
    Pid,
    /// The host's name.
    Uts,
    /// Control groups.
    Cgroup,
    /// Interfaces and sockets.
    Net,
}

impl Kind {
    /// Its name in create.json.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Ipc => "ipc",
            Self::Pid => "pid",
            Self::Uts => "uts",
            Self::Cgroup => "cgroup",
            Self::Net => "network",
        }
    }

    fn flag(self) -> &'static str {
        match self {
            Self::User => "--userns",
            Self::Ipc => "--ipc",
            Self::Pid => "--pid",
            Self::Uts => "--uts",
            Self::Cgroup => "--cgroupns",
            Self::Net => "--net",
        }
    }
}

/// A choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Space {
    /// The container's own, with what the word says of it: nothing, `shareable`, `none`, ...
    Own(&'static str),
    /// The host's.
    Host,
    /// That of the container of this name.
    Container(String),
    /// What is understood and cannot be given.
    Unsupported(String),
}

impl Space {
    /// Reads the word of a flag.
    pub(crate) fn parse(kind: Kind, text: &str) -> Result<Self, String> {
        let word = text.split(':').next().unwrap_or(text);
        Ok(match (kind, text) {
            (Kind::User, "") | (_, "host") => Self::Host,
            (Kind::User, _) if matches!(word, "auto" | "keep-id" | "nomap" | "private" | "ns" | "remap") => {
                Self::Unsupported(text.into())
            }
            (Kind::User, _) => return Err(format!("invalid user namespace mode {text:?}: it is host")),
            (Kind::Net, "none") => Self::Own("none"),
            (Kind::Net, "private") => Self::Own("private"),
            (_, "" | "private") => Self::Own(""),
            (Kind::Ipc, "shareable") => Self::Own("shareable"),
            (Kind::Ipc, "none") => Self::Own("none"),
            (Kind::Ipc | Kind::Pid | Kind::Net, _) if text.starts_with(CONTAINER) => {
                let name = &text[CONTAINER.len()..];
                if name.is_empty() {
                    return Err(format!("{text:?} names no container"));
                }
                Self::Container(name.into())
            }
            (Kind::Net, _) => {
                return Err(format!("no network {text:?}: it is none, private, host or container:NAME"));
            }
            _ => return Err(format!("invalid mode {text:?} for {}", kind.flag())),
        })
    }

    /// What create.json says of it; nothing of what is so anyway.
    pub(crate) fn recorded(&self, kind: Kind, store: &Store) -> Result<Option<String>, Failure> {
        match self {
            Self::Own("") => Ok(None),
            Self::Own(word) => Ok(Some((*word).into())),
            // There is no other.
            Self::Host if kind == Kind::User => Ok(None),
            Self::Host => Ok(Some("host".into())),
            Self::Container(name) => {
                let what = || format!("{} {CONTAINER}{name}", kind.flag());
                let other = store.container(name).during(what)?;
                if kind == Kind::Ipc {
                    let modes = other.create().during(what)?.namespaces;
                    // What it shares already, it may share further.
                    let shares = |mode: &String| mode != "none";
                    if !modes.get("ipc").is_some_and(shares) {
                        let why = "its IPC namespace is not shareable";
                        return Err(Failure::new(Exit::Conflict, what(), why)
                            .with_hint("make it with --ipc shareable"));
                    }
                }
                Ok(Some(format!("{CONTAINER}{}", other.id())))
            }
            Self::Unsupported(text) => {
                let why = format!(
                    "{text:?}: a user namespace of the container's own is not supported, as the image's files would be nobody's in it"
                );
                Err(Failure::new(Exit::Privilege, kind.flag(), why)
                    .with_hint("leave it out, or run everything inside a user namespace: unshare -Ur ..."))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_dockers() {
        let container = Ok(Space::Container("web".into()));
        for (kind, text, want) in [
            (Kind::Ipc, "host", Ok(Space::Host)),
            (Kind::Ipc, "", Ok(Space::Own(""))),
            (Kind::Ipc, "private", Ok(Space::Own(""))),
            (Kind::Ipc, "shareable", Ok(Space::Own("shareable"))),
            (Kind::Ipc, "none", Ok(Space::Own("none"))),
            (Kind::Ipc, "container:web", container.clone()),
            (Kind::Pid, "container:web", container.clone()),
            (Kind::Net, "container:web", container),
            (Kind::Net, "private", Ok(Space::Own("private"))),
            (Kind::User, "host", Ok(Space::Host)),
            (Kind::User, "keep-id:uid=5", Ok(Space::Unsupported("keep-id:uid=5".into()))),
        ] {
            assert_eq!(Space::parse(kind, text), want, "{kind:?} {text}");
        }
        for (kind, text) in [
            (Kind::Uts, "container:web"),
            (Kind::Cgroup, "container:web"),
            (Kind::Pid, "none"),
            (Kind::Pid, "container:"),
            (Kind::Net, "bridge"),
            (Kind::User, "container:web"),
            (Kind::User, "nonsense"),
        ] {
            Space::parse(kind, text).expect_err(text);
        }
    }
}
