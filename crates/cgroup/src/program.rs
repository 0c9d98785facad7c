//! The device rules as a program for the kernel (version 2): it gets the device and the access, and answers 1 or 0.

use sys::bpf::Instruction;

use crate::filter::{ALL, Rule};

// Operations (the kernel's bpf/standardization/instruction-set.rst): class, source, operation.
const LOAD_WORD: u8 = 0x61;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const SET: u8 = 0xb4;
const COPY: u8 = 0xbc;
const JUMP_IF: u8 = 0x16;
const JUMP_UNLESS: u8 = 0x56;
const EXIT: u8 = 0x95;

// Registers: the answer, the context (later the access that a rule denies), then what is asked.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const SCRATCH: u8 = 1;
const KIND: u8 = 2;
/// The accesses that no rule has decided yet.
const OPEN: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// `struct bpf_cgroup_dev_ctx`: the access in the upper half and the kind in the lower half of the first word, then the numbers.
const START: [Instruction; 6] = [
    op(LOAD_WORD, KIND, CONTEXT, 0, 0),
    op(AND, KIND, 0, 0, 0xffff),
    op(LOAD_WORD, OPEN, CONTEXT, 0, 0),
    op(SHIFT_RIGHT, OPEN, 0, 0, 16),
    op(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
    op(LOAD_WORD, MINOR, CONTEXT, 8, 0),
];

const fn op(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: to | from << 4, offset, immediate }
}

/// Compiles the rules: the last comes first, so that the first that decides an access is the one that holds.
pub(crate) fn compile(rules: &[Rule]) -> Vec<Instruction> {
    let mut program = START.to_vec();
    for rule in rules.iter().rev() {
        let Some(pattern) = rule.pattern else {
            // Every device, every access: what came before it means nothing.
            program.extend(answer(rule.allow));
            return program;
        };
        let mut tests = vec![(KIND, pattern.kind as i32)];
        tests.extend(pattern.major.map(|major| (MAJOR, major as i32)));
        tests.extend(pattern.minor.map(|minor| (MINOR, minor as i32)));
        let verdict = verdict(rule);
        let length = tests.len() + verdict.len();
        for (index, (register, value)) in tests.into_iter().enumerate() {
            let over = (length - index - 1) as i16;
            program.push(op(JUMP_UNLESS, register, 0, over, value));
        }
        program.extend(verdict);
    }
    program.extend(answer(false));
    program
}

fn answer(allow: bool) -> [Instruction; 2] {
    [op(SET, ANSWER, 0, 0, i32::from(allow)), op(EXIT, 0, 0, 0, 0)]
}

/// What a matching rule does: any access that it denies ends with no; the last one that it allows ends with yes.
fn verdict(rule: &Rule) -> Vec<Instruction> {
    let access = i32::from(rule.access);
    let mut list = match (rule.allow, rule.access) {
        (true, ALL) => Vec::new(),
        (true, _) => vec![op(AND, OPEN, 0, 0, !access & i32::from(ALL)), op(JUMP_UNLESS, OPEN, 0, 2, 0)],
        (false, _) => {
            vec![op(COPY, SCRATCH, OPEN, 0, 0), op(AND, SCRATCH, 0, 0, access), op(JUMP_IF, SCRATCH, 0, 2, 0)]
        }
    };
    list.extend(answer(rule.allow));
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::tests::{allowed, any_device, any_rule};
    use crate::filter::{DEFAULTS, Kind};
    use proptest::prelude::*;

    /// The kernel's machine, as far as these programs use it; panics on anything else, as the kernel's verifier refuses it.
    fn run(program: &[Instruction], context: [u32; 3]) -> u32 {
        let mut registers = [None; 11];
        registers[CONTEXT as usize] = Some(0);
        let mut at = 0;
        loop {
            let Instruction { code, registers: both, offset, immediate } = program[at];
            let (to, from) = ((both & 15) as usize, (both >> 4) as usize);
            let value = |register: usize| registers[register].expect("a register that was set");
            let constant = immediate as u32;
            at += 1;
            match code {
                LOAD_WORD => {
                    assert_eq!(value(from), 0, "the context's address");
                    registers[to] = Some(context[offset as usize / 4]);
                }
                AND => registers[to] = Some(value(to) & constant),
                SHIFT_RIGHT => registers[to] = Some(value(to) >> constant),
                SET => registers[to] = Some(constant),
                COPY => registers[to] = Some(value(from)),
                JUMP_IF if value(to) == constant => at += offset as usize,
                JUMP_UNLESS if value(to) != constant => at += offset as usize,
                JUMP_IF | JUMP_UNLESS => {}
                EXIT => return value(ANSWER as usize),
                other => panic!("operation {other:#x}"),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn the_program_means_what_the_rules_mean(
            rules in prop::collection::vec(any_rule(true), 0..12),
            (kind, major, minor) in any_device(),
            access in 1..=ALL,
        ) {
            let context = [u32::from(access) << 16 | kind as u32, major, minor];
            let answer = run(&compile(&rules), context);
            prop_assert_eq!(answer, u32::from(allowed(&rules, kind, major, minor, access)));
        }
    }

    #[test]
    fn the_default_devices_fit_a_small_program() {
        let program = compile(&DEFAULTS);
        assert!(program.len() < 70, "{}", program.len());
        let access =
            |access: u32, kind: Kind, major, minor| run(&program, [access << 16 | kind as u32, major, minor]);
        assert_eq!(access(6, Kind::Char, 1, 3), 1, "null");
        assert_eq!(access(2, Kind::Char, 1, 1), 0, "mem");
        assert_eq!(access(1, Kind::Block, 8, 0), 1, "any node may be made");
        assert_eq!(access(2, Kind::Block, 8, 0), 0, "but not read");
    }
}
