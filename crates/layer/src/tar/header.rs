//! One 512-byte header block: POSIX.1-1988 ustar, GNU, star and V7.

use super::Extent;

/// The size of all blocks.
pub(crate) const BLOCK: usize = 512;

/// A header block or an extension of one.
pub(crate) type Block = [u8; BLOCK];

/// What is wrong with a header, in words for a message.
pub(crate) type Fault = &'static str;

/// Which of the layouts the block has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    V7,
    Ustar,
    Star,
    Gnu,
}

/// A header block whose checksum is right.
pub(crate) struct Header<'a> {
    block: &'a Block,
    format: Format,
}

impl<'a> Header<'a> {
    /// Takes a block for a header.
    pub(crate) fn new(block: &'a Block) -> Result<Self, Fault> {
        check_sum(block)?;
        let format = match (&block[257..263], &block[263..265], &block[508..512]) {
            (b"ustar\0", _, b"tar\0") => Format::Star,
            (b"ustar\0", _, _) => Format::Ustar,
            (b"ustar ", b" \0", _) => Format::Gnu,
            _ => Format::V7,
        };
        Ok(Self { block, format })
    }

    pub(crate) fn typeflag(&self) -> u8 {
        self.block[156]
    }

    /// The name with ustar's prefix before it.
    pub(crate) fn path(&self) -> Vec<u8> {
        let name = until_nul(&self.block[..100]);
        let prefix = match self.format {
            Format::Ustar => until_nul(&self.block[345..500]),
            Format::Star => until_nul(&self.block[345..476]),
            Format::V7 | Format::Gnu => b"",
        };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    pub(crate) fn target(&self) -> Vec<u8> {
        until_nul(&self.block[157..257]).to_vec()
    }

    /// The permission bits; the type bits that some writers add are dropped.
    pub(crate) fn mode(&self) -> Result<u32, Fault> {
        let mode = number(&self.block[100..108]).ok_or("mode is no number")?;
        Ok((mode & 0o7777) as u32)
    }

    pub(crate) fn uid(&self) -> Result<i64, Fault> {
        number(&self.block[108..116]).ok_or("uid is no number")
    }

    pub(crate) fn gid(&self) -> Result<i64, Fault> {
        number(&self.block[116..124]).ok_or("gid is no number")
    }

    pub(crate) fn size(&self) -> Result<u64, Fault> {
        let size = number(&self.block[124..136]).ok_or("size is no number")?;
        u64::try_from(size).map_err(|_| "size is negative")
    }

    pub(crate) fn mtime(&self) -> Result<i64, Fault> {
        number(&self.block[136..148]).ok_or("mtime is no number")
    }

    /// Major and minor number of a device; V7 has no field for them.
    pub(crate) fn device(&self) -> Result<(i64, i64), Fault> {
        if self.format == Format::V7 {
            return Err("device without numbers");
        }
        let fault = "device number is no number";
        Ok((number(&self.block[329..337]).ok_or(fault)?, number(&self.block[337..345]).ok_or(fault)?))
    }

    /// The first extents of GNU's old sparse format, whether an extension block follows, and the apparent size.
    pub(crate) fn sparse(&self) -> Result<(Vec<Extent>, bool, u64), Fault> {
        if self.format != Format::Gnu {
            return Err("sparse member outside the GNU format");
        }
        let size = number(&self.block[483..495]).and_then(|n| u64::try_from(n).ok());
        let extents = extents(&self.block[386..482])?;
        Ok((extents, self.block[482] != 0, size.ok_or("sparse size is no number")?))
    }
}

/// The extents of a block that extends a sparse header, and whether another one follows.
pub(crate) fn sparse_extension(block: &Block) -> Result<(Vec<Extent>, bool), Fault> {
    Ok((extents(&block[..504])?, block[504] != 0))
}

fn extents(fields: &[u8]) -> Result<Vec<Extent>, Fault> {
    let mut found = Vec::new();
    for pair in fields.chunks_exact(24).take_while(|pair| pair[0] != 0) {
        let field =
            |bytes| number(bytes).and_then(|n| u64::try_from(n).ok()).ok_or("sparse map is no number");
        found.push(Extent { offset: field(&pair[..12])?, length: field(&pair[12..])? });
    }
    Ok(found)
}

/// The sum of all bytes with the checksum's own field as spaces; old writers summed signed bytes.
fn check_sum(block: &Block) -> Result<(), Fault> {
    let want = number(&block[148..156]).ok_or("header checksum is no number")?;
    let spaces = i64::from(b' ') * 8;
    let outside = || block[..148].iter().chain(&block[156..]);
    let unsigned: i64 = outside().map(|&b| i64::from(b)).sum();
    if want == unsigned + spaces {
        return Ok(());
    }
    let signed: i64 = outside().map(|&b| i64::from(b.cast_signed())).sum();
    if want == signed + spaces { Ok(()) } else { Err("header checksum is wrong") }
}

pub(crate) fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|&b| b == 0).next().unwrap_or_default()
}

/// A numeric field: octal text, or GNU's base 256 where the first bit is set. An empty field is zero.
fn number(field: &[u8]) -> Option<i64> {
    if field[0] & 0x80 != 0 {
        return base_256(field);
    }
    let text = until_nul(field.trim_ascii_start()).trim_ascii();
    if text.is_empty() {
        // Leading NULs with digits behind them would be read by some and not by others.
        return field.iter().all(|b| matches!(b, 0 | b' ')).then_some(0);
    }
    text.iter().try_fold(0i64, |value, &digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

/// Two's complement, big endian, the topmost bit being the mark and the next one the sign.
fn base_256(field: &[u8]) -> Option<i64> {
    let negative = field[0] & 0x40 != 0;
    let first = if negative { field[0] } else { field[0] & 0x7f };
    // Twelve bytes at most: an i128 holds them.
    let mut value = i128::from(if negative { -1 } else { 0 });
    for byte in std::iter::once(first).chain(field[1..].iter().copied()) {
        value = value << 8 | i128::from(byte);
    }
    i64::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256_and_nothing_else() {
        for (field, want) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"0000648\0", None),
            (b"-000644\0", None),
            (b"\x00\x00\x00\x00644\x00", None),
            (b"77777777", Some(0o77_777_777)),
            (b"\x80\0\0\0\0\0\0\x05", Some(5)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Some(i64::MAX)),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
            (b"\xff\xff\xff\xff\x80\0\0\0\0\0\0\0", Some(i64::MIN)),
            (b"\xff\xff\xff\xff\x7f\xff\xff\xff\xff\xff\xff\xff", None),
        ] {
            assert_eq!(number(field), want, "{}", field.escape_ascii());
        }
    }
}
