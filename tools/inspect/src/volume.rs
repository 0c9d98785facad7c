//! A volume: where it is, and who has it.

use std::collections::BTreeMap;

use cli::{During, Failure};
use serde_json::{Value, json};
use store::Volume;

use crate::answer::{Answers, Shape};
use crate::output::{self, Report};

/// The label by which docker tells a volume whose name nobody chose.
const NAMELESS: &str = "com.docker.volume.anonymous";

/// Shows it.
pub(crate) fn show(volume: &Volume, answers: &mut Answers) -> Result<(), Failure> {
    match answers.shape() {
        Shape::Brief { to_a_person: true } => report(volume)?.write(),
        // It has no line.
        Shape::Brief { to_a_person: false } => output::json(&document(volume)?),
        Shape::Full => answers.give(document(volume)?),
        Shape::Docker => answers.give(dockers(volume)),
    }
}

fn document(volume: &Volume) -> Result<Value, Failure> {
    let members = json!({
        "name": volume.name(), "store": volume.store().path(), "path": volume.path(),
        "createdAt": volume.doc().created_at, "labels": volume.doc().labels, "nameless": volume.is_anonymous(),
        "usedBy": users(volume)?,
    });
    Ok(output::document("volume.v1", members))
}

fn users(volume: &Volume) -> Result<Vec<String>, Failure> {
    volume.users().during(|| format!("volume {:?}", volume.name()))
}

/// The document of `docker volume inspect`.
fn dockers(volume: &Volume) -> Value {
    let mut labels: BTreeMap<&str, &str> =
        volume.doc().labels.iter().map(|(key, value)| (&**key, &**value)).collect();
    if volume.is_anonymous() {
        labels.insert(NAMELESS, "");
    }
    json!({
        "CreatedAt": volume.doc().created_at, "Driver": "local",
        "Labels": if labels.is_empty() { Value::Null } else { json!(labels) },
        "Mountpoint": volume.path(), "Name": volume.name(), "Options": null, "Scope": "local",
    })
}

fn report(volume: &Volume) -> Result<Report, Failure> {
    let mut report = Report::default();
    report.row("volume", volume.name());
    report.row("files", volume.path().display());
    report.row("created", &volume.doc().created_at);
    for (key, value) in &volume.doc().labels {
        report.row("label", format!("{key}={value}"));
    }
    for user in users(volume)? {
        report.row("used by", user);
    }
    Ok(report)
}
