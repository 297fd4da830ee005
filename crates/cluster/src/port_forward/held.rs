//! A local port held open that leads to a ready pod, whichever that is at the time.
//! It refuses to know what flows through it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time::Instant,
};

use super::{ForwardTarget, PodPort, stream::PodStream};
use crate::{
    connect::Cluster,
    error::{Error, Result},
    read::Deadline,
};

/// Time to find a pod and open a stream to it for a connection to a held port.
const OPEN_LIMIT: Duration = Duration::from_secs(15);
/// How long a pod once found is used for further connections without looking again.
const RESOLVE_EVERY: Duration = Duration::from_secs(2);

impl Cluster {
    /// Holds a local port open that leads to a target, until the returned value is dropped.
    ///
    /// A pod is looked up for the connections, so that the port survives the pod. Listens on
    /// loopback only, on a port of the system's choice unless one is given.
    ///
    /// # Errors
    /// As [`Cluster::pod_ports`]; [`Error::PortForward`] when the local port is taken.
    pub async fn hold_forward(
        &self,
        target: &ForwardTarget,
        local_port: Option<u16>,
        deadline: Deadline,
    ) -> Result<HeldForward> {
        let first = self.pod_ports(target, deadline).await?;
        // Fails now, and not in the middle of somebody's test.
        if let Some(pod) = first.first() {
            drop(self.open_stream(pod, deadline).await?);
        }
        let failed = |error: std::io::Error| Error::PortForward {
            target: target.to_string(),
            problem: format!("no local port: {error}"),
        };
        let address = (Ipv4Addr::LOCALHOST, local_port.unwrap_or(0));
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let local = listener.local_addr().map_err(failed)?;
        let pods = Arc::new(PodChoice {
            cluster: self.clone(),
            target: target.clone(),
            known: Mutex::new(None),
            problems: Mutex::new(Vec::new()),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&pods)));
        Ok(HeldForward {
            local,
            target: target.clone(),
            pods,
            task,
        })
    }
}

/// A local port that leads to a target; closed when dropped.
pub struct HeldForward {
    local: SocketAddr,
    target: ForwardTarget,
    pods: Arc<PodChoice>,
    task: JoinHandle<()>,
}

impl HeldForward {
    /// Address to connect to, on loopback.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// What it leads to.
    pub fn target(&self) -> &ForwardTarget {
        &self.target
    }

    /// What went wrong with connections so far, oldest first, repetitions left out.
    pub fn problems(&self) -> Vec<String> {
        let problems = self.pods.problems.lock();
        problems.unwrap_or_else(|held| held.into_inner()).clone()
    }
}

impl Drop for HeldForward {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct PodChoice {
    cluster: Cluster,
    target: ForwardTarget,
    // Held for an access only, never across an await.
    known: Mutex<Option<(PodPort, Instant)>>,
    problems: Mutex<Vec<String>>,
}

impl PodChoice {
    /// A stream to a ready pod: the one used before while it was looked up a moment ago, else
    /// whatever is ready now, the one used before preferred.
    async fn open(&self) -> Result<PodStream> {
        let deadline = Deadline::after(OPEN_LIMIT);
        let known = self.known().clone();
        if let Some((pod, at)) = &known
            && at.elapsed() < RESOLVE_EVERY
            && let Ok(stream) = self.cluster.open_stream(pod, deadline).await
        {
            return Ok(stream);
        }
        let pods = self.cluster.pod_ports(&self.target, deadline).await?;
        let before = known.map(|(pod, _)| pod);
        let choice = before
            .and_then(|before| pods.iter().find(|pod| **pod == before))
            .or(pods.first());
        let Some(pod) = choice else {
            return Err(Error::PortForward {
                target: self.target.to_string(),
                problem: "no pod is ready".to_owned(),
            });
        };
        let stream = self.cluster.open_stream(pod, deadline).await?;
        *self.known() = Some((pod.clone(), Instant::now()));
        Ok(stream)
    }

    fn known(&self) -> MutexGuard<'_, Option<(PodPort, Instant)>> {
        self.known.lock().unwrap_or_else(|held| held.into_inner())
    }

    fn note(&self, problem: String) {
        let mut problems = self
            .problems
            .lock()
            .unwrap_or_else(|held| held.into_inner());
        if problems.last() != Some(&problem) && problems.len() < 20 {
            problems.push(problem);
        }
    }
}

async fn accept(listener: TcpListener, pods: Arc<PodChoice>) {
    // Dropped with this task, which ends every connection.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((connection, _)) => {
                connections.spawn(carry(connection, Arc::clone(&pods)));
            }
            Err(error) => {
                pods.note(format!("cannot accept connections: {error}"));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Carries one connection. When no pod can be reached the client sees its connection closed.
async fn carry(mut connection: TcpStream, pods: Arc<PodChoice>) {
    let opened = pods.open().await;
    let PodStream {
        mut stream,
        errors,
        _forwarder,
    } = match opened {
        Ok(stream) => stream,
        Err(error) => {
            pods.note(error.to_string());
            return;
        }
    };
    let kubelet = async {
        match errors.await {
            Some(problem) => problem,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        // Either end closing is the normal end of a connection.
        _ = tokio::io::copy_bidirectional(&mut connection, &mut stream) => {}
        problem = kubelet => {
            pods.note(problem.trim().to_owned());
            // This pod does not answer: the next connection looks for another.
            *pods.known() = None;
        }
    }
}
