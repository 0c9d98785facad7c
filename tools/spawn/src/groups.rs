//! The control group of a container of the store: recorded before it is made, and for as long as it is there.

use cgroup::Group;
use cli::{During, Failure};
use descriptor::Exit;
use oci_spec::runtime::Spec;
use runtime::Tie;
use rustix::process::Pid;
use store::{Container, State};

/// Plans the group of a run and notes it; what a run before has left is ended and removed first. The caller writes the state.
pub(crate) fn plan(
    container: &Container,
    spec: &Spec,
    tie: Tie,
    state: &mut State,
) -> Result<Option<Group>, Failure> {
    let what = || format!("the control group of container {}", container.name());
    if let Some(left) = noted(state) {
        left.end().during(what)?;
    }
    let name = format!("{}-{}", container.id(), container.instance());
    let group = runtime::plan_group(spec, &name, tie).during(what)?;
    note(state, group.as_ref());
    Ok(group)
}

/// Notes it, or that there is none.
pub(crate) fn note(state: &mut State, group: Option<&Group>) {
    state.group = group.and_then(|group| serde_json::to_value(group).ok());
}

/// The group that is noted.
pub(crate) fn noted(state: &State) -> Option<Group> {
    Group::recorded(state.group.as_ref())
}

/// Removes the group, with what is left in it; one that cannot be removed stays noted, for the next start or the container's
/// removal.
pub(crate) fn clear(state: &mut State) {
    if noted(state).is_none_or(|group| group.end().is_ok()) {
        state.group = None;
    }
}

/// The group of a container that runs; made now around one that runs without. The caller holds the lock, and writes nothing.
pub(crate) fn of_running(container: &Container, state: &mut State) -> Result<Group, Failure> {
    if let Some(group) = noted(state) {
        return Ok(group);
    }
    let what = || format!("a control group for container {}", container.name());
    let (spec, pid) =
        (crate::launch::configuration(&container.root().during(what)?)?, state.pid.unwrap_or(0));
    let name = format!("{}-{}", container.id(), container.instance());
    let planned = runtime::plan_group(&spec, &name, Tie::Outlives).during(what)?;
    let Some(group) = planned else {
        return Err(Failure::new(Exit::Privilege, what(), "this host has no control groups"));
    };
    // Its mounts keep it from devices.
    let mut group = group.without_devices();
    note(state, Some(&group));
    container.set_state(state).during(what)?;
    if let Err(error) = runtime::gather(&mut group, &spec, pid) {
        state.group = None;
        container.set_state(state).during(what)?;
        return Err(error).during(what);
    }
    note(state, Some(&group));
    container.set_state(state).during(what)?;
    Ok(group)
}

/// The processes of a container that runs.
pub(crate) fn processes(state: &State) -> Result<Vec<Pid>, Failure> {
    let what = || "the container's processes".to_string();
    runtime::processes_of(noted(state).as_ref(), state.pid.unwrap_or(0)).during(what)
}
