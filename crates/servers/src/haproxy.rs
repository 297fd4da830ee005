//! HAProxy, through its runtime API (`stats socket … level admin`). It answers at once, for the one
//! process behind the socket, and forgets what it was told when that process is replaced.
//!
//! <https://docs.haproxy.org/2.6/management.html#9.3>

mod answers;
mod place;

use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

pub use place::Place;

use crate::{Admin, Look, Servers, ServersError};

/// The largest answer read: a backend of thousands of servers stays below.
const LARGEST: u64 = 16 * 1024 * 1024;

/// One HAProxy process.
#[derive(Debug, Clone)]
pub struct Haproxy {
    place: Place,
    limit: Duration,
}

impl Haproxy {
    /// The process behind a socket; each of its answers may take so long.
    #[must_use]
    pub fn new(place: Place, limit: Duration) -> Self {
        Self { place, limit }
    }

    /// Sends a line and reads until the other side closes, as it does after answering.
    async fn ask(&self, command: &str) -> Result<String, ServersError> {
        let exchange = async {
            match &self.place {
                Place::Unix(path) => {
                    let stream = UnixStream::connect(path).await;
                    self.exchange(stream, command).await
                }
                Place::Tcp { host, port } => {
                    let stream = TcpStream::connect((host.as_str(), *port)).await;
                    self.exchange(stream, command).await
                }
            }
        };
        let answer = tokio::time::timeout(self.limit, exchange).await;
        answer.unwrap_or_else(|_| {
            Err(ServersError::TimedOut {
                place: self.place(),
                command: command.to_owned(),
                limit: self.limit,
            })
        })
    }

    async fn exchange(
        &self,
        stream: std::io::Result<impl AsyncRead + AsyncWrite + Unpin>,
        command: &str,
    ) -> Result<String, ServersError> {
        let mut stream = stream.map_err(|source| ServersError::Connect {
            place: self.place(),
            source,
        })?;
        let broken = |source| ServersError::Interrupted {
            place: self.place(),
            command: command.to_owned(),
            source,
        };
        let line = format!("{command}\n");
        stream.write_all(line.as_bytes()).await.map_err(broken)?;
        let mut answer = Vec::new();
        let mut limited = stream.take(LARGEST + 1);
        limited.read_to_end(&mut answer).await.map_err(broken)?;
        let unreadable = |reason: &str| self.unreadable(command, reason);
        if answer.len() as u64 > LARGEST {
            return Err(unreadable("it is too long"));
        }
        if answer.is_empty() {
            // Every answer ends with an empty line: without it the process went away in the middle.
            return Err(broken(std::io::ErrorKind::UnexpectedEof.into()));
        }
        String::from_utf8(answer).map_err(|_| unreadable("it is not UTF-8"))
    }

    /// Sends a line whose answer is empty when it was obeyed.
    async fn order(&self, command: &str, backend: &str, server: &str) -> Result<(), ServersError> {
        let answer = self.ask(command).await?;
        let answer = answer.trim();
        let (place, backend) = (self.place(), backend.to_owned());
        let command = command.to_owned();
        Err(match answer {
            "" => return Ok(()),
            "No such backend." => ServersError::UnknownBackend { place, backend },
            "No such server." => ServersError::UnknownServer {
                place,
                backend,
                server: server.to_owned(),
            },
            "Permission denied" => ServersError::PermissionDenied { place, command },
            other if other.starts_with("Backend is using a static LB algorithm") => {
                ServersError::StaticWeights { place, backend }
            }
            other => ServersError::Refused {
                place,
                command,
                answer: answers::printable(other),
            },
        })
    }

    fn unreadable(&self, command: &str, reason: &str) -> ServersError {
        ServersError::Unreadable {
            place: self.place(),
            command: command.to_owned(),
            reason: reason.to_owned(),
        }
    }
}

#[async_trait]
impl Servers for Haproxy {
    fn place(&self) -> String {
        self.place.to_string()
    }

    async fn look(&self, backend: &str) -> Result<Look, ServersError> {
        // In one connection, so that all three answers are those of one process. Statistics of all servers
        // (type 4): by name a frontend of the same name would be meant.
        let command = format!("show info;show servers state {backend};show stat -1 4 -1");
        let answer = self.ask(&command).await?;
        if answers::denies_the_backend(&answer) {
            return Err(ServersError::UnknownBackend {
                place: self.place(),
                backend: backend.to_owned(),
            });
        }
        answers::look(&answer).map_err(|reason| self.unreadable(&command, &reason))
    }

    async fn require_control(&self) -> Result<(), ServersError> {
        let command = "show cli level";
        match self.ask(command).await?.trim() {
            "admin" => Ok(()),
            "operator" | "user" => Err(ServersError::PermissionDenied {
                place: self.place(),
                command: "set server".to_owned(),
            }),
            other => Err(self.unreadable(command, &answers::printable(other))),
        }
    }

    async fn set_admin(
        &self,
        backend: &str,
        server: &str,
        admin: Admin,
    ) -> Result<(), ServersError> {
        let command = format!("set server {backend}/{server} state {admin}");
        self.order(&command, backend, server).await
    }

    async fn set_weight(
        &self,
        backend: &str,
        server: &str,
        weight: u16,
    ) -> Result<(), ServersError> {
        let command = format!("set server {backend}/{server} weight {weight}");
        self.order(&command, backend, server).await
    }
}
