//! How a container is asked to end: its stop signal, as its image has it, how long it may take, and signals of options by name.

use std::collections::HashMap;

use runtime::convert::STOP_SIGNAL_ANNOTATION;
pub(crate) use runtime::signal_number as number;

pub(crate) const SIGTERM: i32 = 15;
/// How long a container may take to end where nobody said (docker's).
pub(crate) const PATIENCE_SECONDS: u32 = 10;

/// The stop signal of a configuration; SIGTERM where it names none that is one.
pub(crate) fn stop_signal(annotations: Option<&HashMap<String, String>>) -> i32 {
    let named = annotations.and_then(|all| all.get(STOP_SIGNAL_ANNOTATION));
    named.and_then(|name| number(name)).unwrap_or(SIGTERM)
}

/// A signal's number, as an option has it.
pub(crate) fn signal(text: &str) -> Result<i32, String> {
    number(text).ok_or_else(|| format!("{text:?} is no signal"))
}
