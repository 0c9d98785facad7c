//! Classic BPF, written from its end to its start, so that every jump goes to what is already there.

use sys::seccomp::Instruction;

use crate::error::{Error, Result};

/// The most instructions that the kernel takes (linux/bpf_common.h, `BPF_MAXINSNS`).
const LIMIT: usize = 4096;

/// Loads a 32-bit word of `seccomp_data` (`BPF_LD | BPF_W | BPF_ABS`).
const LOAD: u16 = 0x20;
/// Masks what was loaded (`BPF_ALU | BPF_AND | BPF_K`).
const AND: u16 = 0x54;
/// Skips instructions (`BPF_JMP | BPF_JA`).
const SKIP: u16 = 0x05;
/// Ends the program with a verdict (`BPF_RET | BPF_K`).
const RETURN: u16 = 0x06;

/// The farthest that a comparison is made to jump. The field holds 255; the copy of one target may move the other away.
const REACH: usize = 253;

/// How a comparison is made, unsigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Compare {
    /// `BPF_JMP | BPF_JEQ | BPF_K`
    Equal = 0x15,
    /// `BPF_JMP | BPF_JGT | BPF_K`
    Greater = 0x25,
    /// `BPF_JMP | BPF_JGE | BPF_K`
    GreaterOrEqual = 0x35,
}

/// The place of an instruction, counted from the program's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Label(usize);

/// A program in the making.
#[derive(Debug, Default)]
pub(crate) struct Code {
    reversed: Vec<Instruction>,
    /// The last place of each verdict.
    verdicts: Vec<(u32, Label)>,
}

impl Code {
    /// Where the program ends with this verdict.
    pub(crate) fn verdict(&mut self, verdict: u32) -> Label {
        let known = self.verdicts.iter().position(|(value, _)| *value == verdict);
        if let Some(place) = known {
            let label = self.verdicts[place].1;
            if self.distance(label) <= REACH {
                return label;
            }
        }
        let label = self.push(RETURN, verdict, 0, 0);
        match known {
            Some(place) => self.verdicts[place].1 = label,
            None => self.verdicts.push((verdict, label)),
        }
        label
    }

    /// Loads the word at `offset` and goes on at `next`.
    pub(crate) fn load(&mut self, offset: u32, next: Label) -> Label {
        self.adjoin(next);
        self.push(LOAD, offset, 0, 0)
    }

    /// Keeps these bits of what was loaded and goes on at `next`.
    pub(crate) fn and(&mut self, mask: u32, next: Label) -> Label {
        self.adjoin(next);
        self.push(AND, mask, 0, 0)
    }

    /// Compares what was loaded and goes on at `yes` or `no`.
    pub(crate) fn branch(&mut self, compare: Compare, value: u32, yes: Label, no: Label) -> Label {
        let yes = self.within_reach(yes);
        let no = self.within_reach(no);
        let (jt, jf) = (self.distance(yes), self.distance(no));
        self.push(compare as u16, value, byte(jt), byte(jf))
    }

    /// The program, in the order in which it runs.
    ///
    /// # Errors
    /// [`Error::TooLong`]
    pub(crate) fn finish(mut self) -> Result<Vec<Instruction>> {
        let len = self.reversed.len();
        if len > LIMIT {
            return Err(Error::TooLong { len, limit: LIMIT });
        }
        self.reversed.reverse();
        Ok(self.reversed)
    }

    fn push(&mut self, code: u16, k: u32, jt: u8, jf: u8) -> Label {
        self.reversed.push(Instruction { code, jt, jf, k });
        Label(self.reversed.len() - 1)
    }

    /// How many instructions lie between the next one to be written and `label`.
    fn distance(&self, label: Label) -> usize {
        self.reversed.len() - 1 - label.0
    }

    /// Makes sure that what is written next is followed by `label`.
    fn adjoin(&mut self, label: Label) {
        if self.distance(label) > 0 {
            self.stand_in(label);
        }
    }

    fn within_reach(&mut self, label: Label) -> Label {
        if self.distance(label) > REACH { self.stand_in(label) } else { label }
    }

    /// An instruction here that does what `label` would: the same verdict, or a jump to it, which has no limit.
    fn stand_in(&mut self, label: Label) -> Label {
        let there = self.reversed[label.0];
        if there.code == RETURN {
            return self.push(RETURN, there.k, 0, 0);
        }
        let skipped = u32::try_from(self.distance(label)).unwrap_or(u32::MAX);
        self.push(SKIP, skipped, 0, 0)
    }
}

fn byte(distance: usize) -> u8 {
    u8::try_from(distance).unwrap_or_else(|_| unreachable!("targets are brought within reach"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_beyond_a_byte_is_reached_by_a_jump() {
        let mut code = Code::default();
        let far = code.verdict(7);
        let far = code.load(0, far);
        let mut near = code.verdict(8);
        for value in 0..400 {
            near = code.branch(Compare::Equal, value, far, near);
        }
        let program = code.finish().expect("a program");
        for (place, step) in program.iter().enumerate() {
            let skip = if step.code == SKIP { step.k as usize } else { usize::from(step.jt.max(step.jf)) };
            assert!(place + skip + 1 < program.len() + usize::from(step.code == RETURN), "{place}: {step:?}");
        }
        assert!(program.iter().any(|step| step.code == SKIP));
    }

    #[test]
    fn a_program_that_is_too_long_is_refused() {
        let mut code = Code::default();
        let (yes, mut no) = (code.verdict(1), code.verdict(2));
        for value in 0..5000 {
            no = code.branch(Compare::Equal, value, yes, no);
        }
        assert!(matches!(code.finish(), Err(Error::TooLong { limit: 4096, .. })));
    }
}
