//! Who a container's process is: `USER` and `-u` resolved against the container's own passwd and group files.
//!
//! Invariants
//! - A number is a strict decimal below 2^32-1 and is never looked up as a name; a name is never read as a number.
//! - passwd and group are opened inside the container's root, never waited for, regular, and bounded.
//! - The primary group is among the supplementary ones, so that a negative group permission cannot be shed.
//!
//! No NSS: nothing of the container is loaded or run. Symlinks at /etc/passwd are followed inside the root, as images
//! made by Nix keep the file elsewhere.

use std::io::Read;

use descriptor::{Classify, Exit};
use rustix::fs::{FileType, Mode, OFlags};
use sys::Root;

/// No account file is read beyond this; the largest found in published images is below 100 KiB.
const ACCOUNTS_LIMIT_BYTES: u64 = 4 * 1024 * 1024;
/// (uid_t)-1 means "leave as it is" to chown(2) and setresuid(2), so it names nobody.
const NOBODY_AT_ALL: u32 = u32::MAX;
/// As many supplementary groups as the kernel takes (`NGROUPS_MAX`).
const GROUPS_LIMIT: usize = 65_536;

/// The identity of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups, the primary one among them, ascending.
    pub groups: Vec<u32>,
    /// The account's name, where the container's passwd has one.
    pub name: Option<String>,
    /// The account's home directory, where the container's passwd has one.
    pub home: Option<String>,
}

/// Why a user cannot be resolved.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// Digits that are no usable id.
    #[error("{kind} {text:?} is not a decimal number below 4294967295")]
    Number {
        /// "user" or "group".
        kind: &'static str,
        /// What was given.
        text: String,
    },
    /// No such account.
    #[error("no {kind} {name:?} in the container's {file}")]
    Unknown {
        /// "user" or "group".
        kind: &'static str,
        /// What was asked for.
        name: String,
        /// The file that was read, or would have been.
        file: &'static str,
    },
    /// The account exists, but its line has no usable id.
    #[error("the entry of {name:?} in the container's {file} has no usable id")]
    Entry {
        /// The account.
        name: String,
        /// The file.
        file: &'static str,
    },
    /// The file is no regular file, or too large.
    #[error("the container's {file} is {what}")]
    File {
        /// The file.
        file: &'static str,
        /// What it is instead.
        what: String,
    },
    /// The file cannot be opened or read.
    #[error("reading the container's {file}")]
    Read {
        /// The file.
        file: &'static str,
        /// The call.
        #[source]
        source: sys::Error,
    },
}

impl Classify for UserError {
    fn exit(&self) -> Exit {
        match self {
            Self::Number { .. } => Exit::Usage,
            Self::Unknown { .. } => Exit::NotFound,
            Self::Entry { .. } | Self::File { .. } => Exit::Content,
            Self::Read { .. } => Exit::Other,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { .. } => Some("give it as a number: -u UID[:GID]".into()),
            _ => None,
        }
    }
}

/// Resolves `USER[:GROUP]`, each a name or a number, as docker does; empty is root.
///
/// A number need not be listed; its primary group is then 0. With an explicit group there are no others.
///
/// # Errors
/// A number that is none, a name that the container's files do not have, files that cannot be trusted.
pub fn resolve(root: &Root, user: &str) -> Result<Identity, UserError> {
    let (user, group) = user.split_once(':').unwrap_or((user, ""));
    let mut identity = account(root, user)?;
    identity.groups = if group.is_empty() {
        match &identity.name {
            Some(name) => memberships(root, name)?,
            None => Vec::new(),
        }
    } else {
        identity.gid = group_id(root, group)?;
        Vec::new()
    };
    identity.groups.push(identity.gid);
    identity.groups.sort_unstable();
    identity.groups.dedup();
    identity.groups.truncate(GROUPS_LIMIT);
    Ok(identity)
}

/// Puts a process into further groups, each a name or a number.
///
/// # Errors
/// As [`resolve`].
pub fn join(root: &Root, identity: &mut Identity, groups: &[String]) -> Result<(), UserError> {
    for group in groups {
        identity.groups.push(group_id(root, group)?);
    }
    identity.groups.sort_unstable();
    identity.groups.dedup();
    identity.groups.truncate(GROUPS_LIMIT);
    Ok(())
}

/// The home directory of the account with this id; none where there is no such account, or its file cannot be trusted.
pub(crate) fn home(root: &Root, uid: u32) -> Option<String> {
    account(root, &uid.to_string()).ok()?.home
}

/// A group by name or number.
///
/// # Errors
/// As [`resolve`].
fn group_id(root: &Root, group: &str) -> Result<u32, UserError> {
    if is_number(group) {
        return number("group", group);
    }
    let file = read(root, GROUP)?;
    let line = entries(&file).find(|fields| fields[0] == group);
    let fields =
        line.ok_or_else(|| UserError::Unknown { kind: "group", name: group.into(), file: GROUP.shown })?;
    field_id(&fields, 2).ok_or_else(|| UserError::Entry { name: group.into(), file: GROUP.shown })
}

/// The passwd side: without supplementary groups yet.
fn account(root: &Root, user: &str) -> Result<Identity, UserError> {
    let anonymous = |uid| Identity { uid, gid: 0, groups: Vec::new(), name: None, home: None };
    let user = if user.is_empty() { "0" } else { user };
    let file;
    let fields = if is_number(user) {
        let uid = number("user", user)?;
        file = read(root, PASSWD)?;
        match entries(&file).find(|fields| field_id(fields, 2) == Some(uid)) {
            Some(fields) => fields,
            None => return Ok(anonymous(uid)),
        }
    } else {
        file = read(root, PASSWD)?;
        let line = entries(&file).find(|fields| fields[0] == user);
        line.ok_or_else(|| UserError::Unknown { kind: "user", name: user.into(), file: PASSWD.shown })?
    };
    let id = |at| {
        field_id(&fields, at).ok_or_else(|| UserError::Entry { name: fields[0].into(), file: PASSWD.shown })
    };
    let home = fields.get(5).filter(|home| home.starts_with('/'));
    Ok(Identity {
        name: Some(fields[0].to_string()),
        home: home.map(ToString::to_string),
        ..Identity { gid: id(3)?, ..anonymous(id(2)?) }
    })
}

/// The groups that list `name` as a member.
fn memberships(root: &Root, name: &str) -> Result<Vec<u32>, UserError> {
    let file = read(root, GROUP)?;
    let listed =
        entries(&file).filter(|fields| fields.get(3).is_some_and(|all| all.split(',').any(|m| m == name)));
    Ok(listed.filter_map(|fields| field_id(&fields, 2)).collect())
}

/// True where the text is meant as a number: a sign or a digit, and only digits after it.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

fn number(kind: &'static str, text: &str) -> Result<u32, UserError> {
    strict(text).ok_or_else(|| UserError::Number { kind, text: text.into() })
}

/// A decimal without sign and without leading zeros, below (uid_t)-1.
fn strict(text: &str) -> Option<u32> {
    let canonical = text == "0" || !text.starts_with(['0', '+']);
    text.parse().ok().filter(|&id| canonical && id != NOBODY_AT_ALL)
}

fn field_id(fields: &[&str], at: usize) -> Option<u32> {
    fields.get(at).and_then(|text| strict(text))
}

/// An account file: its path inside the root, and as messages show it.
#[derive(Clone, Copy)]
struct Accounts {
    path: &'static str,
    shown: &'static str,
}

const PASSWD: Accounts = Accounts { path: "etc/passwd", shown: "/etc/passwd" };
const GROUP: Accounts = Accounts { path: "etc/group", shown: "/etc/group" };

/// The whole file; empty where there is none.
fn read(root: &Root, accounts: Accounts) -> Result<String, UserError> {
    let Accounts { path, shown: file } = accounts;
    let failed = |source| UserError::Read { file, source };
    // First by O_PATH, which waits for nobody and starts no device; then for reading what was looked at.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let seen = match root.open(path, OFlags::PATH, Mode::empty()) {
        Ok(fd) => fd,
        Err(e) if matches!(e.errno, rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {
            return Ok(String::new());
        }
        Err(e) => return Err(failed(e)),
    };
    regular(&seen, file)?;
    let fd = root.open(path, flags, Mode::empty()).map_err(failed)?;
    regular(&fd, file)?;
    let mut bytes = Vec::new();
    let taken = std::fs::File::from(fd).take(ACCOUNTS_LIMIT_BYTES + 1).read_to_end(&mut bytes);
    sys::Call::call(taken, "read", || file.to_string()).map_err(failed)?;
    if bytes.len() as u64 > ACCOUNTS_LIMIT_BYTES {
        return Err(UserError::File { file, what: format!("larger than {ACCOUNTS_LIMIT_BYTES} bytes") });
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn regular(fd: &std::os::fd::OwnedFd, file: &'static str) -> Result<(), UserError> {
    let stat = rustix::fs::fstat(fd);
    let stat = sys::Call::call(stat, "fstat", || file.to_string())
        .map_err(|source| UserError::Read { file, source })?;
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(UserError::File { file, what: "no regular file".into() });
    }
    if stat.st_size as u64 > ACCOUNTS_LIMIT_BYTES {
        return Err(UserError::File { file, what: format!("larger than {ACCOUNTS_LIMIT_BYTES} bytes") });
    }
    Ok(())
}

/// The lines that are entries: a name and at least two more fields; comments and NIS lines are none.
fn entries(file: &str) -> impl Iterator<Item = Vec<&str>> {
    let lines = file.lines().filter(|line| !line.starts_with(['#', '+', '-', ':']));
    // Seven fields are passwd's; more than that is nobody's entry, and the bound keeps one line from becoming a million.
    lines.map(|line| line.splitn(8, ':').collect::<Vec<_>>()).filter(|fields| fields.len() >= 3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const PASSWD_TEXT: &str = "# comment\nroot:x:0:0:root:/root:/bin/sh\n\nweb:x:33:33:web:/srv:/bin/false\n\
        1000:x:0:0:a name of digits:/:/bin/sh\nbig:x:99999999999:0::/:/bin/sh\nminus:x:-1:0::/:/bin/sh\n\
        short:x\napp:x:1001:1001:::\n+nis\n";
    const GROUP_TEXT: &str = "root:x:0:root\nweb:x:33:\nadm:x:4:web,app\nssl:x:101:other,web\nbad:x:4294967296:web\n\
        77:x:0:\n";

    fn container(passwd: &str, group: &str) -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(dir.path().join("etc")).expect("mkdir");
        std::fs::write(dir.path().join("etc/passwd"), passwd).expect("passwd");
        std::fs::write(dir.path().join("etc/group"), group).expect("group");
        let root = Root::open_ambient(dir.path()).expect("open");
        (dir, root)
    }

    #[test]
    fn users_resolve_as_docker_documents() {
        let (_dir, root) = container(PASSWD_TEXT, GROUP_TEXT);
        for (user, uid, gid, groups) in [
            ("", 0, 0, &[0][..]),
            ("0", 0, 0, &[0]),
            ("root", 0, 0, &[0]),
            ("web", 33, 33, &[4, 33, 101]),
            ("33", 33, 33, &[4, 33, 101]),
            ("web:adm", 33, 4, &[4]),
            ("web:5", 33, 5, &[5]),
            ("web:", 33, 33, &[4, 33, 101]),
            (":5", 0, 5, &[5]),
            ("1:1", 1, 1, &[1]),
            ("app", 1001, 1001, &[4, 1001]),
            ("65534", 65534, 0, &[0]),
            ("1000", 1000, 0, &[0]),
            ("2147483648", 2_147_483_648, 0, &[0]),
            ("4294967294", 4_294_967_294, 0, &[0]),
            ("web:77", 33, 77, &[77]),
        ] {
            let got = resolve(&root, user).unwrap_or_else(|e| panic!("{user:?}: {e}"));
            assert_eq!((got.uid, got.gid, &got.groups[..]), (uid, gid, groups), "{user:?}");
        }
    }

    #[test]
    fn what_is_no_user_is_refused_and_never_root() {
        let (_dir, root) = container(PASSWD_TEXT, GROUP_TEXT);
        for (user, exit) in [
            ("4294967295", Exit::Usage),
            ("4294967296", Exit::Usage),
            ("99999999999", Exit::Usage),
            ("-1", Exit::Usage),
            ("+1", Exit::Usage),
            ("00", Exit::Usage),
            ("1:4294967295", Exit::Usage),
            ("0x0", Exit::NotFound),
            ("nobody", Exit::NotFound),
            ("web:nogroup", Exit::NotFound),
            (" 0", Exit::NotFound),
            ("short", Exit::NotFound),
            ("big", Exit::Content),
            ("minus", Exit::Content),
            ("web:bad", Exit::Content),
        ] {
            let refused = resolve(&root, user).expect_err(user);
            assert_eq!(refused.exit(), exit, "{user:?}: {refused}");
        }
    }

    #[test]
    fn a_container_without_account_files_still_takes_numbers() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = Root::open_ambient(dir.path()).expect("open");
        assert_eq!(resolve(&root, "12:34").expect("numbers").gid, 34);
        assert_eq!(resolve(&root, "web").expect_err("a name").exit(), Exit::NotFound);
    }

    #[test]
    fn hostile_account_files_neither_hang_nor_fill_memory() {
        let (dir, root) = container("", "");
        let passwd = dir.path().join("etc/passwd");
        std::fs::remove_file(&passwd).expect("rm");
        rustix::fs::mknodat(rustix::fs::CWD, &passwd, FileType::Fifo, Mode::RWXU, 0).expect("mkfifo");
        assert_eq!(resolve(&root, "web").expect_err("a pipe").exit(), Exit::Content);

        std::fs::remove_file(&passwd).expect("rm");
        std::fs::File::create(&passwd).and_then(|f| f.set_len(10 << 30)).expect("sparse");
        assert_eq!(resolve(&root, "web").expect_err("huge").exit(), Exit::Content);

        std::fs::remove_file(&passwd).expect("rm");
        symlink("/dev/zero", &passwd).expect("symlink");
        assert_eq!(resolve(&root, "web").expect_err("outside").exit(), Exit::NotFound);

        // Absolute links stay inside: the host's own account is not found.
        std::fs::remove_file(&passwd).expect("rm");
        symlink("/etc/../../../../etc/shadow", &passwd).expect("symlink");
        assert_eq!(resolve(&root, "daemon").expect_err("the host's").exit(), Exit::NotFound);
    }
}
