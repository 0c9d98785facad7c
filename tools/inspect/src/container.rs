//! A container: its line, what was chosen for it, its state.

use cli::{During, Failure};
use descriptor::{ContainerLine, Line, Status};
use overlay::Mounted;
use serde_json::{Value, json};
use store::Container;

use crate::answer::{Answers, Shape};
use crate::output::{self, Report};
use crate::{docker, survey};

/// The line, with nothing in it that is not true now.
pub(crate) fn line(container: &Container) -> Result<ContainerLine, Failure> {
    let what = || format!("container {}", container.name());
    let mut line = container.line().during(what)?;
    let state = container.settle().during(what)?;
    line.mounted = matches!(overlay::mounted(container, &state).during(what)?, Mounted::Here(_));
    Ok(line)
}

/// Shows it.
pub(crate) fn show(
    container: &Container,
    stage: &cli::Stage,
    answers: &mut Answers,
    sizes: bool,
) -> Result<(), Failure> {
    match answers.shape() {
        Shape::Brief { to_a_person: true } => report(container, &line(container)?)?.write(),
        Shape::Brief { to_a_person: false } => stage.emit(&Line::Container(line(container)?)),
        Shape::Full => answers.give(everything(container, line(container)?)?),
        Shape::Docker => answers.give(docker::container(container, sizes)?),
    }
}

fn everything(container: &Container, line: ContainerLine) -> Result<Value, Failure> {
    let what = || format!("container {}", container.name());
    let mut value = Line::Container(line).to_json();
    value["create"] = json!(container.create().during(what)?);
    value["state"] = json!(container.settle().during(what)?);
    for name in ["config", "plan"] {
        if let Some(document) = container.document(&format!("{name}.json")).during(what)? {
            value[name] = document;
        }
    }
    Ok(output::document("container.v1", value))
}

fn report(container: &Container, line: &ContainerLine) -> Result<Report, Failure> {
    let what = || format!("container {}", container.name());
    let (doc, state) = (container.create().during(what)?, container.settle().during(what)?);
    let mut report = Report::default();
    report.row("container", &line.name);
    report.row("id", &line.id);
    report.row("status", status(line));
    if matches!(line.status, Status::Running | Status::Paused) {
        report.row("pid", state.pid.map(|pid| pid.to_string()).unwrap_or_default());
    }
    let moment = |text: &Option<String>| text.clone().unwrap_or_default();
    report.row("created", moment(&state.created_at));
    report.row("started", moment(&state.started_at));
    report.row("ended", moment(&state.finished_at));
    report.row("memory", if state.oom_killed { "a process was killed for want of it" } else { "" });
    report.row("not started", moment(&state.error));
    if let Some(image) = &line.image {
        report.row("image", survey::name_of(container.store(), image).unwrap_or_default());
        report.row("image", image);
    }
    let words = |words: &Option<Vec<String>>| words.as_ref().map(|all| all.join(" ")).unwrap_or_default();
    report.row("entrypoint", words(&doc.process.entrypoint));
    report.row("command", words(&doc.process.args));
    for entry in &doc.process.env {
        report.row("env", entry);
    }
    report.row("workdir", doc.process.cwd.unwrap_or_default());
    report.row("user", doc.process.user.unwrap_or_default());
    report.row("network", doc.network);
    for mount in &doc.mounts {
        let access = if mount.read_only { " (read-only)" } else { "" };
        let source = mount.source.as_deref().unwrap_or(&mount.kind);
        report.row("mount", format!("{source} on {}{access}", mount.target));
    }
    for (key, value) in &doc.labels {
        report.row("label", format!("{key}={value}"));
    }
    report.row("bundle", line.bundle.display());
    report.row("root", if line.mounted { line.rootfs.display().to_string() } else { "not mounted".into() });
    if doc.auto_remove {
        report.row("removed", "when its journey ends");
    }
    Ok(report)
}

/// The status with how the last process ended.
pub(crate) fn status(line: &ContainerLine) -> String {
    match (line.status, line.exit_code) {
        (Status::Stopped, Some(code)) => format!("stopped ({code})"),
        (status, _) => status.to_string(),
    }
}
