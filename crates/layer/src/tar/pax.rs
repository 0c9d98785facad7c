//! PAX extended headers: POSIX.1-2001, pax, "pax Extended Header".

use super::header::Fault;
use super::{Extent, Time};
use crate::limits::{SPARSE_EXTENTS, XATTR_NAME_BYTES, XATTR_VALUE_BYTES, XATTRS};

/// What the records of one extended header override. An empty value stands for "as in the ustar header".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pax {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) target: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<i64>,
    pub(crate) gid: Option<i64>,
    pub(crate) mtime: Option<Time>,
    pub(crate) major: Option<i64>,
    pub(crate) minor: Option<i64>,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) sparse: Sparse,
}

/// GNU's records about sparse files, formats 0.0, 0.1 and 1.0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sparse {
    pub(crate) major: Option<u64>,
    pub(crate) minor: Option<u64>,
    /// `GNU.sparse.name`.
    pub(crate) name: Option<Vec<u8>>,
    /// `GNU.sparse.size` or `GNU.sparse.realsize`.
    pub(crate) size: Option<u64>,
    /// The map that the records themselves hold (0.0, 0.1).
    pub(crate) map: Option<Vec<Extent>>,
    pub(crate) count: Option<u64>,
    /// An offset whose length has not come yet (0.0).
    pending: Option<u64>,
}

impl Sparse {
    /// True where any record of theirs was there.
    pub(crate) fn is_there(&self) -> bool {
        *self != Self::default()
    }
}

impl Pax {
    /// Reads all records of an extended header.
    pub(crate) fn parse(mut records: &[u8]) -> Result<Self, Fault> {
        let mut pax = Self::default();
        let mut seen: Vec<&[u8]> = Vec::new();
        while !records.is_empty() {
            let [key, value, rest] = record(records)?;
            records = rest;
            // Format 0.0 repeats these two by design.
            if !matches!(key, b"GNU.sparse.offset" | b"GNU.sparse.numbytes") {
                seen.push(key);
            }
            pax.take(key, value)?;
        }
        seen.sort_unstable();
        if seen.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err("PAX header repeats a key");
        }
        if pax.sparse.pending.is_some() {
            return Err("sparse map has an offset without a length");
        }
        Ok(pax)
    }

    /// Takes one record in; keys that change nothing about a tree are passed over, as POSIX demands.
    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            return self.xattr(name.to_vec(), value.to_vec());
        }
        if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
            let name = percent_decoded(name).ok_or("xattr name is badly encoded")?;
            return self.xattr(name, base64(value).ok_or("xattr value is no base64")?);
        }
        if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
            return self.sparse.take(key, value);
        }
        if value.is_empty() {
            return Ok(());
        }
        match key {
            b"path" => self.path = Some(without_nul(value)?),
            b"linkpath" => self.target = Some(without_nul(value)?),
            b"size" => self.size = Some(unsigned(value).ok_or("PAX size is no number")?),
            b"uid" => self.uid = Some(signed(value).ok_or("PAX uid is no number")?),
            b"gid" => self.gid = Some(signed(value).ok_or("PAX gid is no number")?),
            b"mtime" => self.mtime = Some(time(value).ok_or("PAX mtime is no time")?),
            b"SCHILY.devmajor" => self.major = Some(signed(value).ok_or("PAX device number is no number")?),
            b"SCHILY.devminor" => self.minor = Some(signed(value).ok_or("PAX device number is no number")?),
            _ => {}
        }
        Ok(())
    }

    fn xattr(&mut self, name: Vec<u8>, value: Vec<u8>) -> Result<(), Fault> {
        if name.is_empty() || name.len() > XATTR_NAME_BYTES || name.contains(&0) {
            return Err("xattr name is empty, too long or has a NUL");
        }
        if value.len() > XATTR_VALUE_BYTES || self.xattrs.len() >= XATTRS {
            return Err("xattrs are too large or too many");
        }
        // libarchive writes each xattr in both spellings; the first one is as good as the second.
        if !self.xattrs.iter().any(|(have, _)| *have == name) {
            self.xattrs.push((name, value));
        }
        Ok(())
    }

    /// Takes a global header's records as defaults; those that could hide or rename members are refused.
    pub(crate) fn take_global(&mut self, global: Self) -> Result<(), Fault> {
        let Self { path, target, size, uid, gid, mtime, major, minor, xattrs, sparse } = global;
        let named = path.is_some() || target.is_some() || size.is_some() || !xattrs.is_empty();
        if named || major.is_some() || minor.is_some() || sparse.is_there() {
            return Err("global PAX header sets what only a member may");
        }
        self.uid = uid.or(self.uid);
        self.gid = gid.or(self.gid);
        self.mtime = mtime.or(self.mtime);
        Ok(())
    }
}

impl Sparse {
    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        let number = || unsigned(value).ok_or("sparse record is no number");
        match key {
            b"major" => self.major = Some(number()?),
            b"minor" => self.minor = Some(number()?),
            b"name" => self.name = Some(without_nul(value)?),
            b"size" | b"realsize" => self.size = Some(number()?),
            b"numblocks" => self.count = Some(number()?),
            b"offset" if self.pending.is_none() => self.pending = Some(number()?),
            b"numbytes" => {
                let offset = self.pending.take().ok_or("sparse map has a length without an offset")?;
                self.push(Extent { offset, length: number()? })?;
            }
            b"map" => {
                let mut numbers = value.split(|&b| b == b',');
                while let Some(offset) = numbers.next().filter(|text| !text.is_empty()) {
                    let offset = unsigned(offset).ok_or("sparse map is no number")?;
                    let length = numbers.next().and_then(unsigned).ok_or("sparse map is no number")?;
                    self.push(Extent { offset, length })?;
                }
            }
            _ => return Err("unknown GNU.sparse record"),
        }
        Ok(())
    }

    fn push(&mut self, extent: Extent) -> Result<(), Fault> {
        let map = self.map.get_or_insert_default();
        if map.len() >= SPARSE_EXTENTS {
            return Err("sparse map has too many extents");
        }
        map.push(extent);
        Ok(())
    }
}

/// Splits the first record off, key, value and the rest: `LENGTH SPACE KEY=VALUE NEWLINE`, the length counting all of it.
fn record(bytes: &[u8]) -> Result<[&[u8]; 3], Fault> {
    let fault = "PAX record is invalid";
    let space = bytes.iter().take(20).position(|&b| b == b' ').ok_or(fault)?;
    let length = unsigned(&bytes[..space]).ok_or(fault)?;
    let length = usize::try_from(length).map_err(|_| fault)?;
    if length <= space + 1 || length > bytes.len() {
        return Err(fault);
    }
    let (record, rest) = bytes.split_at(length);
    let record = record[space + 1..].strip_suffix(b"\n").ok_or(fault)?;
    let equals = record.iter().position(|&b| b == b'=').ok_or(fault)?;
    let (key, value) = (&record[..equals], &record[equals + 1..]);
    if key.is_empty() || key.contains(&0) {
        return Err(fault);
    }
    Ok([key, value, rest])
}

fn without_nul(value: &[u8]) -> Result<Vec<u8>, Fault> {
    if value.contains(&0) { Err("PAX name has a NUL") } else { Ok(value.to_vec()) }
}

/// A number of decimal digits, at most `i64::MAX`, which is what offsets can be.
pub(crate) fn unsigned(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    let value = text.iter().try_fold(0u64, |value, &digit| match digit {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })?;
    (value <= i64::MAX as u64).then_some(value)
}

fn signed(text: &[u8]) -> Option<i64> {
    match text.strip_prefix(b"-") {
        Some(digits) => unsigned(digits).map(|n| -(n as i64)),
        None => unsigned(text).map(|n| n as i64),
    }
}

/// Decimal seconds with an optional fraction; digits beyond nanoseconds are cut.
fn time(text: &[u8]) -> Option<Time> {
    let (whole, fraction) = match text.iter().position(|&b| b == b'.') {
        Some(dot) => (&text[..dot], &text[dot + 1..]),
        None => (text, &b""[..]),
    };
    let negative = whole.starts_with(b"-");
    let seconds = signed(whole)?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanoseconds = digits.fold(0u32, |n, digit| n * 10 + u32::from(digit - b'0'));
    if negative && nanoseconds > 0 {
        return Some(Time { seconds: seconds.checked_sub(1)?, nanoseconds: 1_000_000_000 - nanoseconds });
    }
    Some(Time { seconds, nanoseconds })
}

/// libarchive's names: as in URLs.
fn percent_decoded(name: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name.iter();
    while let Some(&byte) = rest.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || char::from(*rest.next()?).to_digit(16);
        out.push((digit()? << 4 | digit()?) as u8);
    }
    Some(out)
}

/// libarchive's values: base64 without padding (padding is taken too).
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for group in text.chunks(4) {
        if group.len() == 1 {
            return None;
        }
        let mut bits = 0u32;
        for &byte in group {
            let six = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(six);
        }
        bits <<= 6 * (4 - group.len());
        out.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_fractions_and_signs() {
        let at = |seconds, nanoseconds| Some(Time { seconds, nanoseconds });
        for (text, want) in [
            ("1", at(1, 0)),
            ("1.5", at(1, 500_000_000)),
            ("-1.25", at(-2, 750_000_000)),
            ("-0.25", at(-1, 750_000_000)),
            ("1.0000000019", at(1, 1)),
            ("1.", at(1, 0)),
            ("", None),
            ("NaN", None),
            ("1e9", None),
            ("1.-5", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(time(text.as_bytes()), want, "{text:?}");
        }
    }

    #[test]
    fn invalid_or_repeated_records_are_refused() {
        for records in [
            "11 path=ab\n11 path=cd\n",
            "10 path=ab\n",
            "12 path=ab\n",
            "9 pathab\n",
            "x path=a\n",
            "+11 path=ab\n",
            "6 =ab\n",
            "11 path=a\0\n",
            "0 path=ab\n",
            "99999999999999999999 path=a\n",
            "12 size=-10\n",
            "11 uid=1x2\n",
            "\0\0\0\0",
        ] {
            assert!(Pax::parse(records.as_bytes()).is_err(), "{records:?}");
        }
    }

    #[test]
    fn empty_values_leave_the_header_as_it_is_and_xattrs_may_be_empty() {
        let pax = Pax::parse(b"8 path=\n21 SCHILY.xattr.u.a=\n13 comment=x\n").expect("valid");
        assert_eq!(pax.path, None);
        assert_eq!(pax.xattrs, [(b"u.a".to_vec(), Vec::new())]);
    }

    #[test]
    fn libarchive_xattrs_are_decoded() {
        let pax = Pax::parse(b"38 LIBARCHIVE.xattr.user.a%3db=AAECAw\n").expect("valid");
        assert_eq!(pax.xattrs, [(b"user.a=b".to_vec(), vec![0, 1, 2, 3])]);
    }

    #[test]
    fn a_global_header_cannot_rename_members() {
        let mut defaults = Pax::default();
        assert!(defaults.take_global(Pax::parse(b"11 path=ab\n").expect("valid")).is_err());
        defaults.take_global(Pax::parse(b"9 uid=33\n").expect("valid")).expect("allowed");
        assert_eq!(defaults.uid, Some(33));
    }
}
