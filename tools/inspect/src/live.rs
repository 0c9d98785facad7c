//! A container that runs: its first process and its control group, by which the kernel tells of it.

use cgroup::Group;
use cli::{During, Failure};
use descriptor::{Exit, Status};
use runtime::Usage;
use store::Container;

/// A container that runs or is paused.
pub(crate) struct Live {
    /// Its first process.
    init: u32,
    /// Its control group, where it has one.
    group: Option<Group>,
}

impl Live {
    /// A container's; none where nothing of it runs.
    ///
    /// # Errors
    /// As [`Container::settle`].
    pub(crate) fn of(container: &Container) -> Result<Option<Self>, Failure> {
        let state = container.settle().during(|| format!("container {}", container.name()))?;
        let lives = matches!(state.now(), Status::Running | Status::Paused);
        let group = Group::recorded(state.group.as_ref());
        Ok(state.pid.filter(|_| lives).map(|init| Self { init, group }))
    }

    /// As [`Live::of`], where nothing else will do.
    ///
    /// # Errors
    /// Exit 9 where it does not run.
    pub(crate) fn must(container: &Container) -> Result<Self, Failure> {
        let stopped = || {
            Failure::new(Exit::Conflict, format!("container {}", container.name()), "it is not running")
                .with_hint(format!("oci-spawn start {}", container.name()))
        };
        Self::of(container)?.ok_or_else(stopped)
    }

    /// All its processes.
    ///
    /// # Errors
    /// Those of [`runtime::processes_of`]; exit 7 where it has neither a control group nor a pid namespace of its own.
    pub(crate) fn processes(&self) -> Result<Vec<u32>, Failure> {
        let found = runtime::processes_of(self.group.as_ref(), self.init);
        let found = found.during(|| "the container's processes".into())?;
        let mut all: Vec<u32> =
            found.iter().filter_map(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok()).collect();
        all.sort_unstable();
        Ok(all)
    }

    /// What it uses; none where that cannot be told, or not any more.
    pub(crate) fn usage(&self) -> Option<Usage> {
        Usage::of(self.group.as_ref(), self.init).ok()
    }
}
