//! `--check`: is all that stands in the store whole? `--repair`: what is not is removed, moved aside or named.

use cli::{During, Failure, Stage, human_bytes};
use descriptor::Exit;
use serde_json::json;
use store::{Finding, Repaired, Report, Store};

use crate::output;
use crate::table::{Table, fixed, flexible};
use crate::trees;

/// Prints each finding, a line in a pipe and a row on a terminal; exit 6 where something is wrong, or is left so.
pub(crate) fn check(store: &Store, stage: &mut Stage, repair: bool) -> Result<(), Failure> {
    // What is printed is no line of the pipeline.
    stage.keep_errors_home();
    let mut report = store.check().during(|| "check".into())?;
    let trees = trees::compare(store, &mut report)?;
    for note in &report.notes {
        stage.note(&format!("{}: {}", note.what, note.why));
    }
    let mut rows = Vec::new();
    for finding in &report.findings {
        let repaired =
            repair.then(|| store.repair(finding).unwrap_or_else(|e| Repaired::Stays(e.to_string())));
        rows.push((finding, repaired));
    }
    show(&rows)?;
    let is_left = |(_, repaired): &&(&Finding, Option<Repaired>)| {
        repaired.as_ref().is_none_or(|repaired| matches!(repaired, Repaired::Stays(_)))
    };
    let left = rows.iter().filter(is_left).count();
    judge(stage, &report, trees, rows.len(), left)
}

fn judge(stage: &Stage, report: &Report, trees: u64, all: usize, left: usize) -> Result<(), Failure> {
    let read = format!("{} blobs, {}, {trees} trees", report.blobs, human_bytes(report.bytes));
    match (all, left) {
        (0, _) => stage.note(&format!("{read}: nothing is wrong")),
        (_, 0) => stage.note(&format!("{read}: {all} repaired")),
        (_, 1) => return Err(Failure::new(Exit::Content, "check", format!("{read}: one thing is wrong"))),
        (..) => return Err(Failure::new(Exit::Content, "check", format!("{read}: {left} things are wrong"))),
    }
    Ok(())
}

fn show(rows: &[(&Finding, Option<Repaired>)]) -> Result<(), Failure> {
    if rows.is_empty() {
        return Ok(());
    }
    if !output::to_a_person() {
        for (finding, repaired) in rows {
            let mut members = json!({ "what": finding.what, "why": finding.why });
            if let Some(repaired) = repaired {
                members["repaired"] = (!matches!(repaired, Repaired::Stays(_))).into();
                members["repair"] = told(repaired).into();
            }
            output::json(&output::document("finding.v1", members))?;
        }
        return Ok(());
    }
    let mut table = Table::new(&[flexible("WHAT", 24), flexible("WHY", 24), fixed("REPAIR")]);
    for (finding, repaired) in rows {
        let repair = repaired.as_ref().map(told).unwrap_or_default();
        table.row([finding.what.clone(), finding.why.clone(), repair]);
    }
    table.write(false)
}

fn told(repaired: &Repaired) -> String {
    match repaired {
        Repaired::Done(what) => (*what).into(),
        Repaired::Aside(name) => format!("moved to damaged/{name}; its name is free"),
        Repaired::Stays(why) => format!("not repaired: {why}"),
    }
}
