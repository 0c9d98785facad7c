//! Blobs from a registry into the store's ingest: bounded, resumed, verified.

use descriptor::Descriptor;
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, RANGE};
use store::BlobWriter;

use crate::error::{Error, Result};
use crate::repository::Repository;
use crate::transport::{Answer, Call};

/// How much is read and written at once.
const PIECE: usize = 256 << 10;
/// An attempt that brought this much was no failed one: the count of failures begins anew.
const PROGRESS: u64 = 64 << 10;

/// Where an answer's bytes belong.
enum Part {
    /// From the writer's offset on.
    Rest,
    /// The whole blob.
    Whole,
    /// Nowhere: what came is not what was asked for, and only all of it will do.
    Unusable,
}

impl Repository {
    /// Fetches what the writer lacks of a blob and finishes it. `progress` is told each piece's length.
    ///
    /// What an earlier writer left is hashed with the rest; where it proves wrong, all is fetched once more.
    ///
    /// # Errors
    /// [`Error::Size`], [`store::Error::WrongDigest`]; what requests give, after the retries.
    pub fn fetch(&self, blob: &Descriptor, writer: &mut BlobWriter, progress: &dyn Fn(u64)) -> Result<()> {
        let mut failed = 0;
        let mut resumed = writer.was_resumed();
        loop {
            let before = writer.offset();
            let error = match self.fetch_rest(blob, writer, progress) {
                Ok(()) => match writer.finish() {
                    Err(store::Error::WrongDigest { .. }) if resumed => {
                        resumed = false;
                        continue;
                    }
                    outcome => return Ok(outcome?),
                },
                Err(error) => error,
            };
            if writer.offset() >= before + PROGRESS {
                failed = 0;
            }
            self.patience().pause(&mut failed, error)?;
        }
    }

    /// One request, or two where the first one's answer is of no use.
    fn fetch_rest(&self, blob: &Descriptor, writer: &mut BlobWriter, progress: &dyn Fn(u64)) -> Result<()> {
        if writer.offset() == blob.size {
            return Ok(());
        }
        let call = Call::get(self.url(&format!("blobs/{}", blob.digest))?);
        if writer.offset() > 0 {
            let rest = Call::get(call.url.clone()).header(RANGE, format!("bytes={}-", writer.offset()));
            let answer = self.send(&rest)?.expect(&[200, 206, 416])?;
            match part(&answer, writer.offset(), blob.size) {
                Part::Rest => return pour(answer, blob, writer, progress),
                Part::Whole => {
                    writer.restart()?;
                    return pour(answer, blob, writer, progress);
                }
                Part::Unusable => writer.restart()?,
            }
        }
        let answer = self.send(&call)?.expect(&[200])?;
        pour(answer, blob, writer, progress)
    }
}

/// What an answer to a request for a range is. A spliced blob would be caught by its digest, but only at its end.
fn part(answer: &Answer, offset: u64, size: u64) -> Part {
    match answer.status().as_u16() {
        200 => Part::Whole,
        206 => {
            let multipart =
                answer.text(CONTENT_TYPE).is_some_and(|t| t.to_ascii_lowercase().starts_with("multipart/"));
            let range = answer.text(CONTENT_RANGE).and_then(content_range);
            match range {
                Some((start, end, total)) if !multipart && answer.refuse_encoding().is_ok() => {
                    let fits = start == offset && end + 1 == size && total.is_none_or(|total| total == size);
                    if fits { Part::Rest } else { Part::Unusable }
                }
                _ => Part::Unusable,
            }
        }
        _ => Part::Unusable,
    }
}

/// `bytes START-END/TOTAL` (RFC 9110, section 14.4); the total may be `*`.
fn content_range(header: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = header.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
    let (start, end) = range.split_once('-')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    let (start, end) = (start.parse().ok()?, end.parse().ok()?);
    (start <= end && end < u64::MAX).then_some((start, end, total))
}

fn pour(answer: Answer, blob: &Descriptor, writer: &mut BlobWriter, progress: &dyn Fn(u64)) -> Result<()> {
    answer.refuse_encoding()?;
    let wrong_size = |got| Error::Size { what: blob.digest.to_string(), wanted: blob.size, got };
    let start = writer.offset();
    if let Some(length) = answer.length().filter(|length| *length != blob.size - start) {
        return Err(wrong_size(start.saturating_add(length)));
    }
    let mut body = answer.into_body();
    let mut piece = vec![0; PIECE];
    loop {
        let n = body.read(&mut piece)?;
        match n as u64 {
            0 if writer.offset() == blob.size => return Ok(()),
            0 => return Err(wrong_size(writer.offset())),
            n if n > blob.size - writer.offset() => return Err(wrong_size(writer.offset() + n)),
            _ => writer.append(&piece[..n])?,
        }
        progress(n as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read_strictly() {
        let table = [
            ("bytes 5-9/10", Some((5, 9, Some(10)))),
            ("bytes 0-0/*", Some((0, 0, None))),
            ("bytes */10", None),
            ("bytes 9-5/10", None),
            ("bytes 5-/10", None),
            ("items 5-9/10", None),
            ("bytes 0-18446744073709551615/*", None),
            ("", None),
        ];
        for (header, expected) in table {
            assert_eq!(content_range(header), expected, "{header}");
        }
    }
}
