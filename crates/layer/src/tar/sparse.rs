//! Sparse maps: GNU tar manual, appendix "Storing Sparse Files"; Go's archive/tar checks maps the same way.

use super::Extent;
use super::header::Fault;
use super::pax::unsigned;
use crate::limits::SPARSE_EXTENTS;

/// Checks that a map is in order, inside the file, and holds exactly the data that the archive has.
pub(crate) fn check(map: &[Extent], size: u64, stored: u64) -> Result<(), Fault> {
    if map.len() > SPARSE_EXTENTS {
        return Err("sparse map has too many extents");
    }
    let mut end = 0u64;
    let mut data = 0u64;
    for extent in map {
        if extent.offset < end {
            return Err("sparse map is out of order");
        }
        end = extent.offset.checked_add(extent.length).ok_or("sparse map goes beyond the file")?;
        // Cannot overflow: the extents do not overlap, so their sum is at most `end`.
        data += extent.length;
    }
    if end > size {
        return Err("sparse map goes beyond the file");
    }
    if data != stored {
        return Err("sparse map and stored size disagree");
    }
    Ok(())
}

/// The map of format 1.0, which stands before the data as decimal lines: a count, then offsets and lengths.
#[derive(Debug, Default)]
pub(crate) struct MapReader {
    line: Vec<u8>,
    count: Option<u64>,
    offset: Option<u64>,
    map: Vec<Extent>,
}

impl MapReader {
    /// Takes one block in; true once the map is whole.
    pub(crate) fn take(&mut self, block: &[u8]) -> Result<bool, Fault> {
        for &byte in block {
            if self.is_whole() {
                break;
            }
            if byte != b'\n' {
                self.line.push(byte);
                if self.line.len() > 20 {
                    return Err("sparse map is no number");
                }
                continue;
            }
            let number = unsigned(&self.line).ok_or("sparse map is no number")?;
            self.line.clear();
            self.number(number)?;
        }
        Ok(self.is_whole())
    }

    fn number(&mut self, number: u64) -> Result<(), Fault> {
        if self.count.is_none() {
            if number > SPARSE_EXTENTS as u64 {
                return Err("sparse map has too many extents");
            }
            self.count = Some(number);
        } else if let Some(offset) = self.offset.take() {
            self.map.push(Extent { offset, length: number });
        } else {
            self.offset = Some(number);
        }
        Ok(())
    }

    fn is_whole(&self) -> bool {
        self.count == Some(self.map.len() as u64)
    }

    /// The map read.
    pub(crate) fn into_map(self) -> Vec<Extent> {
        self.map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_that_lie_are_refused() {
        let at = |offset, length| Extent { offset, length };
        assert_eq!(check(&[at(0, 10), at(20, 5), at(30, 0)], 30, 15), Ok(()));
        assert!(check(&[at(20, 5), at(0, 10)], 30, 15).is_err());
        assert!(check(&[at(0, 10), at(5, 5)], 30, 15).is_err());
        assert!(check(&[at(0, 10), at(20, 15)], 30, 25).is_err());
        assert!(check(&[at(0, 10)], 30, 9).is_err());
        assert!(check(&[at(u64::MAX, 2)], u64::MAX, 2).is_err());
    }

    #[test]
    fn a_map_in_the_data_may_cross_blocks() {
        let mut reader = MapReader::default();
        assert_eq!(reader.take(b"2\n0\n5\n1"), Ok(false));
        assert_eq!(reader.take(b"00\n7\n\0\0garbage"), Ok(true));
        assert_eq!(reader.into_map(), [Extent { offset: 0, length: 5 }, Extent { offset: 100, length: 7 }]);
        assert!(MapReader::default().take(b"10000000\n").is_err());
        assert!(MapReader::default().take(b"\0").is_ok_and(|whole| !whole));
    }
}
