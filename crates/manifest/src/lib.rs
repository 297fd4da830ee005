//! Kubernetes manifests as plain data: parsing, images, slotting, selectors, differences.
//!
//! Everything here is a pure function over JSON values. This crate refuses to know clusters,
//! files, clocks and records: what is live is handed in as a value, what to write is handed back.

pub mod clean;
pub mod config_digest;
pub mod diff;
pub mod front;
pub mod gitops;
pub mod identity;
pub mod images;
pub mod kind;
pub mod names;
pub mod object;
pub mod order;
pub mod parse;
pub mod place;
pub mod pods;
pub mod references;
pub mod role;
pub mod selector;
pub mod slot;
pub mod slotting;
mod suggestion;

pub use identity::{Identity, ObjectName};
pub use images::ImageOverride;
pub use kind::Kind;
pub use object::{Object, Origin};
pub use place::Place;
pub use selector::LabelSelector;
pub use slot::Slot;
