//! A container's state put right: what a crash or a reboot made untrue.

use std::time::{Duration, Instant};

use sys::lock::Lock;

use crate::{Container, Error, Result, State};

/// How long who waits for a container's process may take to record its end.
const AFTER_AN_END: Duration = Duration::from_millis(50);
/// How long a container's monitor may take to record an end, and how long apart that is looked for.
const RECORDED_WITHIN: Duration = Duration::from_secs(2);
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

impl Container {
    /// Its state, put right where it cannot be true any more after a crash or a reboot ([`State::settled`]).
    ///
    /// Where nobody holds the container's lock, what was wrong is written, too. A caller who holds it asks
    /// [`Container::settled`].
    ///
    /// # Errors
    /// As [`Container::state`].
    pub fn settle(&self) -> Result<State> {
        let state = self.recorded()?;
        let Some(right) = state.settled() else { return Ok(state) };
        let is_past = state.boot_id.is_some() && state.boot_id != crate::state::boot_id();
        // Of this boot, who starts it or waits for it will say how it ended.
        let unless_held = if is_past { right.clone() } else { state.clone() };
        if state.status != right.status && !is_past {
            if self.try_lock()?.is_none() {
                return Ok(unless_held);
            }
            std::thread::sleep(AFTER_AN_END);
        }
        let Some(_lock) = self.try_lock()? else { return Ok(unless_held) };
        let state = self.state()?;
        let Some(right) = state.settled() else { return Ok(state) };
        match self.set_state(&right) {
            // Who may only read the store sees the truth all the same.
            Ok(()) | Err(Error::Call { .. }) => Ok(right),
            Err(e) => Err(e),
        }
    }

    /// Its state, a moment later where its end is about to be recorded: until then nobody knows the exit code.
    fn recorded(&self) -> Result<State> {
        let deadline = Instant::now() + RECORDED_WITHIN;
        loop {
            let state = self.state()?;
            if !state.is_being_recorded() || Instant::now() >= deadline {
                return Ok(state);
            }
            std::thread::sleep(BETWEEN_LOOKS);
        }
    }

    /// As [`Container::settle`] for a caller who holds the container's lock: nothing is waited for, nothing written.
    ///
    /// # Errors
    /// As [`Container::state`].
    pub fn settled(&self, _held: &Lock) -> Result<State> {
        let state = self.state()?;
        Ok(state.settled().unwrap_or(state))
    }
}
