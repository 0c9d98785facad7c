//! What of a running container the kernel knows: its processes and its control groups.

use cgroup::Group;
use cli::{During, Failure};
use descriptor::{Exit, Status};
use store::{Container, State};

/// A container that runs or is paused.
pub(crate) struct Live {
    /// Its first process.
    pub(crate) pid: u32,
    /// Its control groups, where it has any.
    pub(crate) group: Option<Group>,
}

impl Live {
    /// A container's; none where nothing of it runs.
    ///
    /// # Errors
    /// As [`Container::settle`].
    pub(crate) fn of(container: &Container) -> Result<Option<Self>, Failure> {
        let state = container.settle().during(|| format!("container {}", container.name()))?;
        let lives = matches!(state.now(), Status::Running | Status::Paused);
        Ok(state.pid.filter(|_| lives).map(|pid| Self { pid, group: group(&state) }))
    }

    /// As [`Live::of`], where nothing else will do.
    ///
    /// # Errors
    /// Exit 9 where it does not run.
    pub(crate) fn must(container: &Container) -> Result<Self, Failure> {
        let stopped =
            || Failure::new(Exit::Conflict, format!("container {}", container.name()), "it does not run");
        Self::of(container)?.ok_or_else(stopped)
    }

    /// All its processes: those of its groups, or of its pid namespace where it has none.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let group = self.group.as_ref().and_then(|group| group.processes(true).ok());
        let of_group = group.unwrap_or_default();
        let mut all: Vec<u32> =
            of_group.iter().filter_map(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok()).collect();
        if all.is_empty() {
            all = self.of_namespace();
        }
        all.sort_unstable();
        all
    }

    fn of_namespace(&self) -> Vec<u32> {
        let namespace = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let own = namespace(self.pid);
        let is_shared = own.is_none() || own == namespace(std::process::id());
        if is_shared {
            return vec![self.pid];
        }
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| namespace(*pid) == own).collect()
    }
}

/// The groups as the state records them; what cannot be read is none.
fn group(state: &State) -> Option<Group> {
    let group: Group = serde_json::from_value(state.group.clone()?).ok()?;
    (!group.is_none()).then_some(group)
}
