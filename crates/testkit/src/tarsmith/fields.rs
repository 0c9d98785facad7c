//! The words after a member's name: what it has, and what its header says against that.

use super::words::{number, pair, text};
use super::{Fault, fault};
use crate::tar::{Member, Sum, base_256};

/// Offset and width of the numeric fields.
const NUMBERS: [(&str, usize, usize); 7] = [
    ("mode", 100, 8),
    ("uid", 108, 8),
    ("gid", 116, 8),
    ("size", 124, 12),
    ("mtime", 136, 12),
    ("major", 329, 8),
    ("minor", 337, 8),
];

/// Offset and width of the text fields.
const TEXTS: [(&str, usize, usize); 3] = [("name", 0, 100), ("target", 157, 100), ("prefix", 345, 155)];

/// Takes a word `key=value` into a member.
pub(super) fn apply(member: Member, word: &[u8]) -> Result<Member, Fault> {
    let (key, value) = pair(word).ok_or_else(|| fault(word, "is no key=value"))?;
    let key = text(key)?;
    if let Some(&(_, at, width)) = NUMBERS.iter().find(|(name, ..)| *name == key) {
        let field = numeric(key, value, width).ok_or_else(|| fault(word, "no number"))?;
        return Ok(member.field(at, field));
    }
    if let Some(&(_, at, width)) = TEXTS.iter().find(|(name, ..)| *name == key) {
        if value.len() > width {
            return Err(fault(word, format!("has room for {width} bytes")));
        }
        let mut field = value.to_vec();
        field.resize(width, 0);
        return Ok(member.field(at, field));
    }
    if let Some(name) = key.strip_prefix("xattr.") {
        return Ok(member.xattr(name, value));
    }
    match (key, value) {
        ("type", [kind]) => Ok(member.kind(*kind)),
        ("chksum", b"bad") => Ok(member.sum(Sum::Wrong)),
        ("chksum", b"signed") => Ok(member.sum(Sum::Signed)),
        ("magic", b"ustar") => Ok(member),
        ("magic", b"gnu") => Ok(member.field(257, b"ustar  \0")),
        ("magic", b"star") => Ok(member.field(508, b"tar\0")),
        ("magic", b"v7") => Ok(member.field(257, [0; 8])),
        ("type" | "chksum" | "magic", _) => Err(fault(word, "no such value")),
        _ => Err(fault(word, "no such field")),
    }
}

/// A field's bytes: octal digits where they fit, else base 256.
fn numeric(key: &str, value: &[u8], width: usize) -> Option<Vec<u8>> {
    let mut field = vec![0; width];
    if let Some(bytes) = value.strip_prefix(b"text:") {
        field.get_mut(..bytes.len())?.copy_from_slice(bytes);
        return Some(field);
    }
    if let Some(digits) = value.strip_prefix(b"b256:") {
        base_256(&mut field, std::str::from_utf8(digits).ok()?.parse().ok()?);
        return Some(field);
    }
    let value = match key {
        "mode" => u64::from_str_radix(std::str::from_utf8(value).ok()?, 8).ok()?,
        _ => number(value)?,
    };
    let digits = width - 1;
    let octal = format!("{value:0digits$o}");
    match octal.len() == digits {
        true => field[..digits].copy_from_slice(octal.as_bytes()),
        false => base_256(&mut field, value.into()),
    }
    Some(field)
}
