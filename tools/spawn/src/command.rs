//! The container's stop signal, as its image names it.

use std::collections::HashMap;

use runtime::convert::STOP_SIGNAL_ANNOTATION;
pub(crate) use runtime::signal_number as number;

pub(crate) const SIGTERM: i32 = 15;

/// The stop signal of a configuration; SIGTERM where it names none that is one.
pub(crate) fn stop_signal(annotations: Option<&HashMap<String, String>>) -> i32 {
    let named = annotations.and_then(|all| all.get(STOP_SIGNAL_ANNOTATION));
    named.and_then(|name| number(name)).unwrap_or(SIGTERM)
}
