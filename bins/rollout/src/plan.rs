//! The decisions of `apply`, as pure functions over what was read: which slot, whose objects, which
//! sizes, what may be written. They refuse to know how objects are read and written.

pub(crate) mod bounds;
pub(crate) mod capacity;
pub(crate) mod conflicts;
pub(crate) mod ownership;
pub(crate) mod selectors;
pub(crate) mod slot_choice;
pub(crate) mod traffic;
