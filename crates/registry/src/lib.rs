//! References, places, and the way to registries.
mod place;
mod reference;

pub use place::{Destination, LayoutPlace, Place, PlaceError, Source};
pub use reference::{Reference, ReferenceError};

impl descriptor::Classify for ReferenceError {
    fn exit(&self) -> descriptor::Exit {
        descriptor::Exit::Usage
    }
}

impl descriptor::Classify for PlaceError {
    fn exit(&self) -> descriptor::Exit {
        descriptor::Exit::Usage
    }
}
