//! One comparison of an argument, as wide as the kernel reads that argument.

use oci_spec::runtime::LinuxSeccompOperator;

use crate::assemble::{Code, Compare, Label};
use crate::table::Width;

/// Where the arguments begin in `seccomp_data` (linux/seccomp.h).
const ARGUMENTS: u32 = 16;

/// A comparison as a profile words it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Condition {
    /// Which argument, from 0 to 5.
    pub(crate) index: usize,
    pub(crate) operator: LinuxSeccompOperator,
    /// What it is compared with; the mask of `SCMP_CMP_MASKED_EQ`.
    pub(crate) value: u64,
    /// What `SCMP_CMP_MASKED_EQ` compares with.
    pub(crate) second: u64,
}

/// A question about an argument. `not` is answered by changing the two ways out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    Always,
    /// These bits of the argument are that.
    Masked {
        mask: u64,
        value: u64,
    },
    Greater(u64),
    GreaterOrEqual(u64),
}

impl Condition {
    /// Writes the comparison, which goes on at `yes` where it holds and at `no` where it does not.
    pub(crate) fn write(&self, code: &mut Code, width: Width, yes: Label, no: Label) -> Label {
        let (question, is_negated) = self.question(width);
        let (yes, no) = if is_negated { (no, yes) } else { (yes, no) };
        // Little endian, as all machines here are: the lower half comes first.
        let low = ARGUMENTS + 8 * u32::try_from(self.index).unwrap_or(u32::MAX);
        match width {
            Width::B64 => write_64(code, low, question, yes, no),
            Width::B32 => write_half(code, (low, u32::MAX), question, yes, no),
            Width::B16 => write_half(code, (low, 0xffff), question, yes, no),
        }
    }

    /// The question whose answer, or its contrary with true, is that of the comparison.
    fn question(&self, width: Width) -> (Question, bool) {
        use LinuxSeccompOperator as Op;
        if self.operator == Op::ScmpCmpMaskedEq {
            return masked(self.value, self.second & self.value, width);
        }
        let Some(value) = narrow(self.value, width) else {
            // Greater than all that the kernel can read.
            let holds = matches!(self.operator, Op::ScmpCmpNe | Op::ScmpCmpLt | Op::ScmpCmpLe);
            return (Question::Always, !holds);
        };
        let equal = Question::Masked { mask: all(width), value };
        match self.operator {
            Op::ScmpCmpNe => (equal, true),
            Op::ScmpCmpEq | Op::ScmpCmpMaskedEq => (equal, false),
            Op::ScmpCmpGt => (Question::Greater(value), false),
            Op::ScmpCmpLe => (Question::Greater(value), true),
            Op::ScmpCmpGe => (Question::GreaterOrEqual(value), false),
            Op::ScmpCmpLt => (Question::GreaterOrEqual(value), true),
        }
    }
}

/// All the bits that the kernel reads.
fn all(width: Width) -> u64 {
    match width {
        Width::B16 => 0xffff,
        Width::B32 => 0xffff_ffff,
        Width::B64 => u64::MAX,
    }
}

/// A profile's value as an argument of this width can have it: as it is, or, of a negative number that was written with
/// 64 bits (for 16 bits also with 32), its lower bits. Unsigned order stays as it is for both.
fn narrow(value: u64, width: Width) -> Option<u64> {
    let all = all(width);
    if value <= all {
        return Some(value);
    }
    let sign = all / 2 + 1;
    let is_negative =
        value >= (!all | sign) || (width == Width::B16 && (0xffff_8000..=0xffff_ffff).contains(&value));
    is_negative.then_some(value & all)
}

fn masked(mask: u64, value: u64, width: Width) -> (Question, bool) {
    let all = all(width);
    let (outer_mask, outer) = (mask & !all, value & !all);
    let (mask, value) = (mask & all, value & all);
    if outer == 0 {
        let question = if mask == 0 { Question::Always } else { Question::Masked { mask, value } };
        return (question, false);
    }
    // Bits beyond what the kernel reads: those of a negative number, or none that an argument can have.
    let sign = all / 2 + 1;
    // One of 16 bits may be meant as the 32 that the caller's register has of it.
    let is_extended = outer == outer_mask || (width == Width::B16 && outer == outer_mask & 0xffff_0000);
    let is_negative = is_extended && (mask & sign == 0 || value & sign != 0);
    match is_negative {
        true => (Question::Masked { mask: mask | sign, value: value | sign }, false),
        false => (Question::Always, true),
    }
}

/// `word`: the offset of the lower half, and the bits of it that count.
fn write_half(code: &mut Code, word: (u32, u32), question: Question, yes: Label, no: Label) -> Label {
    let (compare, value, mask) = match question {
        Question::Always => return yes,
        Question::Masked { mask, value } => (Compare::Equal, low(value), low(mask) & word.1),
        Question::Greater(value) => (Compare::Greater, low(value), word.1),
        Question::GreaterOrEqual(value) => (Compare::GreaterOrEqual, low(value), word.1),
    };
    let tested = code.branch(compare, value, yes, no);
    let cut = if mask == u32::MAX { tested } else { code.and(mask, tested) };
    code.load(word.0, cut)
}

fn write_64(code: &mut Code, low_word: u32, question: Question, yes: Label, no: Label) -> Label {
    let high_word = low_word + 4;
    let (compare, value) = match question {
        Question::Always => return yes,
        Question::Masked { mask, value } => {
            let mut next = yes;
            for (word, mask, value) in
                [(low_word, low(mask), low(value)), (high_word, high(mask), high(value))]
            {
                if mask != 0 {
                    let half = Question::Masked { mask: mask.into(), value: value.into() };
                    next = write_half(code, (word, u32::MAX), half, next, no);
                }
            }
            return next;
        }
        Question::Greater(value) => (Compare::Greater, value),
        Question::GreaterOrEqual(value) => (Compare::GreaterOrEqual, value),
    };
    let tested = code.branch(compare, low(value), yes, no);
    let lower = code.load(low_word, tested);
    let equal = code.branch(Compare::Equal, high(value), lower, no);
    let upper = code.branch(Compare::Greater, high(value), yes, equal);
    code.load(high_word, upper)
}

fn low(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}

fn high(value: u64) -> u32 {
    (value >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_narrowed_to_what_the_kernel_can_read() {
        for (value, width, want) in [
            (0x26, Width::B32, Some(0x26)),
            (0xffff_ffff, Width::B32, Some(0xffff_ffff)),
            (u64::MAX, Width::B32, Some(0xffff_ffff)),
            (0xffff_ffff_8000_0000, Width::B32, Some(0x8000_0000)),
            (0xffff_ffff_7fff_ffff, Width::B32, None),
            (0x1_0000_0026, Width::B32, None),
            (0x1_0000_0026, Width::B64, Some(0x1_0000_0026)),
            (u64::MAX, Width::B64, Some(u64::MAX)),
            (0x1_0000, Width::B16, None),
            (0xffff_ffff, Width::B16, Some(0xffff)),
            (u64::MAX, Width::B16, Some(0xffff)),
        ] {
            assert_eq!(narrow(value, width), want, "{value:#x} {width:?}");
        }
    }

    #[test]
    fn a_mask_beyond_what_the_kernel_reads_asks_for_a_negative_number_or_for_nothing() {
        let is = |mask, value| (Question::Masked { mask, value }, false);
        let (always, never) = ((Question::Always, false), (Question::Always, true));
        for (mask, value, want) in [
            (0xff, 0x26, is(0xff, 0x26)),
            (0xff_0000_00ff, 0x26, is(0xff, 0x26)),
            (u64::MAX, 0x1_0000_0026, never),
            (u64::MAX, u64::MAX, is(0xffff_ffff, 0xffff_ffff)),
            (u64::MAX, 0xffff_ffff_0000_0026, never),
            (0xffff_ffff_0000_00ff, 0xffff_ffff_0000_0026, is(0x8000_00ff, 0x8000_0026)),
            (0xffff_ffff_0000_0000, 0, always),
            (0, 0, always),
        ] {
            assert_eq!(masked(mask, value, Width::B32), want, "{mask:#x} {value:#x}");
        }
        let all_but_a_sign = 0xffff_ffff_7fff_ffff;
        assert_eq!(masked(all_but_a_sign, 0x7fff_ffff, Width::B16), is(0xffff, 0xffff));
        assert_eq!(masked(all_but_a_sign, 0x7ffe_ffff, Width::B16), never);
    }
}
