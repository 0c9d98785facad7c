//! Layers as lists of members, written byte by byte: no tar library, so that any header field can lie.

use std::io::Write;

/// One member of a layer. The builders give plausible values; the `with` functions replace any of them.
#[derive(Clone, Debug)]
pub struct Member {
    name: Vec<u8>,
    kind: u8,
    link: Vec<u8>,
    mode: u64,
    owner: (u64, u64),
    mtime: u64,
    body: Vec<u8>,
    device: (u64, u64),
    claimed_size: Option<u64>,
    pax: Vec<(Vec<u8>, Vec<u8>)>,
    prefix: Option<Vec<u8>>,
    fields: Vec<(usize, Vec<u8>)>,
    sum: Sum,
}

/// Which checksum a header gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum {
    /// The right one.
    Right,
    /// The sum of signed bytes, as old writers had it.
    Signed,
    /// One more than the right one.
    Wrong,
}

/// 2001-09-09T01:46:40Z: the time of a member that was given none.
pub const SOME_TIME: u64 = 1_000_000_000;

fn member(name: impl AsRef<[u8]>, kind: u8, mode: u64) -> Member {
    Member {
        name: name.as_ref().to_vec(),
        kind,
        link: Vec::new(),
        mode,
        owner: (0, 0),
        mtime: SOME_TIME,
        body: Vec::new(),
        device: (0, 0),
        claimed_size: None,
        pax: Vec::new(),
        prefix: None,
        fields: Vec::new(),
        sum: Sum::Right,
    }
}

/// A regular file, 0644.
pub fn file(name: impl AsRef<[u8]>, body: impl AsRef<[u8]>) -> Member {
    Member { body: body.as_ref().to_vec(), ..member(name, b'0', 0o644) }
}

/// A directory, 0755.
pub fn dir(name: impl AsRef<[u8]>) -> Member {
    member(name, b'5', 0o755)
}

/// A symbolic link.
pub fn symlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Member {
    Member { link: target.as_ref().to_vec(), ..member(name, b'2', 0o777) }
}

/// A hard link to a member named before.
pub fn hardlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Member {
    Member { link: target.as_ref().to_vec(), ..member(name, b'1', 0o644) }
}

/// A named pipe.
pub fn fifo(name: impl AsRef<[u8]>) -> Member {
    member(name, b'6', 0o644)
}

/// A block device.
pub fn block_device(name: impl AsRef<[u8]>, major: u64, minor: u64) -> Member {
    Member { device: (major, minor), ..member(name, b'4', 0o660) }
}

/// A member that is a header extension: `x` and `g` hold records, `L` and `K` a long name.
pub fn extension(kind: u8, body: impl AsRef<[u8]>) -> Member {
    let name = if kind.is_ascii_uppercase() { "././@LongLink" } else { "pax" };
    Member { body: body.as_ref().to_vec(), ..member(name, kind, 0o644) }
}

/// A character device.
pub fn char_device(name: impl AsRef<[u8]>, major: u64, minor: u64) -> Member {
    Member { device: (major, minor), ..member(name, b'3', 0o666) }
}

/// The whiteout of `path`: an empty file `.wh.<name>` beside it.
pub fn whiteout(path: &str) -> Member {
    let name = match path.rsplit_once('/') {
        Some((parent, name)) => format!("{parent}/.wh.{name}"),
        None => format!(".wh.{path}"),
    };
    file(name, "").mode(0)
}

/// The mark that hides everything that lower layers have in the directory `path`.
pub fn opaque(path: &str) -> Member {
    file(format!("{path}/.wh..wh..opq"), "").mode(0)
}

impl Member {
    /// Replaces the permission bits.
    pub fn mode(mut self, mode: u64) -> Self {
        self.mode = mode;
        self
    }

    /// Replaces uid and gid.
    pub fn owner(mut self, uid: u64, gid: u64) -> Self {
        self.owner = (uid, gid);
        self
    }

    /// Replaces the modification time, in seconds since 1970.
    pub fn mtime(mut self, seconds: u64) -> Self {
        self.mtime = seconds;
        self
    }

    /// Adds an extended attribute, as a `SCHILY.xattr.` record.
    pub fn xattr(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.pax(format!("SCHILY.xattr.{name}"), value)
    }

    /// Adds a raw PAX record.
    pub fn pax(mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.pax.push((key.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// Writes another size into the header than the body has.
    pub fn claimed_size(mut self, size: u64) -> Self {
        self.claimed_size = Some(size);
        self
    }

    /// Replaces the type flag.
    pub fn kind(mut self, kind: u8) -> Self {
        self.kind = kind;
        self
    }

    /// Writes these bytes over the header's at an offset.
    pub fn field(mut self, at: usize, bytes: impl AsRef<[u8]>) -> Self {
        self.fields.push((at, bytes.as_ref().to_vec()));
        self
    }

    /// Chooses the checksum.
    pub fn sum(mut self, sum: Sum) -> Self {
        self.sum = sum;
        self
    }

    /// Writes a ustar prefix.
    pub fn prefix(mut self, prefix: impl AsRef<[u8]>) -> Self {
        self.prefix = Some(prefix.as_ref().to_vec());
        self
    }
}

/// The file capability `cap_net_raw+ep` in the form that the kernel keeps in `security.capability` (revision 2).
pub const CAP_NET_RAW: [u8; 20] = {
    let mut bytes = [0; 20];
    bytes[0] = 1;
    bytes[3] = 2;
    bytes[5] = 0x20;
    bytes
};

/// The members as a tar archive, closed by two empty blocks.
pub fn archive(members: &[Member]) -> Vec<u8> {
    let mut out = Vec::new();
    for member in members {
        append(&mut out, member);
    }
    out.extend([0; 1024]);
    out
}

/// Adds a member to an archive that is not closed yet; names that no header holds get a PAX record.
pub fn append(out: &mut Vec<u8>, member: &Member) {
    let mut records = member.pax.clone();
    if member.name.len() > 100 {
        records.push((b"path".to_vec(), member.name.clone()));
    }
    if member.link.len() > 100 {
        records.push((b"linkpath".to_vec(), member.link.clone()));
    }
    if !records.is_empty() {
        let body: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        let extended = extension(b'x', body);
        header(out, &extended);
        padded(out, &extended.body);
    }
    header(out, member);
    padded(out, &member.body);
}

/// One PAX record: its own length in decimal, a blank, key=value, a newline.
pub fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    let mut out = format!("{length} ").into_bytes();
    out.extend(key);
    out.push(b'=');
    out.extend(value);
    out.push(b'\n');
    out
}

fn header(out: &mut Vec<u8>, member: &Member) {
    let mut block = [0u8; 512];
    text(&mut block[0..100], &member.name);
    number(&mut block[100..108], member.mode);
    number(&mut block[108..116], member.owner.0);
    number(&mut block[116..124], member.owner.1);
    number(&mut block[124..136], member.claimed_size.unwrap_or(member.body.len() as u64));
    number(&mut block[136..148], member.mtime);
    block[148..156].fill(b' ');
    block[156] = member.kind;
    text(&mut block[157..257], &member.link);
    block[257..265].copy_from_slice(b"ustar\x0000");
    number(&mut block[329..337], member.device.0);
    number(&mut block[337..345], member.device.1);
    text(&mut block[345..500], member.prefix.as_deref().unwrap_or_default());
    for (at, bytes) in &member.fields {
        block[*at..at + bytes.len()].copy_from_slice(bytes);
    }
    let right: i32 = block.iter().map(|&byte| i32::from(byte)).sum();
    let sum = match member.sum {
        Sum::Right => right,
        Sum::Signed => block.iter().map(|&byte| i32::from(byte.cast_signed())).sum(),
        Sum::Wrong => right + 1,
    };
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    out.extend(block);
}

fn text(field: &mut [u8], value: &[u8]) {
    let length = value.len().min(field.len());
    field[..length].copy_from_slice(&value[..length]);
}

/// Octal digits where they fit, else GNU's base-256.
fn number(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    let octal = format!("{value:0digits$o}");
    if octal.len() <= digits {
        field[..digits].copy_from_slice(octal.as_bytes());
        return;
    }
    base_256(field, value.into());
}

/// GNU's form of numbers that octal digits cannot hold: two's complement, the topmost bit set.
pub fn base_256(field: &mut [u8], value: i128) {
    let bytes = value.to_be_bytes();
    let start = bytes.len() - field.len();
    field.copy_from_slice(&bytes[start..]);
    field[0] |= 0x80;
}

fn padded(out: &mut Vec<u8>, body: &[u8]) {
    out.write_all(body).expect("a Vec takes every write");
    out.resize(out.len().next_multiple_of(512), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    /// GNU tar is the second opinion on what we write.
    fn listing(members: &[Member]) -> String {
        let mut tar = Command::new("tar")
            .args(["-tvf", "-", "--numeric-owner", "--utc"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tar runs");
        tar.stdin.take().expect("piped").write_all(&archive(members)).expect("tar reads");
        let out = tar.wait_with_output().expect("tar ends");
        assert!(out.status.success());
        String::from_utf8(out.stdout).expect("listing is text")
    }

    #[test]
    fn gnu_tar_reads_every_kind_of_member() {
        let long = "d/".to_owned() + &"x".repeat(150);
        let list = listing(&[
            dir("d/"),
            file(&long, "body").owner(3_000_000, 7).mode(0o4755),
            hardlink("h", "d"),
            symlink("s", "../t"),
            char_device("c", 1, 3),
            whiteout("d/gone"),
            file("x", "").xattr("user.k", "v"),
        ]);
        assert!(list.contains(&long), "{list}");
        assert!(list.contains("-rwsr-xr-x 3000000/7"), "{list}");
        assert!(list.contains("s -> ../t") && list.contains("1,3") && list.contains("d/.wh.gone"), "{list}");
    }

    #[test]
    fn a_pax_record_counts_its_own_length() {
        assert_eq!(record(b"path", b"a"), b"9 path=a\n");
        assert_eq!(record(b"paths", b"a"), b"11 paths=a\n");
        assert_eq!(record(b"k", &[b'v'; 94]).len(), 101);
        assert!(record(b"k", &[b'v'; 94]).starts_with(b"101 k=v"));
    }
}
