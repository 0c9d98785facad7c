//! The search for a call's number: a binary tree over runs of numbers with the same fate.

use crate::abi::Abi;
use crate::assemble::{Code, Compare, Label};
use crate::multiplex;
use crate::rules::{Call, Rules, Verdict};
use crate::table::Row;

/// What becomes of a run of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Verdict(Verdict),
    /// The arguments decide.
    Block(Label),
}

/// Writes the search for one ABI; the number is loaded when it starts. Second comes what numbers beyond all get.
pub(crate) fn write(code: &mut Code, rules: &Rules, abi: Abi) -> (Label, Verdict) {
    let multiplexers = if abi == Abi::X86 { multiplex::calls(rules) } else { Vec::new() };
    let mut calls: Vec<(u32, Row)> = Vec::with_capacity(Row::COUNT);
    let muxed = multiplexers.iter().filter(|(_, call)| call.is_named).map(|(row, _)| *row);
    let plain =
        rules.named().map(|(row, _)| row).filter(|row| !multiplexers.iter().any(|(other, _)| other == row));
    calls.extend(plain.chain(muxed).filter_map(|row| Some((row.number(abi)?, row))));
    calls.sort_unstable();
    let newer = if calls.is_empty() { rules.default } else { rules.newer };
    let mut runs = Runs::default();
    let mut next = 0;
    for (number, row) in calls {
        // Two names of one number: the first stays.
        if number < next {
            continue;
        }
        let call = multiplexers
            .iter()
            .find(|(other, _)| *other == row)
            .map_or_else(|| rules.call(row), |(_, call)| call);
        if number > next {
            runs.start(next, Fate::Verdict(rules.default));
        }
        runs.start(number, fate(code, rules, abi, row, call));
        next = number + 1;
    }
    runs.start(next, Fate::Verdict(newer));
    (tree(code, &runs.0, abi.base()), newer)
}

fn fate(code: &mut Code, rules: &Rules, abi: Abi, row: Row, call: &Call) -> Fate {
    let rest = call.fixed.unwrap_or(rules.default);
    if call.guards.is_empty() {
        return Fate::Verdict(rest);
    }
    let mut next = code.verdict(rest);
    for guard in call.guards.iter().rev() {
        let mut holds = code.verdict(guard.verdict);
        for condition in guard.conditions.iter().rev() {
            holds = condition.write(code, row.width(abi, condition.index), holds, next);
        }
        next = holds;
    }
    Fate::Block(next)
}

/// Runs of numbers by their first.
#[derive(Debug, Default)]
struct Runs(Vec<(u32, Fate)>);

impl Runs {
    fn start(&mut self, number: u32, fate: Fate) {
        if self.0.last().is_none_or(|(_, last)| *last != fate) {
            self.0.push((number, fate));
        }
    }
}

fn tree(code: &mut Code, runs: &[(u32, Fate)], base: u32) -> Label {
    match runs {
        [] => unreachable!("there is a run for every number"),
        [(_, Fate::Verdict(verdict))] => code.verdict(*verdict),
        [(_, Fate::Block(label))] => *label,
        _ => {
            let (lower, upper) = runs.split_at(runs.len() / 2);
            let no = tree(code, lower, base);
            let yes = tree(code, upper, base);
            code.branch(Compare::GreaterOrEqual, base + upper[0].0, yes, no)
        }
    }
}
