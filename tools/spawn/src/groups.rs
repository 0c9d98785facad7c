//! The control group of a container of the store: recorded before it is made, and for as long as it is there.

use cgroup::Group;
use cli::{During, Failure};
use oci_spec::runtime::Spec;
use runtime::Tie;
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
    serde_json::from_value(state.group.clone()?).ok()
}

/// Removes the group, with what is left in it; one that cannot be removed stays noted, for the next start or the container's
/// removal.
pub(crate) fn clear(state: &mut State) {
    if noted(state).is_none_or(|group| group.end().is_ok()) {
        state.group = None;
    }
}
