//! `pause`, `resume`, `update`, `ps`, `events`: what is done to a container through its control group.

use oci_spec::runtime::{LinuxIntelRdt, LinuxResources};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::lifecycle::directory::Directory;
use crate::lifecycle::record::{Record, Status};
use crate::resctrl;

/// Stops all processes of a container where they are.
///
/// # Errors
/// [`Error::State`] unless it is running or created; [`Error::Cgroup`].
pub fn pause(directory: &Directory) -> Result<()> {
    let record = in_state(directory, &[Status::Running, Status::Created], "pause")?;
    Ok(record.group.freeze()?)
}

/// Lets the processes of a paused container go on.
///
/// # Errors
/// [`Error::State`] unless it is paused; [`Error::Cgroup`].
pub fn resume(directory: &Directory) -> Result<()> {
    let record = in_state(directory, &[Status::Paused], "resume")?;
    Ok(record.group.thaw()?)
}

/// Changes the limits that `resources` names and the lines of its class, and records them beside those that stay.
///
/// # Errors
/// [`Error::State`] for a container that has no process; [`Error::Invalid`] for lines without a class; [`Error::Cgroup`],
/// [`Error::Resctrl`].
pub fn update(
    directory: &Directory,
    resources: &LinuxResources,
    class: Option<&LinuxIntelRdt>,
) -> Result<()> {
    let record = alive(directory, "update")?;
    let resources = &meant(directory.config()?.version(), resources.clone());
    // Refused before anything is changed.
    let class = class.map(|lines| classed(&record).map(|group| (group, lines))).transpose()?;
    record.group.update(resources)?;
    if let Some((group, lines)) = class {
        group.update(lines)?;
        let changes = serde_json::to_value(lines)
            .map_err(|e| Error::Invalid { member: CLASS.into(), why: e.to_string() })?;
        directory.change_config(|config| merge(&mut config["linux"]["intelRdt"], changes))?;
    }
    let wrong =
        |e: serde_json::Error| Error::Invalid { member: "linux.resources".into(), why: e.to_string() };
    let changes = serde_json::to_value(resources).map_err(wrong)?;
    directory.change_config(|config| merge(&mut config["linux"]["resources"], changes))
}

const CLASS: &str = "linux.intelRdt";

/// "If `intelRdt` is not set, the runtime MUST NOT manipulate any `resctrl` pseudo-filesystems."
fn classed(record: &Record) -> Result<&resctrl::Group> {
    record.resctrl.as_ref().ok_or_else(|| Error::Invalid {
        member: CLASS.into(),
        why: "the container was made without it, so it has no class that could be changed".into(),
    })
}

/// The first minor version in which a `pids.limit` of 0 is a limit. The types that engines had before wrote 0 for "not set"
/// (docker and podman: `--pids-limit 0`), and runc took it so.
const ZERO_IS_A_LIMIT: u32 = 3;

/// Resources as a configuration of this version means them.
pub(crate) fn meant(version: &str, mut resources: LinuxResources) -> LinuxResources {
    let minor = version.split('.').nth(1).and_then(|minor| minor.parse().ok());
    let unset = resources.pids().is_some_and(|pids| pids.limit() == 0);
    if unset && minor.is_none_or(|minor: u32| minor < ZERO_IS_A_LIMIT) {
        resources.set_pids(None);
    }
    resources
}

/// What one entry of a list is for: an entry for the same takes its place.
const KEYS: [&str; 3] = ["major", "minor", "pageSize"];

/// Puts what is new in the place of what was there, member by member: limits in those of a configuration.
pub fn merge(old: &mut Value, new: Value) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (name, value) in new {
                merge(old.entry(name).or_insert(Value::Null), value);
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            for entry in new {
                let same = |one: &&mut Value| KEYS.iter().all(|key| one.get(key) == entry.get(key));
                match old.iter_mut().find(same) {
                    Some(place) => merge(place, entry),
                    None => old.push(entry),
                }
            }
        }
        (old, new) => *old = new,
    }
}

/// The processes of a container, in the numbers of this process's pid namespace, the groups below its own included.
///
/// # Errors
/// [`Error::NoContainer`]; [`Error::Cgroup`] where a rootless container has no group.
pub fn processes(directory: &Directory) -> Result<Vec<u32>> {
    let pids = recorded(directory)?.group.processes(true)?;
    Ok(pids.into_iter().map(|pid| pid.as_raw_nonzero().get().unsigned_abs()).collect())
}

/// What a container has used, as `events --stats` shows it.
///
/// # Errors
/// [`Error::State`] for a container that has no process; [`Error::Cgroup`].
pub fn stats(directory: &Directory) -> Result<cgroup::Stats> {
    Ok(alive(directory, "watch")?.group.stats()?)
}

/// A watch for processes that the kernel ends for want of memory, as `events` reports them.
///
/// # Errors
/// [`Error::State`] for a container that has no process; [`Error::Cgroup`].
pub fn watch(directory: &Directory) -> Result<cgroup::Watch> {
    Ok(alive(directory, "watch")?.group.watch()?)
}

fn alive(directory: &Directory, wanted: &'static str) -> Result<Record> {
    in_state(directory, &[Status::Created, Status::Running, Status::Paused], wanted)
}

fn in_state(directory: &Directory, states: &[Status], wanted: &'static str) -> Result<Record> {
    let record = recorded(directory)?;
    let status = directory.status(&record)?;
    match states.contains(&status) {
        true => Ok(record),
        false => Err(Error::State { id: record.id, status: status.word(), wanted }),
    }
}

fn recorded(directory: &Directory) -> Result<Record> {
    directory.record()?.ok_or_else(|| Error::NoContainer { id: directory.id().to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn no_tasks_at_all_is_no_limit_to_who_could_not_leave_it_out() {
        let with = |limit: i64| {
            crate::typed::<LinuxResources>(&json!({"pids": {"limit": limit}})).expect("resources")
        };
        for (version, limit, kept) in [
            ("1.0.2-dev", 0, false),
            ("1.2.1", 0, false),
            ("1.3.0", 0, true),
            ("1.0.0", 1, true),
            ("1.0.0", -1, true),
        ] {
            assert_eq!(meant(version, with(limit)).pids().is_some(), kept, "{version} {limit}");
        }
    }

    #[test]
    fn an_update_keeps_what_it_does_not_name() {
        let mut had = json!({
            "memory": {"limit": 1, "swap": 2},
            "blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 10}, {"major": 8, "minor": 1, "weight": 20}]},
            "unified": {"memory.high": "1"},
        });
        merge(
            &mut had,
            json!({
                "memory": {"limit": 3},
                "pids": {"limit": 4},
                "blockIO": {"weightDevice": [{"major": 8, "minor": 1, "weight": 30}, {"major": 8, "minor": 2, "weight": 40}]},
                "unified": {"memory.low": "2"},
            }),
        );
        assert_eq!(
            had,
            json!({
                "memory": {"limit": 3, "swap": 2},
                "blockIO": {"weightDevice": [
                    {"major": 8, "minor": 0, "weight": 10}, {"major": 8, "minor": 1, "weight": 30},
                    {"major": 8, "minor": 2, "weight": 40},
                ]},
                "unified": {"memory.high": "1", "memory.low": "2"},
                "pids": {"limit": 4},
            })
        );
        let mut nothing = Value::Null;
        merge(&mut nothing, json!({"pids": {"limit": 4}}));
        assert_eq!(nothing, json!({"pids": {"limit": 4}}));
    }
}
