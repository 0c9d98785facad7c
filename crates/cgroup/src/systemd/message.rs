//! D-Bus messages as bytes (D-Bus Specification, "Message Protocol"): what a client of systemd needs of it.

use std::io::{self, Read};

/// Messages of systemd that concern us are shorter by far.
const LONGEST_BYTES: usize = 1 << 20;

/// A value of a unit's property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// `s`
    Text(String),
    /// `b`
    Flag(bool),
    /// `t`
    Number(u64),
    /// `au`
    Numbers(Vec<u32>),
    /// `ay`
    Bytes(Vec<u8>),
}

impl Value {
    fn signature(&self) -> &'static str {
        match self {
            Self::Text(_) => "s",
            Self::Flag(_) => "b",
            Self::Number(_) => "t",
            Self::Numbers(_) => "au",

            Self::Bytes(_) => "ay",
        }
    }
}

/// A unit's property by its name.
pub(crate) type Property = (&'static str, Value);

/// Bytes in the making, little-endian; every value begins at a multiple of its alignment.
#[derive(Debug, Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn u32(&mut self, value: u32) {
        self.align(4);
        self.0.extend(value.to_le_bytes());
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.u32(length(text.len()));
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    pub(crate) fn flag(&mut self, flag: bool) {
        self.u32(flag.into());
    }

    fn signature(&mut self, signature: &str) {
        self.0.push(u8::try_from(signature.len()).unwrap_or(u8::MAX));
        self.0.extend(signature.as_bytes());
        self.0.push(0);
    }

    /// An array: its length in bytes, the padding of its elements (not counted), the elements.
    pub(crate) fn array(&mut self, alignment: usize, elements: impl FnOnce(&mut Self)) {
        self.u32(0);
        let at = self.0.len() - 4;
        self.align(alignment);
        let begin = self.0.len();
        elements(self);
        let size = length(self.0.len() - begin);
        self.0[at..at + 4].copy_from_slice(&size.to_le_bytes());
    }

    fn variant(&mut self, value: &Value) {
        self.signature(value.signature());
        match value {
            Value::Text(text) => self.text(text),
            Value::Flag(flag) => self.flag(*flag),
            Value::Number(number) => {
                self.align(8);
                self.0.extend(number.to_le_bytes());
            }
            Value::Numbers(numbers) => self.array(4, |w| numbers.iter().for_each(|&n| w.u32(n))),
            Value::Bytes(bytes) => self.array(1, |w| w.0.extend(bytes)),
        }
    }

    /// `a(sv)`
    pub(crate) fn properties(&mut self, properties: &[Property]) {
        self.array(8, |w| {
            for (name, value) in properties {
                w.align(8);
                w.text(name);
                w.variant(value);
            }
        });
    }
}

/// Where a call goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) destination: &'a str,
    pub(crate) path: &'a str,
    pub(crate) interface: &'a str,
    pub(crate) member: &'a str,
    /// The signature of its arguments; empty for none.
    pub(crate) signature: &'a str,
}

impl Call<'_> {
    /// The whole message.
    pub(crate) fn to_bytes(self, serial: u32, body: Writer) -> Vec<u8> {
        let body = body.0;
        // little-endian, METHOD_CALL, no flags, protocol version 1
        let mut head = Writer(vec![b'l', 1, 0, 1]);
        head.u32(length(body.len()));
        head.u32(serial);
        let fields = [
            (1, "o", self.path),
            (2, "s", self.interface),
            (3, "s", self.member),
            (6, "s", self.destination),
        ];
        head.array(8, |w| {
            for (code, signature, text) in fields {
                w.align(8);
                w.0.push(code);
                w.signature(signature);
                w.text(text);
            }
            if !self.signature.is_empty() {
                w.align(8);
                w.0.push(8);
                w.signature("g");
                w.signature(self.signature);
            }
        });
        head.align(8);
        head.0.extend(body);
        head.0
    }
}

/// What kind of message came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The answer to the call with this serial number.
    Reply(u32),
    /// The refusal of the call with this serial number, by the error's name.
    Refusal(u32, String),
    /// A signal, by its member.
    Signal(String),
    /// Anything else.
    Other,
}

/// A message that came.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    body: Vec<u8>,
}

impl Message {
    /// Reads one message.
    ///
    /// # Errors
    /// Those of reading, and `InvalidData` for what is none, is too long, or is of a big-endian peer.
    pub(crate) fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut fixed = [0; 16];
        from.read_exact(&mut fixed)?;
        if fixed[0] != b'l' || fixed[3] != 1 {
            return Err(wrong("no little-endian message of version 1"));
        }
        let field =
            |at: usize| u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]) as usize;
        let (body, fields) = (field(4), field(12));
        let padded = fields.checked_next_multiple_of(8).unwrap_or(usize::MAX);
        if body.saturating_add(padded) > LONGEST_BYTES {
            return Err(wrong("a message that is too long"));
        }
        let mut rest = vec![0; padded + body];
        from.read_exact(&mut rest)?;
        let body = rest.split_off(padded);
        rest.truncate(fields);
        let kind = kind(fixed[1], &rest).ok_or_else(|| wrong("a header that makes no sense"))?;
        Ok(Self { kind, body })
    }

    /// Its arguments, to be read in order.
    pub(crate) fn arguments(&self) -> Reader<'_> {
        Reader { bytes: &self.body, at: 0 }
    }
}

fn kind(code: u8, fields: &[u8]) -> Option<Kind> {
    // The header's fixed part is 16 bytes long, so that alignment counts as from here.
    let mut reader = Reader { bytes: fields, at: 0 };
    let (mut member, mut error, mut answers) = (String::new(), String::new(), 0);
    while reader.at < fields.len() {
        reader.align(8);
        let field = reader.byte()?;
        let signature = reader.signature()?;
        match signature.as_str() {
            "u" => {
                let number = reader.u32()?;
                if field == 5 {
                    answers = number;
                }
            }
            "g" => drop(reader.signature()?),
            "s" | "o" => {
                let text = reader.text()?;
                match field {
                    3 => member = text,
                    4 => error = text,
                    _ => {}
                }
            }
            _ => return None,
        }
    }
    Some(match code {
        2 => Kind::Reply(answers),
        3 => Kind::Refusal(answers, error),
        4 => Kind::Signal(member),
        _ => Kind::Other,
    })
}

/// Values read in order; `None` for what is not there.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.align(4);
        self.take(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }

    /// A text or an object's path.
    pub(crate) fn text(&mut self) -> Option<String> {
        let length = self.u32()? as usize;
        let text = self.take(length)?.to_vec();
        self.take(1)?;
        String::from_utf8(text).ok()
    }

    fn signature(&mut self) -> Option<String> {
        let length = self.byte()?;
        let text = self.take(length.into())?.to_vec();
        self.take(1)?;
        String::from_utf8(text).ok()
    }

    /// A variant that holds a text.
    pub(crate) fn variant_text(&mut self) -> Option<String> {
        if self.signature()? == "s" { self.text() } else { None }
    }
}

fn length(bytes: usize) -> u32 {
    // Bounded by what a configuration may hold.
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn wrong(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_written_as_the_specification_lays_it_out() {
        let call = Call { destination: "d", path: "/p", interface: "i", member: "m", signature: "s" };
        let mut body = Writer::default();
        body.text("x");
        let bytes = call.to_bytes(7, body);
        let fields = [
            &[1, 1, b'o', 0, 2, 0, 0, 0, b'/', b'p', 0, 0, 0, 0, 0, 0][..],
            &[2, 1, b's', 0, 1, 0, 0, 0, b'i', 0, 0, 0, 0, 0, 0, 0],
            &[3, 1, b's', 0, 1, 0, 0, 0, b'm', 0, 0, 0, 0, 0, 0, 0],
            &[6, 1, b's', 0, 1, 0, 0, 0, b'd', 0, 0, 0, 0, 0, 0, 0],
            &[8, 1, b'g', 0, 1, b's', 0],
        ]
        .concat();
        let head = [
            &[b'l', 1, 0, 1, 6, 0, 0, 0, 7, 0, 0, 0][..],
            &[u8::try_from(fields.len()).expect("short"), 0, 0, 0],
        ]
        .concat();
        assert_eq!(bytes, [&head[..], &fields, &[0], &[1, 0, 0, 0, b'x', 0]].concat());
    }

    #[test]
    fn properties_are_an_array_of_aligned_pairs() {
        let mut writer = Writer::default();
        writer.properties(&[("A", Value::Flag(true)), ("B", Value::Number(5))]);
        let first = [1, 0, 0, 0, b'A', 0, 1, b'b', 0, 0, 0, 0, 1, 0, 0, 0];
        let second = [1, 0, 0, 0, b'B', 0, 1, b't', 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(writer.0, [&[40, 0, 0, 0, 0, 0, 0, 0][..], &first, &second].concat());
    }

    #[test]
    fn a_refusal_names_its_call_and_its_error() {
        let mut head = Writer(vec![b'l', 3, 0, 1]);
        let mut body = Writer::default();
        body.text("no such unit");
        head.u32(length(body.0.len()));
        head.u32(1);
        head.array(8, |w| {
            w.0.extend([5, 1, b'u', 0]);
            w.u32(9);
            w.align(8);
            w.0.extend([4, 1, b's', 0]);
            w.text("a.b.C");
        });
        head.align(8);
        head.0.extend(&body.0);
        let message = Message::read(&mut head.0.as_slice()).expect("a message");
        assert_eq!(message.kind, Kind::Refusal(9, "a.b.C".into()));
        assert_eq!(message.arguments().text().as_deref(), Some("no such unit"));
    }

    #[test]
    fn bytes_that_are_no_message_are_errors_and_never_panics() {
        for seed in 0..2000_u32 {
            let mut bytes: Vec<u8> = (0..64)
                .map(|n| (seed.wrapping_mul(2_654_435_761).wrapping_add(n * 97) >> (n % 24)) as u8)
                .collect();
            bytes[0] = b'l';
            bytes[3] = 1;
            bytes[4..8].copy_from_slice(&(seed % 16).to_le_bytes());
            bytes[12..16].copy_from_slice(&(seed % 40).to_le_bytes());
            if let Ok(message) = Message::read(&mut bytes.as_slice()) {
                let _ = message.arguments().variant_text();
            }
        }
        let endless = [b'l', 2, 0, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
        assert!(Message::read(&mut &endless[..]).is_err());
    }
}
