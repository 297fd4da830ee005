//! A PostgreSQL server as a client sees it: connections, the catalog, locks, snapshots, checksums.
//!
//! Owns the connection URL and its secrets, TLS, time limits, typed errors, and every query about a server.
//! Refuses to know migrations, migration tools, inputs, and files of backups.

mod advisory;
mod blocking;
mod catalog;
mod contents;
mod error;
mod fingerprint;
mod quoting;
mod rights;
mod session;
mod settings;
mod snapshot;
mod statements;
mod tls;
mod url;
mod version;

pub use advisory::{AdvisoryLock, GATE_LOCK, LockError, LockKey, LockWait};
pub use blocking::{Activity, Blocked};
pub use catalog::{
    CollationProvider, Extension, InvalidIndex, Relation, RelationKind, Settings as ServerSettings,
};
pub use contents::{
    CountedTable, DatabaseContents, LargeObjects, SequencePosition, TableContents, pin_output,
};
pub use error::{Place, PostgresError};
pub use fingerprint::{SchemaDescription, SchemaFingerprint};
pub use quoting::{identifier, literal};
pub use rights::Rights;
pub use session::{Session, StatementShape};
pub use settings::ConnectionSettings;
pub use snapshot::{ExportedSnapshot, SnapshotId};
pub use statements::{StatementStatistics, StatisticsAnswer};
pub use tls::{RootCertificates, TlsMode};
pub use tokio_postgres::{Row, types::ToSql};
pub use url::{ConnectionUrl, UrlError};
pub use version::ServerVersion;
