//! Docker's documents: the shape that `docker inspect` prints, of the engine's API 1.43 to 1.47 (releases 24 to 27).
//!
//! Every member that docker always prints is there. What has no counterpart here has docker's empty value, so that a
//! template or a filter made for docker finds its member.

mod container;
mod host_config;
mod image;

pub(crate) use container::{container, exit_code, image_name, status};
pub(crate) use image::{config, image, size_of};

use serde_json::{Value, json};

/// An array, or null where nothing is in it: Go's empty slices.
fn list_or_null<T: serde::Serialize>(all: &[T]) -> Value {
    if all.is_empty() { Value::Null } else { json!(all) }
}

/// The configuration of an image with every member that docker prints.
fn with_all_members(own: &Value) -> Value {
    let mut config = json!({
        "Hostname": "", "Domainname": "", "User": "", "AttachStdin": false, "AttachStdout": false,
        "AttachStderr": false, "Tty": false, "OpenStdin": false, "StdinOnce": false, "Env": null, "Cmd": null,
        "Image": "", "Volumes": null, "WorkingDir": "", "Entrypoint": null, "OnBuild": null, "Labels": null,
    });
    for (name, value) in own.as_object().into_iter().flatten() {
        config[name] = value.clone();
    }
    config
}
