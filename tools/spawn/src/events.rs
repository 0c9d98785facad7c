//! What happens to the store's containers, noted for who follows the store's events.

use oci_spec::runtime::Spec;
use store::{Container, CreateDoc, Event, Subject};

/// Notes it, with the image's digest and the labels as docker's events have them; nobody's work fails where that does.
pub(crate) fn note(container: &Container, doc: &CreateDoc, action: &str, attributes: &[(&str, String)]) {
    let mut event = Event::new(Subject::Container, action, container.id(), container.name());
    event = event.with_all(&doc.labels);
    if let Some(image) = doc.image {
        event = event.with("image", image);
    }
    for (key, value) in attributes {
        event = event.with(*key, value);
    }
    container.store().note(&event);
}

/// A volume that a container mounts.
#[derive(Debug)]
pub(crate) struct Volume {
    name: String,
    destination: String,
    writable: bool,
}

/// The volumes of the store that a configuration mounts.
pub(crate) fn volumes(container: &Container, spec: &Spec) -> Vec<Volume> {
    let volumes = container.store().path().join("volumes");
    let inside = container.path().join("volumes");
    let mut all = Vec::new();
    for mount in spec.mounts().iter().flatten() {
        let Some(source) = mount.source() else { continue };
        // A path inside a volume is named by one below the container's directory.
        let rest = source.strip_prefix(&volumes).or_else(|_| source.strip_prefix(&inside));
        let name = rest.ok().and_then(|rest| rest.components().next());
        let Some(name) = name.and_then(|name| name.as_os_str().to_str()) else { continue };
        all.push(Volume {
            name: name.into(),
            destination: mount.destination().display().to_string(),
            writable: !mount.options().iter().flatten().any(|word| word == "ro"),
        });
    }
    all
}

/// Notes what happens to volumes with their container.
pub(crate) fn note_volumes(container: &Container, volumes: &[Volume], action: &str) {
    for volume in volumes {
        let event = Event::new(Subject::Volume, action, &*volume.name, "")
            .with("container", container.id())
            .with("destination", &volume.destination)
            .with("driver", "local")
            .with("propagation", "")
            .with("read/write", volume.writable);
        container.store().note(&event);
    }
}
