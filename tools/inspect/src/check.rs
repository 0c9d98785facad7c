//! `--check`: is all that stands in the store whole?

use cli::{During, Failure, Stage, human_bytes};
use descriptor::Exit;
use store::Store;

/// Reports each finding on stderr; exit 6 where something is wrong.
pub(crate) fn check(store: &Store, stage: &Stage) -> Result<(), Failure> {
    let report = store.check().during(|| "check".into())?;
    for note in &report.notes {
        stage.note(&format!("{}: {}", note.what, note.why));
    }
    for finding in &report.findings {
        stage.warn(&format!("{}: {}", finding.what, finding.why));
    }
    let read = format!("{} blobs, {}", report.blobs, human_bytes(report.bytes));
    match report.findings.len() {
        0 => {
            stage.note(&format!("{read}: nothing is wrong"));
            Ok(())
        }
        1 => Err(Failure::new(Exit::Content, "check", format!("{read}: one thing is wrong"))),
        count => Err(Failure::new(Exit::Content, "check", format!("{read}: {count} things are wrong"))),
    }
}
