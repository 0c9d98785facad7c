//! JSON values as types of the configuration, by way of their text.
//!
//! `serde_json::from_value` is a second reader of every type it is used for: a fifth of oci-spawn's code was such readers, and the
//! memory of a process is mostly its code.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// The value as a type.
///
/// # Errors
/// What the type refuses.
pub fn typed<T: DeserializeOwned>(value: &Value) -> serde_json::Result<T> {
    serde_json::from_slice(&serde_json::to_vec(value)?)
}
