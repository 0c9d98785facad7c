//! Lines of `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).

use std::path::PathBuf;

/// A mount as a line tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted<'a> {
    /// Which directory of the file system is mounted.
    pub root: PathBuf,
    /// Where it is mounted, below the reader's root.
    pub mount: PathBuf,
    /// The file system's type.
    pub kind: &'a str,
    /// The options of the file system itself, separated by commas.
    pub options: &'a str,
}

/// Reads `id parent dev root mount options [tags] - type source super-options`; none of what is no such line, or one of a
/// type that is not `wanted`.
pub fn line(text: &str, wanted: impl FnOnce(&str) -> bool) -> Option<Mounted<'_>> {
    let (left, right) = text.split_once(" - ")?;
    let mut right = right.split(' ');
    let kind = right.next().filter(|kind| wanted(kind))?;
    let mut left = left.split(' ').skip(3);
    let (root, mount) = (unescape(left.next()?), unescape(left.next()?));
    Some(Mounted { root, mount, kind, options: right.nth(1)? })
}

/// Space, tab, newline and backslash are octal escapes.
fn unescape(field: &str) -> PathBuf {
    if !field.contains('\\') {
        return field.into();
    }
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    escapes.iter().fold(field.to_string(), |text, (from, to)| text.replace(from, to)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_what_is_mounted_where() {
        let text = "40 24 0:35 /part /a\\040b rw,nosuid shared:9 - resctrl resctrl rw,cdp";
        let found = line(text, |kind| kind == "resctrl");
        let want = Mounted { root: "/part".into(), mount: "/a b".into(), kind: "resctrl", options: "rw,cdp" };
        assert_eq!(found, Some(want));
        assert_eq!(line(text, |kind| kind == "tmpfs"), None);
        assert_eq!(line("40 24 0:35 / /a", |_| true), None);
    }
}
