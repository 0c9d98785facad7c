//! The system calls: names, numbers and the width of their arguments.
//!
//! `syscalls.txt` has a line for each: its name, its numbers on x86-64, x86, x32, ARM and AArch64 (`-` where there is
//! none), and the bytes the kernel reads of each argument, 8 where the line ends (`-` for none). Source: the tables of
//! Linux up to 7.1, and the types that its trace events give the arguments. Four bytes also stand for a `long` whose upper
//! half the kernel drops or never looks at: clone's flags, mmap's protection, flags and descriptor, mount's flags,
//! ptrace's pid, mbind's mode.
//!
//! The table is packed by the compiler, with offsets in place of pointers: nothing is relocated at start, and only the
//! pages that are looked at are read.

use crate::abi::Abi;

const TEXT: &[u8] = include_bytes!("syscalls.txt");
const ROWS: usize = count_rows();
const COLUMNS: usize = 5;
/// No such call in this ABI.
const NONE: u32 = u32::MAX;

/// A system call's place in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Row(pub(crate) u16);

#[derive(Clone, Copy)]
struct Packed {
    /// Where the name begins in the text.
    name: u16,
    name_len: u8,
    numbers: [u32; COLUMNS],
    /// Two bits for each argument: 0 is 64 bits, 1 is 32, 2 is 16.
    widths: u16,
}

#[allow(long_running_const_eval, reason = "the text is read once, by the compiler")]
static TABLE: [Packed; ROWS] = pack();

/// The slots of the index, twice as many as there are rows at least.
const SLOTS: usize = 1024;
/// A slot that no name is in.
const EMPTY: u16 = u16::MAX;

/// The rows by the hashes of their names, each in the first free slot from its own on.
#[allow(long_running_const_eval, reason = "as the table")]
static INDEX: [u16; SLOTS] = index();

/// How much of an argument the kernel reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    B16,
    B32,
    B64,
}

impl Row {
    /// The system call of this name on any architecture.
    pub(crate) fn find(name: &str) -> Option<Self> {
        let mut slot = hash(name.as_bytes());
        loop {
            let place = INDEX[slot];
            let row = TABLE.get(usize::from(place))?;
            if row.name() == name.as_bytes() {
                return Some(Self(place));
            }
            slot = (slot + 1) % SLOTS;
        }
    }

    /// How many rows there are.
    pub(crate) const COUNT: usize = ROWS;

    /// All of them.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..ROWS as u16).map(Self)
    }

    pub(crate) fn place(self) -> usize {
        usize::from(self.0)
    }

    /// The number in an ABI, without the bit of x32.
    pub(crate) fn number(self, abi: Abi) -> Option<u32> {
        let column = match abi {
            Abi::X86_64 => 0,
            Abi::X86 => 1,
            Abi::X32 => 2,
            Abi::Arm => 3,
            Abi::Aarch64 => 4,
        };
        let number = TABLE[self.place()].numbers[column];
        (number != NONE).then_some(number)
    }

    /// How much of its argument `index`, counted from 0, an ABI reads.
    pub(crate) fn width(self, abi: Abi, index: usize) -> Width {
        let row = &TABLE[self.place()];
        match (row.widths >> (2 * index)) & 3 {
            2 => Width::B16,
            1 if abi.is_32_bit() && row.has_short_id(index) => Width::B16,
            1 => Width::B32,
            _ if abi.is_32_bit() => Width::B32,
            _ => Width::B64,
        }
    }
}

/// The calls that take user and group ids of 16 bits, `old_uid_t`, on 32-bit x86 and ARM (kernel/uid16.c).
const SHORT_IDS: [&[u8]; 11] = [
    b"chown",
    b"fchown",
    b"lchown",
    b"setfsgid",
    b"setfsuid",
    b"setgid",
    b"setregid",
    b"setresgid",
    b"setresuid",
    b"setreuid",
    b"setuid",
];

impl Packed {
    fn has_short_id(&self, index: usize) -> bool {
        let is_descriptor = self.name() == b"fchown" && index == 0;
        SHORT_IDS.contains(&self.name()) && !is_descriptor
    }

    fn name(&self) -> &'static [u8] {
        let start = usize::from(self.name);
        &TEXT[start..start + usize::from(self.name_len)]
    }
}

/// FNV-1a, cut to a slot.
const fn hash(name: &[u8]) -> usize {
    let mut hash: u32 = 0x811c_9dc5;
    let mut at = 0;
    while at < name.len() {
        hash = (hash ^ name[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    (hash ^ (hash >> 16)) as usize % SLOTS
}

const fn index() -> [u16; SLOTS] {
    const { assert!(ROWS * 2 <= SLOTS) };
    let table = pack();
    let mut slots = [EMPTY; SLOTS];
    let mut row = 0;
    while row < ROWS {
        let (_, rest) = TEXT.split_at(table[row].name as usize);
        let (name, _) = rest.split_at(table[row].name_len as usize);
        let mut slot = hash(name);
        while slots[slot] != EMPTY {
            slot = (slot + 1) % SLOTS;
        }
        slots[slot] = row as u16;
        row += 1;
    }
    slots
}

const fn count_rows() -> usize {
    let mut rows = 0;
    let mut at = 0;
    while at < TEXT.len() {
        if TEXT[at] == b'\n' {
            rows += 1;
        }
        at += 1;
    }
    rows
}

const fn pack() -> [Packed; ROWS] {
    assert!(TEXT.len() < u16::MAX as usize);
    let mut table = [Packed { name: 0, name_len: 0, numbers: [NONE; COLUMNS], widths: 0 }; ROWS];
    let mut at = 0;
    let mut row = 0;
    while row < ROWS {
        table[row].name = at as u16;
        while TEXT[at] != b' ' {
            at += 1;
        }
        table[row].name_len = (at - table[row].name as usize) as u8;
        let mut column = 0;
        while column < COLUMNS {
            let (number, after) = number_at(at + 1);
            table[row].numbers[column] = number;
            at = after;
            column += 1;
        }
        (table[row].widths, at) = widths_at(at + 1);
        assert!(TEXT[at] == b'\n');
        at += 1;
        row += 1;
    }
    table
}

/// The number at a place of the text, and where it ends.
const fn number_at(mut at: usize) -> (u32, usize) {
    if TEXT[at] == b'-' {
        return (NONE, at + 1);
    }
    let mut number = 0;
    while TEXT[at] != b' ' {
        assert!(TEXT[at].is_ascii_digit());
        number = number * 10 + (TEXT[at] - b'0') as u32;
        at += 1;
    }
    (number, at)
}

/// The widths at a place of the text, and where they end.
const fn widths_at(mut at: usize) -> (u16, usize) {
    let mut widths = 0;
    let mut shift = 0;
    while TEXT[at] != b'\n' {
        widths |= match TEXT[at] {
            b'8' | b'-' => 0,
            b'4' => 1_u16 << shift,
            b'2' => 2_u16 << shift,
            _ => panic!("a width of 2, 4 or 8"),
        };
        shift += 2;
        at += 1;
    }
    (widths, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str) -> Row {
        Row::find(name).unwrap_or_else(|| panic!("{name}"))
    }

    #[test]
    fn every_name_is_found_at_its_place() {
        const { assert!(ROWS > 480) };
        for (place, packed) in TABLE.iter().enumerate() {
            let name = std::str::from_utf8(packed.name()).expect("ASCII");
            assert_eq!(row(name).place(), place, "{name}");
        }
        for name in ["no_such_call", "readx", "rea", "Read"] {
            assert_eq!(Row::find(name), None, "{name}");
        }
        assert_eq!(Row::find(""), None);
    }

    #[test]
    fn numbers_are_those_that_the_c_library_knows() {
        let known = [
            ("read", libc::SYS_read),
            ("execve", libc::SYS_execve),
            ("socket", libc::SYS_socket),
            ("clone3", libc::SYS_clone3),
            ("openat2", libc::SYS_openat2),
            ("fchmodat2", libc::SYS_fchmodat2),
            ("mount_setattr", libc::SYS_mount_setattr),
            ("mseal", libc::SYS_mseal),
        ];
        let abi = if cfg!(target_arch = "x86_64") { Abi::X86_64 } else { Abi::Aarch64 };
        for (name, number) in known {
            assert_eq!(row(name).number(abi).map(i64::from), Some(number), "{name}");
        }
    }

    #[test]
    fn numbers_differ_between_the_abis() {
        let socket = row("socket");
        let all = [Abi::X86_64, Abi::X86, Abi::X32, Abi::Arm, Abi::Aarch64].map(|abi| socket.number(abi));
        assert_eq!(all, [Some(41), Some(359), Some(41), Some(281), Some(198)]);
        assert_eq!(row("execve").number(Abi::X32), Some(520));
        assert_eq!(row("socketcall").number(Abi::X86_64), None);
        assert_eq!(row("set_tls").number(Abi::Arm), Some(0x0f_0005));
    }

    #[test]
    fn arguments_are_as_wide_as_the_kernel_reads_them() {
        use Width::{B16, B32, B64};
        for (name, abi, want) in [
            ("socket", Abi::X86_64, [B32, B32, B32]),
            ("ioctl", Abi::Aarch64, [B32, B32, B64]),
            ("openat", Abi::X86_64, [B32, B64, B32]),
            ("chmod", Abi::X86_64, [B64, B16, B64]),
            ("clone", Abi::X32, [B32, B64, B64]),
            ("setresuid", Abi::X86_64, [B32, B32, B32]),
            ("setresuid", Abi::X86, [B16, B16, B16]),
            ("fchown", Abi::X86, [B32, B16, B16]),
            ("chown", Abi::X86, [B32, B16, B16]),
            ("setresuid32", Abi::X86, [B32, B32, B32]),
            ("prctl", Abi::X86_64, [B32, B64, B64]),
            ("read", Abi::Arm, [B32, B32, B32]),
        ] {
            assert_eq!([0, 1, 2].map(|index| row(name).width(abi, index)), want, "{name} {abi:?}");
        }
    }
}
