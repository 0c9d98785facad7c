//! Mount options (runtime-spec 1.2, "Linux mount options") as attributes, propagation and file system data.

use rustix::mount::{MountAttrFlags as Attr, MountPropagationFlags as Propagation};

/// A mount's options, sorted by what they act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    /// Attributes of the one mount.
    pub(crate) set: Attr,
    /// Attributes to clear.
    pub(crate) clear: Attr,
    /// Attributes of the mount and all below it (`rro`, ...).
    pub(crate) set_tree: Attr,
    /// Attributes to clear there.
    pub(crate) clear_tree: Attr,
    /// Another mount is changed, none is made.
    pub(crate) remount: bool,
    /// The ids of its files are shown as a user namespace maps them, and whether below it, too.
    pub(crate) id_map: Option<bool>,
    /// A new tmpfs begins with what is at its destination.
    pub(crate) copy_up: bool,
    /// With `shared`: mounts made below it are the host's, too. Else those of the host come in and none goes out.
    pub(crate) shares_with_host: bool,
    /// How mounts propagate; private unless told.
    pub(crate) propagation: Propagation,
    /// A bind mount, and whether with the mounts below.
    pub(crate) bind: Option<bool>,
    /// Parameters of the file system: a key and perhaps a value.
    pub(crate) data: Vec<(String, Option<String>)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            set: Attr::empty(),
            clear: Attr::empty(),
            set_tree: Attr::empty(),
            clear_tree: Attr::empty(),
            shares_with_host: false,
            remount: false,
            id_map: None,
            copy_up: false,
            propagation: Propagation::PRIVATE.union(Propagation::REC),
            bind: None,
            data: Vec::new(),
        }
    }
}

/// Names of attributes, whether they clear it, and the attribute; with `r` in front they mean the whole tree.
const ATTRIBUTES: &[(&str, bool, Attr)] = &[
    ("ro", false, Attr::MOUNT_ATTR_RDONLY),
    ("rw", true, Attr::MOUNT_ATTR_RDONLY),
    ("nosuid", false, Attr::MOUNT_ATTR_NOSUID),
    ("suid", true, Attr::MOUNT_ATTR_NOSUID),
    ("nodev", false, Attr::MOUNT_ATTR_NODEV),
    ("dev", true, Attr::MOUNT_ATTR_NODEV),
    ("noexec", false, Attr::MOUNT_ATTR_NOEXEC),
    ("exec", true, Attr::MOUNT_ATTR_NOEXEC),
    ("nodiratime", false, Attr::MOUNT_ATTR_NODIRATIME),
    ("diratime", true, Attr::MOUNT_ATTR_NODIRATIME),
    ("nosymfollow", false, Attr::MOUNT_ATTR_NOSYMFOLLOW),
    ("symfollow", true, Attr::MOUNT_ATTR_NOSYMFOLLOW),
];

/// The three times policies are one field: setting one clears the others (mount_setattr(2)).
const TIMES: &[(&str, Attr)] = &[
    ("noatime", Attr::MOUNT_ATTR_NOATIME),
    ("strictatime", Attr::MOUNT_ATTR_STRICTATIME),
    ("relatime", Attr::MOUNT_ATTR_RELATIME),
    // Without a policy of its own a mount has the kernel's, relatime.
    ("atime", Attr::MOUNT_ATTR_RELATIME),
    ("norelatime", Attr::MOUNT_ATTR_RELATIME),
    ("nostrictatime", Attr::MOUNT_ATTR_RELATIME),
];

/// Propagation types; with `r` in front recursive.
const PROPAGATIONS: &[(&str, Propagation)] = &[
    ("private", Propagation::PRIVATE),
    ("slave", Propagation::DOWNSTREAM),
    ("shared", Propagation::SHARED),
    ("unbindable", Propagation::UNBINDABLE),
];

/// Options of a file system that a bind mount takes no notice of (mount(2)).
pub(crate) const OF_SUPERBLOCKS: &[&str] = &[
    "sync",
    "async",
    "dirsync",
    "lazytime",
    "nolazytime",
    "mand",
    "nomand",
    "iversion",
    "noiversion",
    "acl",
    "noacl",
];

impl Options {
    /// No device node made inside is to work, nor in a mount below, unless the options say otherwise (`dev`).
    pub(crate) fn without_devices(mut self) -> Self {
        if !self.clear.contains(Attr::MOUNT_ATTR_NODEV) {
            self.set.insert(Attr::MOUNT_ATTR_NODEV);
            if !self.clear_tree.contains(Attr::MOUNT_ATTR_NODEV) {
                self.set_tree.insert(Attr::MOUNT_ATTR_NODEV);
            }
        }
        self
    }

    /// True where nothing may be written through the mount.
    pub(crate) fn is_read_only(&self) -> bool {
        let read_only = Attr::MOUNT_ATTR_RDONLY;
        (self.set | self.set_tree).contains(read_only) && !self.clear_tree.contains(read_only)
    }

    /// True for a word that means the same on every file system.
    pub(crate) fn knows(word: &str) -> bool {
        OF_SUPERBLOCKS.contains(&word) || Self::parse(&[word]).data.is_empty()
    }

    /// Sorts options; what is none known here is the file system's.
    pub(crate) fn parse<S: AsRef<str>>(words: &[S]) -> Self {
        let mut options = Self::default();
        words.iter().for_each(|word| options.add(word.as_ref()));
        options
    }

    fn add(&mut self, word: &str) {
        match word {
            "bind" => self.bind = Some(false),
            "rbind" => self.bind = Some(true),
            "remount" => self.remount = true,
            "idmap" => self.id_map = Some(false),
            "ridmap" => self.id_map = Some(true),
            "tmpcopyup" => self.copy_up = true,
            // They only tell how much the kernel's log is to say, or what is so anyway, or (whether a file has a version) what
            // every file system decides for itself: fsconfig(2) has no word for it, and mount(2) takes the flag for nothing.
            "defaults" | "silent" | "loud" | "iversion" | "noiversion" => {}
            _ => {
                let known = self.attribute(word) || self.times(word) || self.propagate(word);
                if !known {
                    let (key, value) = match word.split_once('=') {
                        Some((key, value)) => (key, Some(value.to_string())),
                        None => (word, None),
                    };
                    self.data.push((key.to_string(), value));
                }
            }
        }
    }

    fn attribute(&mut self, word: &str) -> bool {
        // "relatime" and "rw" begin with r too, so the whole word goes first.
        if let Some(&(_, clears, attr)) = ATTRIBUTES.iter().find(|(name, ..)| *name == word) {
            let (to, from) =
                if clears { (&mut self.clear, &mut self.set) } else { (&mut self.set, &mut self.clear) };
            to.insert(attr);
            from.remove(attr);
            return true;
        }
        let Some(rest) = word.strip_prefix('r') else { return false };
        let Some(&(_, clears, attr)) = ATTRIBUTES.iter().find(|(name, ..)| *name == rest) else {
            return false;
        };
        if clears {
            self.clear_tree.insert(attr)
        } else {
            self.set_tree.insert(attr)
        }
        true
    }

    fn times(&mut self, word: &str) -> bool {
        let (name, tree) = match word.strip_prefix('r') {
            Some(rest) if TIMES.iter().any(|(name, _)| *name == rest) => (rest, true),
            _ => (word, false),
        };
        let Some(&(_, attr)) = TIMES.iter().find(|(known, _)| *known == name) else { return false };
        let (set, clear) =
            if tree { (&mut self.set_tree, &mut self.clear_tree) } else { (&mut self.set, &mut self.clear) };
        clear.insert(Attr::MOUNT_ATTR__ATIME);
        set.remove(Attr::MOUNT_ATTR__ATIME);
        set.insert(attr);
        true
    }

    fn propagate(&mut self, word: &str) -> bool {
        let (name, recursive) = match word.strip_prefix('r') {
            Some(rest) if PROPAGATIONS.iter().any(|(name, _)| *name == rest) => (rest, Propagation::REC),
            _ => (word, Propagation::empty()),
        };
        let Some(&(_, kind)) = PROPAGATIONS.iter().find(|(known, _)| *known == name) else { return false };
        self.propagation = kind.union(recursive);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Options {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        Options::parse(&words)
    }

    #[test]
    fn dockers_tmpfs_options_are_attributes_and_data() {
        let options = parse(&["nosuid", "strictatime", "mode=755", "size=65536k"]);
        assert_eq!(options.set, Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_STRICTATIME);
        assert_eq!(options.clear, Attr::MOUNT_ATTR__ATIME);
        assert_eq!(
            options.data,
            [("mode".into(), Some("755".into())), ("size".into(), Some("65536k".into()))]
        );
    }

    #[test]
    fn the_last_of_two_opposites_wins() {
        let options = parse(&["rw", "ro"]);
        assert_eq!((options.set, options.clear), (Attr::MOUNT_ATTR_RDONLY, Attr::empty()));
        let options = parse(&["ro", "rw"]);
        assert_eq!((options.set, options.clear), (Attr::empty(), Attr::MOUNT_ATTR_RDONLY));
    }

    #[test]
    fn an_r_in_front_means_the_tree_but_not_in_relatime_and_rw() {
        assert_eq!(parse(&["rro"]).set_tree, Attr::MOUNT_ATTR_RDONLY);
        assert_eq!(parse(&["relatime"]).set, Attr::MOUNT_ATTR_RELATIME);
        assert_eq!(parse(&["rw"]).clear, Attr::MOUNT_ATTR_RDONLY);
        assert_eq!(parse(&["rslave"]).propagation, Propagation::DOWNSTREAM | Propagation::REC);
        assert_eq!(parse(&["rbind"]).bind, Some(true));
    }

    #[test]
    fn what_is_no_attribute_is_the_file_systems() {
        let options = parse(&["ridmap", "tmpcopyup", "remount", "sync", "size=1k", "silent"]);
        assert_eq!((options.id_map, options.copy_up, options.remount), (Some(true), true, true));
        assert_eq!(options.data, [("sync".into(), None), ("size".into(), Some("1k".into()))]);
    }

    #[test]
    fn every_attribute_has_its_recursive_form_and_its_opposite() {
        for (name, clears, attr) in ATTRIBUTES {
            let tree = parse(&[&format!("r{name}")]);
            let (to, other) =
                if *clears { (tree.clear_tree, tree.set_tree) } else { (tree.set_tree, tree.clear_tree) };
            assert_eq!((to, other), (*attr, Attr::empty()), "r{name}");
            assert!(tree.data.is_empty(), "r{name}");
        }
        for (name, attr) in TIMES {
            let tree = parse(&[&format!("r{name}")]);
            assert_eq!((tree.set_tree, tree.clear_tree), (*attr, Attr::MOUNT_ATTR__ATIME), "r{name}");
        }
    }
}
