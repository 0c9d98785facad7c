//! The store: what all tools keep on disk and share while they run (image-spec v1.1, image-layout.md, and ours beside it).
//!
//! Invariants
//! - What stands under a final name is whole: blobs hash to their names, trees were verified before they were
//!   renamed there. Nothing is edited in place; publication is a rename.
//! - Every lock is an open file description lock: death frees it, and what a dead process left half-made lies in
//!   `staging/` or `ingest/`, where the next call finds it.
//! - Bytes that another program wrote are hashed when they are read; a blob is a regular file, opened without
//!   following links and without blocking.
//! - Digests are [`descriptor::Digest`] and names are checked by [`names`] before either becomes a path.
//!
//! Deliberately not here: fetching, unpacking, mounting and running; this crate knows where things lie and when
//! they are whole.
#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

pub mod blobs;
pub mod caches;
pub mod check;
pub mod containers;
pub mod create;
pub mod document;
mod error;
pub mod event;
mod files;
pub mod filter;
pub mod follow;
pub mod image;
mod index;
pub mod ingest;
pub mod layers;
pub mod leases;
pub mod names;
mod open;
pub mod prune;
mod reach;
mod remove;
mod repair;
mod settle;
mod size;
mod staging;
pub mod state;
pub mod volumes;

pub use blobs::{Blob, DOCUMENT_LIMIT, NewBlob};
pub use caches::{Cache, HeldCache, Sharing};
pub use check::{Finding, Report};
pub use containers::{Container, ContainerDraft};
pub use create::{CreateDoc, Device, Names, Security};
pub use document::{Document, Index, Manifest};
pub use error::{DocumentFault, Error, Result};
pub use event::{Event, EventFollower, Subject};
pub use filter::{ContainerFilter, Filters, ImageFacts, ImageFilter, short};
pub use follow::Follower;
pub use image::{Image, chain_ids};
pub use ingest::{BlobWriter, Ingest, Wait};
pub use layers::{Claim, Form, LayerDraft, LayerMeta, LayerTree};
pub use leases::Lease;
pub use open::Store;
pub use prune::{Prune, Swept};
pub use remove::remove_tree;
pub use repair::{Remedy, Repaired};
pub use size::{Seen, Usage};
pub use state::{MountId, Process, State};
pub use volumes::Volume;
