//! Real PostgreSQL servers of a test's own: started on loopback, ended by process id, never shared with
//! another run.
//!
//! Owns data directories, processes and databases of tests. Refuses to know Kubernetes, and every crate
//! of ours: what is under test is never used to look at what it did.
//!
//! Everything here panics with what was tried when it fails: a test cannot go on without its server.

mod certificate;
mod database;
mod folder;
mod options;
mod prisma;
mod process;
mod programs;
mod server;
mod session;
mod template;
mod tools;

pub use certificate::Authority;
pub use database::Database;
pub use options::{Encryption, Options};
pub use prisma::{Prisma, Ran};
pub use programs::{program, programs};
pub use server::{PASSWORD, SUPERUSER, Server};
pub use session::Session;
pub use tools::tool;
