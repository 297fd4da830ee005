//! Servers behind real HAProxies, updated under load. Everything is on the loopback; no cluster is needed.

mod faults;
mod refusals;
mod resume;
mod rig;
mod rolling;
mod weights;
