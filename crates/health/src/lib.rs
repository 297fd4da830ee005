//! What programs that look at a running version have in common: HTTP checks of URLs and of pods, which version
//! answered, whether pods were lost, what they must be allowed to read, and why a pod is in trouble.
//!
//! It refuses to know what a program does with what was seen, and it changes nothing.

pub mod access;
pub mod checks;
pub mod connection;
pub mod diagnosis;
pub mod pods;
pub mod version;
