//! The way to registries and image layouts: references, places, transport, login.
//!
//! Invariants
//! - Credentials go to the registry's own scheme, host and port, and to the token server it names over https (or which it
//!   is itself); a redirect, an upload location or a challenge of any other host never sees them.
//! - Every document and blob is bounded before memory is taken and verified by size and digest before it is used.
//! - Exact bytes are kept: nothing is parsed and written anew.
//! - Layers' `urls` are never followed.
//!
//! Follows distribution-spec v1.1 and distribution's token authentication.
//!
//! Deliberately not here: which blobs are needed (the tools), what documents mean (the store).

mod address;
mod args;
mod auth;
mod challenge;
mod error;
mod failure;
mod fetch;
mod layout;
mod layout_target;
mod origin;
mod place;
mod reference;
mod repository;
mod retry;
mod stored;
mod target;
mod transport;
mod upload;

pub use args::{RegistryArgs, Secret};
pub use auth::{Access, BadCredentials, Credentials};
pub use error::{Error, Result};
pub use origin::Origin;
pub use place::{Destination, LayoutPlace, Place, PlaceError, Source};
pub use reference::{Reference, ReferenceError};
pub use repository::{Fetched, Network, Options, Repository};
pub use stored::{by_id, by_reference, stored_image};
pub use target::Target;
pub use upload::Upload;
