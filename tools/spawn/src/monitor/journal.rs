//! The log: one JSON object a line of output, as docker's json-file driver writes them, `{"log","stream","time"}`.
//!
//! - A line is cut after 16 KiB, as docker cuts it, but never within a character; a piece has no newline at its end.
//! - What is no UTF-8 is written as U+FFFD, JSON having no other bytes.
//! - An object is in the file whole or not at all: what a full disk cuts off is taken back at once, what a monitor's or the host's
//!   sudden end cut off when the file is opened again.

use std::fs::File;
use std::io::Write;

use rustix::fs::{Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use sys::{Call, Result, Root};

use crate::monitor::choice::Choice;

/// The file that grows; its predecessors have a dot and a number behind that, the youngest 1.
pub(crate) const LOG: &str = "log";
/// Its successor until it has its name.
const NEXT: &str = "log.new";
/// No piece of a line is longer (docker's).
const PIECE_BYTES: usize = 16 << 10;
/// Objects are written when there is so much of them.
const WRITTEN_BYTES: usize = 64 << 10;

/// A stream of the container's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// The log of a container, open for writing.
#[derive(Debug)]
pub(crate) struct Journal {
    bundle: Root,
    choice: Choice,
    file: File,
    size: u64,
    /// Objects that are not written yet.
    objects: Vec<u8>,
    /// What each stream has said of a line that has not ended.
    begun: [Vec<u8>; 2],
}

impl Journal {
    /// Opens the log of a bundle; what is in it stays.
    pub(crate) fn open(bundle: Root, choice: Choice) -> Result<Self> {
        let file = File::from(open(&bundle, LOG, OFlags::RDWR | OFlags::APPEND)?);
        let size = whole(&file).call("read", || LOG.into())?;
        file.set_len(size)
            .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
            .call("ftruncate", || LOG.into())?;
        Ok(Self { bundle, choice, file, size, objects: Vec::new(), begun: Default::default() })
    }

    /// Takes what a stream said; all lines that ended are in the file then.
    pub(crate) fn take(&mut self, stream: Stream, bytes: &[u8]) {
        let now = descriptor::moment::now();
        let mut begun = std::mem::take(&mut self.begun[stream as usize]);
        pieces(&mut begun, bytes, |piece| self.object(stream, piece, &now));
        self.begun[stream as usize] = begun;
        self.write();
    }

    /// Writes the lines that will not end any more.
    pub(crate) fn finish(&mut self) {
        let now = descriptor::moment::now();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let begun = std::mem::take(&mut self.begun[stream as usize]);
            if !begun.is_empty() {
                self.object(stream, &begun, &now);
            }
        }
        self.write();
    }

    fn object(&mut self, stream: Stream, piece: &[u8], now: &str) {
        if self.choice.max_bytes.is_some_and(|most| self.size + self.objects.len() as u64 >= most) {
            self.write();
            // Where there can be no successor the file grows on: better than losing what is said.
            let _ = self.succeed();
        }
        self.objects.extend_from_slice(b"{\"log\":");
        let text = String::from_utf8_lossy(piece);
        // Into memory, and text: neither can fail.
        let _ = serde_json::to_writer(&mut self.objects, &text);
        let rest = format!(",\"stream\":\"{}\",\"time\":\"{now}\"}}\n", stream.name());
        self.objects.extend_from_slice(rest.as_bytes());
        if self.objects.len() >= WRITTEN_BYTES {
            self.write();
        }
    }

    fn write(&mut self) {
        if self.objects.is_empty() {
            return;
        }
        match self.file.write_all(&self.objects) {
            Ok(()) => self.size += self.objects.len() as u64,
            // A full disk: the container goes on, and what the log has can be read.
            Err(_) => drop(self.file.set_len(self.size)),
        }
        self.objects.clear();
    }

    /// A new file takes over; the old one is whole before it has its new name.
    fn succeed(&mut self) -> Result<()> {
        let next = File::from(open(&self.bundle, NEXT, OFlags::WRONLY | OFlags::APPEND | OFlags::TRUNC)?);
        for number in (1..self.choice.max_files.saturating_sub(1)).rev() {
            self.rename(&predecessor(number), &predecessor(number + 1))?;
        }
        if self.choice.max_files > 1 {
            self.rename(LOG, &predecessor(1))?;
        }
        self.rename(NEXT, LOG)?;
        (self.file, self.size) = (next, 0);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        match rustix::fs::renameat_with(&self.bundle, from, &self.bundle, to, RenameFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            answer => answer.call("rename", || format!("{from:?}, {to:?}")),
        }
    }
}

/// The name of a file that was the log before.
pub(crate) fn predecessor(number: u32) -> String {
    format!("{LOG}.{number}")
}

fn open(bundle: &Root, name: &str, flags: OFlags) -> Result<std::os::fd::OwnedFd> {
    let flags = OFlags::CREATE | OFlags::NOFOLLOW | flags;
    bundle.open(name, flags, Mode::RUSR | Mode::WUSR)
}

/// How many bytes of a log are whole objects: up to its last newline.
fn whole(file: &File) -> rustix::io::Result<u64> {
    let mut end = rustix::fs::fstat(file)?.st_size.unsigned_abs();
    let mut buffer = [0; 4096];
    while end > 0 {
        let begin = end.saturating_sub(buffer.len() as u64);
        let bytes = &mut buffer[..usize::try_from(end - begin).unwrap_or(0)];
        let got = rustix::io::pread(file, &mut *bytes, begin)?;
        if let Some(at) = bytes[..got].iter().rposition(|&byte| byte == b'\n') {
            return Ok(begin + at as u64 + 1);
        }
        end = begin;
    }
    Ok(0)
}

/// Cuts what was begun and these bytes into lines and pieces of lines; `begun` is what is left.
fn pieces(begun: &mut Vec<u8>, mut bytes: &[u8], mut piece: impl FnMut(&[u8])) {
    while !bytes.is_empty() {
        let room = (PIECE_BYTES - begun.len()).min(bytes.len());
        let end = bytes[..room].iter().position(|&byte| byte == b'\n').map(|newline| newline + 1);
        let (taken, rest) = bytes.split_at(end.unwrap_or(room));
        bytes = rest;
        if end.is_some() && begun.is_empty() {
            piece(taken);
            continue;
        }
        begun.extend_from_slice(taken);
        if end.is_some() {
            piece(begun);
            begun.clear();
        } else if begun.len() == PIECE_BYTES {
            let whole = characters(begun);
            piece(&begun[..whole]);
            begun.drain(..whole);
        }
    }
}

/// How many bytes of these are not the beginning of a character that is cut off.
fn characters(bytes: &[u8]) -> usize {
    const LONGEST: usize = 4;
    for back in 1..LONGEST.min(bytes.len()) {
        let at = bytes.len() - back;
        let wants = match bytes[at] {
            0x80..=0xbf => continue,
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf7 => 4,
            _ => 1,
        };
        return if wants > back { at } else { bytes.len() };
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(parts: &[&[u8]]) -> (Vec<Vec<u8>>, Vec<u8>) {
        let (mut begun, mut all) = (Vec::new(), Vec::new());
        for part in parts {
            pieces(&mut begun, part, |piece| all.push(piece.to_vec()));
        }
        (all, begun)
    }

    #[test]
    fn lines_are_whole_however_they_arrive() {
        let (all, begun) = cut(&[b"a", b"b\ncd\n\ne", b"\n", b"f"]);
        assert_eq!(all, [&b"ab\n"[..], b"cd\n", b"\n", b"e\n"]);
        assert_eq!(begun, b"f");
    }

    #[test]
    fn a_long_line_is_cut_after_16_kib_and_nothing_is_lost() {
        let mut line = vec![b'x'; 2 * PIECE_BYTES + 5];
        line.push(b'\n');
        let (all, begun) = cut(&[&line[..100], &line[100..]]);
        assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), [PIECE_BYTES, PIECE_BYTES, 6]);
        assert_eq!((all.concat(), begun.len()), (line, 0));
    }

    #[test]
    fn no_character_is_cut() {
        for character in ["\u{e9}", "\u{20ac}", "\u{1f600}"] {
            for before in 0..4 {
                let text = "x".repeat(PIECE_BYTES - before) + &character.repeat(3) + "\n";
                let (all, _) = cut(&[text.as_bytes()]);
                assert!(all.iter().all(|piece| std::str::from_utf8(piece).is_ok()), "{character} {before}");
                assert_eq!(all.concat(), text.as_bytes());
            }
        }
        // What is no UTF-8 at all is cut as it comes.
        let (all, _) = cut(&[&vec![0x80; PIECE_BYTES + 1], b"\n"]);
        assert_eq!(all.concat().len(), PIECE_BYTES + 2);
    }
}
