//! What happens to the store's containers, noted for who follows the store's events.

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
