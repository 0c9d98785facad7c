//! `list`: the containers of a state root.

use runtime::Error;
use runtime::lifecycle::{self, Directory, Status};
use serde_json::{Value, json};

use crate::verbs::log;
use crate::verbs::print;
use crate::verbs::ps::Format;
use crate::verbs::{Global, Result};

/// The columns.
const TITLES: [&str; 6] = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"];
/// No column is narrower, and so much stays free behind the widest word (runc's).
const NARROWEST: usize = 12;
const GAP: usize = 3;

/// Its arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How they are shown
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value = "table")]
    format: Format,

    /// Show the ids alone
    #[arg(short, long)]
    quiet: bool,
}

/// Prints them.
pub(crate) fn list(global: &Global, args: &Args) -> Result<u8> {
    let mut found = Vec::new();
    if let Some(runtimes) = global.present()? {
        for id in runtimes.ids()? {
            match runtimes.look(&id).and_then(|directory| one(&directory)) {
                // One that goes away meanwhile, or has not come yet, is none.
                Err(Error::NoContainer { .. }) => {}
                Err(error) => log::warnings(global, &[format!("container {id}: {error}")]),
                Ok(container) => found.push(container),
            }
        }
    }
    if args.quiet {
        found.iter().try_for_each(|one| print::line(text(&one["id"])))?;
    } else if args.format == Format::Json {
        // Of nothing runc prints this, and who reads runc's lists is prepared.
        print::line(if found.is_empty() { Value::Null } else { Value::Array(found) })?;
    } else {
        rows(&found).iter().try_for_each(print::line)?;
    }
    Ok(0)
}

/// What is told of a container (runc's members).
fn one(directory: &Directory) -> Result<Value> {
    let gone = || Error::NoContainer { id: directory.id().to_string() };
    let record = directory.record()?.ok_or_else(gone)?;
    let status = directory.status(&record)?;
    let pid = match status {
        Status::Created | Status::Running | Status::Paused => record.init.as_ref().map_or(0, |init| init.pid),
        Status::Creating | Status::Stopped => 0,
    };
    let mut container = json!({
        "ociVersion": lifecycle::SPECIFICATION,
        "id": record.id,
        "pid": pid,
        "status": status.word(),
        "bundle": record.bundle,
        "rootfs": record.rootfs,
        "created": record.created,
    });
    if !record.annotations.is_empty() {
        container["annotations"] = json!(record.annotations);
    }
    container["owner"] = json!(owner(record.owner));
    Ok(container)
}

/// The host's name of a user, or its number.
fn owner(uid: u32) -> String {
    let named = sys::Root::open_ambient("/").ok().and_then(|root| {
        let identity = runtime::users::resolve(&root, &uid.to_string()).ok()?;
        identity.name
    });
    named.unwrap_or_else(|| format!("#{uid}"))
}

/// A table with its title.
fn rows(found: &[Value]) -> Vec<String> {
    let mut table = vec![TITLES.map(str::to_string)];
    for one in found {
        table.push(["id", "pid", "status", "bundle", "created", "owner"].map(|name| text(&one[name])));
    }
    let width = |column: usize| {
        let widest = table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        NARROWEST.max(widest + GAP)
    };
    let widths: [usize; 6] = std::array::from_fn(width);
    let line = |row: &[String; 6]| {
        let padded = row.iter().zip(widths).map(|(word, width)| format!("{word:width$}"));
        padded.collect::<String>().trim_end().to_string()
    };
    table.iter().map(line).collect()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_runcs() {
        let one = json!({"id": "r1", "pid": 27125, "status": "running", "bundle": "/tmp/exec-b/b",
            "created": "2026-11-23T10:10:05.513332208Z", "owner": "root"});
        assert_eq!(
            rows(&[one]),
            [
                "ID          PID         STATUS      BUNDLE          CREATED                          OWNER",
                "r1          27125       running     /tmp/exec-b/b   2026-11-23T10:10:05.513332208Z   root",
            ]
        );
        assert_eq!(rows(&[]), ["ID          PID         STATUS      BUNDLE      CREATED     OWNER"]);
    }
}
