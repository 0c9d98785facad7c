//! What the tests share: real parts (a registry, an HTTP server), hostile inputs built by code, and observers.
//!
//! Invariants:
//! - nothing here depends on a crate of this workspace, so that a test never asks the code under test whether it is right;
//! - whatever a test starts or mounts ends with the value that started it, also when the test panics;
//! - a capability that is missing skips a test aloud ([`probe`]) and is counted, it never passes silently.
//!
//! Deliberately not here: mocks of our own crates.

pub mod bundle;
pub mod calls;
pub mod canary;
pub mod fixtures;
pub mod guest;
pub mod http;
pub mod image;
pub mod leftovers;
pub mod probe;
pub mod registry;
pub mod schema;
pub mod serve;
pub mod storm;
pub mod tar;
pub mod tarsmith;
pub mod tree;
pub mod world;

pub use bundle::Bundle;
pub use calls::Calls;
pub use canary::Canary;
pub use image::{Image, Packing, Written};
pub use probe::{copy_program, skip};
pub use registry::Registry;
pub use storm::exchanging;
pub use tar::Member;
pub use world::{Outcome, World};

/// The sha256 of `bytes` as `sha256:<hex>`.
pub fn digest(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    let mut out = String::from("sha256:");
    for byte in sha2::Sha256::digest(bytes) {
        out.push_str(&format!("{byte:02x}"));
    }
    out
}
