//! Servers behind a load balancer, outside Kubernetes: what a load balancer says of them, how it is told
//! to use one less, and every decision of a rolling update over them.
//!
//! Owns the load balancer's interface (`haproxy`), what all of its processes say together (`fleet`), the
//! plan and its floor of capacity (`plan`), weights for a share of the traffic (`shares`), and what a killed run
//! leaves behind (`journal`). Refuses to
//! know how a server is updated or checked, inputs, GitHub, Kubernetes and the record.

mod error;
pub mod fleet;
pub mod haproxy;
pub mod journal;
pub mod plan;
mod server;
pub mod shares;

use async_trait::async_trait;

pub use error::ServersError;
pub use fleet::Fleet;
pub use server::{Address, Admin, Checks, Look, Process, Server};

/// One process of a load balancer. A fleet of them has one `Servers` each: what is said to one is unknown
/// to the others.
#[async_trait]
pub trait Servers: Send + Sync {
    /// Where it is asked, for people.
    fn place(&self) -> String;

    /// What it says of the servers of a backend, and which process says so, at one moment.
    ///
    /// # Errors
    /// It cannot be asked, knows no such backend, or answers what cannot be understood.
    async fn look(&self, backend: &str) -> Result<Look, ServersError>;

    /// Whether it would let its servers be changed; asks without changing anything.
    ///
    /// # Errors
    /// It would not, or cannot be asked.
    async fn require_control(&self) -> Result<(), ServersError>;

    /// Tells it to use a server as said. It is never told twice by itself: after an error that
    /// [`ServersError::may_have_acted`] it has to be looked at.
    ///
    /// # Errors
    /// It refuses, or cannot be asked.
    async fn set_admin(
        &self,
        backend: &str,
        server: &str,
        admin: Admin,
    ) -> Result<(), ServersError>;

    /// Gives a server a weight, 0 to 256. Its share is its weight of the sum of all that are used.
    ///
    /// # Errors
    /// As [`Servers::set_admin`].
    async fn set_weight(
        &self,
        backend: &str,
        server: &str,
        weight: u16,
    ) -> Result<(), ServersError>;
}
