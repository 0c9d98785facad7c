//! Sparse files in GNU's four forms (GNU tar manual, "Storing Sparse Files").

use super::words::{number, pair, text};
use super::{Fault, fault, fields};
use crate::tar::{self, Member};

/// Extents in the header of the oldest form.
const IN_HEADER: usize = 4;

/// Extents in each block that goes on with them.
const IN_BLOCK: usize = 21;

/// What a line says of a sparse file.
#[derive(Default)]
struct Sparse {
    /// Offsets and lengths, in the line's order.
    extents: Vec<(u64, u64)>,
    data: Vec<u8>,
    /// The apparent size.
    real: u64,
    /// What the map says in place of the extents.
    map: Option<Vec<u8>>,
    count: Option<Vec<u8>>,
    /// The oldest form's last block says that another one follows.
    more: bool,
}

/// The member of that form.
pub(super) fn member(form: &[u8], name: &[u8], words: &[Vec<u8>]) -> Result<Member, Fault> {
    let mut sparse = Sparse::default();
    let mut others = Vec::new();
    for word in words {
        if !sparse.take(word)? {
            others.push(word);
        }
    }
    let member = match form {
        b"gnu" => sparse.old(name),
        b"0.0" => sparse.records(name),
        b"0.1" => sparse.list(name),
        b"1.0" => sparse.in_data(name),
        _ => return Err(fault(form, "is none of gnu, 0.0, 0.1 and 1.0")),
    };
    others.into_iter().try_fold(member, |member, word| fields::apply(member, word))
}

impl Sparse {
    /// Takes a word that is about holes; false for others.
    fn take(&mut self, word: &[u8]) -> Result<bool, Fault> {
        let wrong = || fault(word, "no number");
        match pair(word) {
            Some((b"at", extent)) => {
                let colon = extent.iter().position(|&byte| byte == b':');
                let colon = colon.ok_or_else(|| fault(word, "wants OFFSET[/LENGTH]:DATA"))?;
                let (place, data) = (text(&extent[..colon])?, &extent[colon + 1..]);
                let (offset, length) = match place.split_once('/') {
                    Some((offset, length)) => (offset, number(length.as_bytes()).ok_or_else(wrong)?),
                    None => (place, data.len() as u64),
                };
                self.extents.push((number(offset.as_bytes()).ok_or_else(wrong)?, length));
                self.data.extend(data);
            }
            Some((b"empty", count)) => {
                let count = number(count).ok_or_else(wrong)?;
                self.extents.extend((0..count).map(|at| (at, 0)));
            }
            Some((b"real", size)) => self.real = number(size).ok_or_else(wrong)?,
            Some((b"more", b"1")) => self.more = true,
            Some((b"map", map)) => self.map = Some(map.to_vec()),
            Some((b"count", count)) => self.count = Some(count.to_vec()),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The oldest form: extents in the header and in blocks behind it, which its size does not count.
    fn old(&self, name: &[u8]) -> Member {
        let (first, more) = self.extents.split_at(self.extents.len().min(IN_HEADER));
        let mut body = Vec::new();
        for (at, extents) in more.chunks(IN_BLOCK).enumerate() {
            let mut block = octal_map(extents);
            block.resize(512, 0);
            block[504] = u8::from(self.more || (at + 1) * IN_BLOCK < more.len());
            body.extend(block);
        }
        body.extend(&self.data);
        tar::file(name, body)
            .kind(b'S')
            .claimed_size(self.data.len() as u64)
            .field(257, b"ustar  \0")
            .field(386, octal_map(first))
            .field(482, [u8::from(self.more || !more.is_empty())])
            .field(483, octal(self.real))
    }

    fn count(&self) -> Vec<u8> {
        self.count.clone().unwrap_or_else(|| self.extents.len().to_string().into_bytes())
    }

    /// 0.0: two records for each extent.
    fn records(&self, name: &[u8]) -> Member {
        let plain = tar::file(name, &self.data)
            .pax("GNU.sparse.size", self.real.to_string())
            .pax("GNU.sparse.numblocks", self.count());
        self.extents.iter().fold(plain, |member, (offset, length)| {
            member.pax("GNU.sparse.offset", offset.to_string()).pax("GNU.sparse.numbytes", length.to_string())
        })
    }

    /// 0.1: one record with all of them.
    fn list(&self, name: &[u8]) -> Member {
        let extents = self.extents.iter().map(|(offset, length)| format!("{offset},{length}"));
        let map = extents.collect::<Vec<_>>().join(",").into_bytes();
        tar::file("GNUSparseFile.0/file", &self.data)
            .pax("GNU.sparse.name", name)
            .pax("GNU.sparse.size", self.real.to_string())
            .pax("GNU.sparse.numblocks", self.count())
            .pax("GNU.sparse.map", self.map.clone().unwrap_or(map))
    }

    /// 1.0: decimal lines before the data, filled up to a block.
    fn in_data(&self, name: &[u8]) -> Member {
        let extents = self.extents.iter().map(|(offset, length)| format!("{offset}\n{length}\n"));
        let lines = extents.collect::<String>().into_bytes();
        let map = self.map.clone().unwrap_or_else(|| [self.count(), b"\n".to_vec(), lines].concat());
        let mut body = map;
        body.resize(body.len().next_multiple_of(512), 0);
        body.extend(&self.data);
        tar::file("GNUSparseFile.0/file", body)
            .pax("GNU.sparse.major", "1")
            .pax("GNU.sparse.minor", "0")
            .pax("GNU.sparse.name", name)
            .pax("GNU.sparse.realsize", self.real.to_string())
    }
}

fn octal_map(extents: &[(u64, u64)]) -> Vec<u8> {
    extents.iter().flat_map(|&(offset, length)| [octal(offset), octal(length)].concat()).collect()
}

/// Twelve bytes: digits where they fit, else base 256.
fn octal(value: u64) -> Vec<u8> {
    let digits = format!("{value:011o}\0").into_bytes();
    if digits.len() == 12 {
        return digits;
    }
    let mut field = vec![0; 12];
    tar::base_256(&mut field, value.into());
    field
}
