//! Ways to a pod through the API server: a local port held open, or one HTTP request over the
//! stream. It refuses to know what is asked of the pod and what its answer means.

use std::{
    collections::BTreeMap,
    fmt,
    net::{Ipv4Addr, SocketAddr},
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::{
    api::core::v1::{Container, Pod, Service, ServicePort},
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::api::{ListParams, Portforwarder};
use thiserror::Error as ThisError;
use tokio::{
    io::DuplexStream,
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time::Instant,
};

use crate::{
    connect::Cluster,
    endpoints::{PortRef, service_port},
    error::{Error, Result},
    operation::{Operation, Verb},
    read::Deadline,
    rollout::{is_ready, is_terminating},
    workloads::{Workload, WorkloadKind, WorkloadRef, is_object_name, selector_text},
};

/// Most bytes of an answer's body that are kept.
pub const BODY_LIMIT: usize = 1024 * 1024;
/// Time to find a pod and open a stream to it for a connection to a held port.
const OPEN_LIMIT: Duration = Duration::from_secs(15);
/// How long a pod once found is used for further connections without looking again.
const RESOLVE_EVERY: Duration = Duration::from_secs(2);

/// What stands behind a forwarded port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ForwardObject {
    /// A Service: its selector chooses the pod, its port is translated to the pod's.
    Service(String),
    /// A workload: its selector chooses the pod.
    Workload(WorkloadRef),
    /// This very pod.
    Pod(String),
}

impl fmt::Display for ForwardObject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name) => write!(formatter, "service/{name}"),
            Self::Workload(workload) => workload.fmt(formatter),
            Self::Pod(name) => write!(formatter, "pod/{name}"),
        }
    }
}

/// An object and one of its ports: `service/web:http`, `deployment/api:8080`, `pod/web-0:80`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardTarget {
    /// The object.
    pub object: ForwardObject,
    /// A Service's own port, or a container port.
    pub port: PortRef,
}

/// Why a text is no target of a port-forward.
#[derive(Debug, ThisError, PartialEq, Eq)]
#[error(
    "`{0}` is no target: write `service/NAME:PORT`, `deployment/NAME:PORT`, `statefulset/NAME:PORT`, `daemonset/NAME:PORT` or `pod/NAME:PORT`"
)]
pub struct ForwardTargetError(String);

impl FromStr for ForwardTarget {
    type Err = ForwardTargetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ForwardTargetError(text.to_owned());
        let (kind, rest) = text.split_once('/').ok_or_else(error)?;
        let (name, port) = rest.rsplit_once(':').ok_or_else(error)?;
        if !is_object_name(name) {
            return Err(error());
        }
        let object = match kind.to_ascii_lowercase().as_str() {
            "service" | "services" | "svc" => ForwardObject::Service(name.to_owned()),
            "pod" | "pods" | "po" => ForwardObject::Pod(name.to_owned()),
            other => match WorkloadKind::parse(other) {
                Some(kind) if kind != WorkloadKind::Job => ForwardObject::Workload(WorkloadRef {
                    kind,
                    name: name.to_owned(),
                }),
                Some(_) | None => return Err(error()),
            },
        };
        let port = match port.parse::<u16>() {
            Ok(0) => return Err(error()),
            Ok(number) => PortRef::Number(number),
            Err(_) if is_port_name(port) => PortRef::Name(port.to_owned()),
            Err(_) => return Err(error()),
        };
        Ok(Self { object, port })
    }
}

/// At most 15 lower-case letters, digits and `-`, with at least one letter (RFC 6335).
fn is_port_name(name: &str) -> bool {
    is_object_name(name)
        && name.len() <= 15
        && !name.contains('.')
        && name.bytes().any(|byte| byte.is_ascii_lowercase())
}

impl fmt::Display for ForwardTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.port {
            PortRef::Number(number) => write!(formatter, "{}:{number}", self.object),
            PortRef::Name(name) => write!(formatter, "{}:{name}", self.object),
        }
    }
}

/// A pod and the port of it that a target leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPort {
    /// Pod name.
    pub pod: String,
    /// Pod UID.
    pub uid: String,
    /// Port number.
    pub port: u16,
}

impl fmt::Display for PodPort {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "pod/{}:{}", self.pod, self.port)
    }
}

/// What an account needs to be allowed for a port-forward.
///
/// The WebSocket upgrade is a GET; API servers from 1.35 on ask for `create` as well.
pub fn operations(namespace: &str) -> [Operation; 2] {
    [Verb::Get, Verb::Create]
        .map(|verb| Operation::on::<Pod>(verb, namespace).subresource("portforward"))
}

/// The number behind a port of a pod. Pure.
pub fn pod_port(pod: &Pod, port: &PortRef) -> Option<u16> {
    match port {
        PortRef::Number(number) => Some(*number),
        PortRef::Name(name) => {
            let spec = pod.spec.as_ref()?;
            // Sidecars are init containers that stay.
            let init = spec.init_containers.iter().flatten();
            let mut ports = spec.containers.iter().chain(init).flat_map(container_ports);
            let (_, number) = ports.find(|(known, _)| known == name)?;
            Some(number)
        }
    }
}

fn container_ports(container: &Container) -> impl Iterator<Item = (&str, u16)> {
    container.ports.iter().flatten().filter_map(|port| {
        let number = u16::try_from(port.container_port).ok()?;
        Some((port.name.as_deref()?, number))
    })
}

/// The port of a pod that a Service port leads to. Pure.
pub fn service_target(port: &ServicePort, pod: &Pod) -> Option<u16> {
    match &port.target_port {
        Some(IntOrString::Int(number)) => u16::try_from(*number).ok().filter(|port| *port > 0),
        Some(IntOrString::String(name)) => pod_port(pod, &PortRef::Name(name.clone())),
        None => u16::try_from(port.port).ok(),
    }
}

impl Cluster {
    /// All ready pods behind a target, by name, with their port.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the object, [`Error::Unsuitable`] when it has no such port, no
    /// selector or no ready pod.
    pub async fn pod_ports(
        &self,
        target: &ForwardTarget,
        deadline: Deadline,
    ) -> Result<Vec<PodPort>> {
        let unsuitable = |problem: String| Error::Unsuitable {
            object: target.object.to_string(),
            problem,
        };
        let (selector, service) = match &target.object {
            ForwardObject::Pod(name) => {
                let pod: Pod = self.objects().get(name, deadline).await?;
                if is_terminating(&pod) {
                    return Err(unsuitable("it is terminating".to_owned()));
                }
                let port = pod_port(&pod, &target.port)
                    .ok_or_else(|| unsuitable(format!("it has no port {}", show(&target.port))))?;
                return Ok(vec![port_of(&pod, port)]);
            }
            ForwardObject::Service(name) => {
                let service: Service = self.objects().get(name, deadline).await?;
                let selector = service_selector(&service)
                    .ok_or_else(|| unsuitable("it has no selector".to_owned()))?;
                let port = service_port(&service, Some(&target.port)).cloned();
                let port = port
                    .ok_or_else(|| unsuitable(format!("it has no port {}", show(&target.port))))?;
                (selector, Some(port))
            }
            ForwardObject::Workload(workload) => {
                let workload = self.workload(workload, deadline).await?;
                let selector = workload.selector().map(selector_text);
                let selector =
                    selector.ok_or_else(|| unsuitable("it has no selector".to_owned()))?;
                (selector, None)
            }
        };
        let params = ListParams::default().labels(&selector);
        let pods = self.objects::<Pod>().list(&params, deadline).await?;
        let mut ready: Vec<_> = pods.iter().filter(|pod| is_ready(pod)).collect();
        ready.sort_by_key(|pod| pod.metadata.name.clone());
        if ready.is_empty() {
            return Err(unsuitable(format!(
                "none of its {} pods is ready",
                pods.len()
            )));
        }
        ready
            .into_iter()
            .map(|pod| {
                let port = match &service {
                    Some(port) => service_target(port, pod),
                    None => pod_port(pod, &target.port),
                };
                port.map(|port| port_of(pod, port)).ok_or_else(|| {
                    let name = pod.metadata.name.as_deref().unwrap_or_default();
                    unsuitable(format!("pod `{name}` has no port {}", show(&target.port)))
                })
            })
            .collect()
    }

    /// Reads a workload of any kind.
    ///
    /// # Errors
    /// [`Error::NotFound`] and those of the connection.
    pub async fn workload(&self, workload: &WorkloadRef, deadline: Deadline) -> Result<Workload> {
        let name = &workload.name;
        Ok(match workload.kind {
            WorkloadKind::Deployment => {
                Workload::Deployment(Arc::new(self.objects().get(name, deadline).await?))
            }
            WorkloadKind::StatefulSet => {
                Workload::StatefulSet(Arc::new(self.objects().get(name, deadline).await?))
            }
            WorkloadKind::DaemonSet => {
                Workload::DaemonSet(Arc::new(self.objects().get(name, deadline).await?))
            }
            WorkloadKind::Job => Workload::Job(Arc::new(self.objects().get(name, deadline).await?)),
        })
    }

    /// Opens a stream to a port of a pod.
    ///
    /// # Errors
    /// [`Error::Forbidden`], [`Error::NotFound`] and those of the connection.
    pub async fn open_stream(&self, pod: &PodPort, deadline: Deadline) -> Result<PodStream> {
        let operation = Operation::on::<Pod>(Verb::Get, self.namespace())
            .named(&pod.pod)
            .subresource("portforward");
        let pods = self.api::<Pod>();
        let ports = [pod.port];
        let mut forwarder = self
            .read(&operation, deadline, || pods.portforward(&pod.pod, &ports))
            .await?;
        let stream = forwarder.take_stream(pod.port);
        let errors = forwarder.take_error(pod.port);
        match (stream, errors) {
            (Some(stream), Some(errors)) => Ok(PodStream {
                stream,
                errors: Box::pin(errors),
                _forwarder: AbortOnDrop(forwarder),
            }),
            (_, _) => Err(Error::PortForward {
                target: pod.to_string(),
                problem: "the stream has no such port".to_owned(),
            }),
        }
    }

    /// Sends one HTTP/1.1 request to a port of a pod and reads at most [`BODY_LIMIT`] bytes of
    /// the answer.
    ///
    /// # Errors
    /// [`Error::PortForward`] with the kubelet's own words, [`Error::TimedOut`] after `limit`,
    /// [`Error::Unreadable`] for answers that are not HTTP or too long.
    pub async fn http_through_pod(
        &self,
        pod: &PodPort,
        request: Request<Full<Bytes>>,
        limit: Duration,
    ) -> Result<Response<Bytes>> {
        let deadline = Deadline::after(limit);
        let what = format!("{} {} of {pod}", request.method(), request.uri().path());
        let timed_out = || Error::TimedOut {
            what: what.clone(),
            after: limit,
        };
        let stream = self.open_stream(pod, deadline).await?;
        let exchange = exchange(stream, request, pod, &what);
        tokio::time::timeout_at(deadline.instant(), exchange)
            .await
            .map_err(|_| timed_out())?
    }

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

async fn exchange(
    stream: PodStream,
    request: Request<Full<Bytes>>,
    pod: &PodPort,
    what: &str,
) -> Result<Response<Bytes>> {
    let PodStream {
        stream,
        mut errors,
        _forwarder,
    } = stream;
    let unreadable = |problem: String| Error::Unreadable {
        what: what.to_owned(),
        problem,
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| unreadable(error.to_string()))?;
    let answer = async {
        let response = sender.send_request(request).await?;
        Ok::<_, hyper::Error>(response)
    };
    let exchange = async {
        let response = answer
            .await
            .map_err(|error| unreadable(error.to_string()))?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, BODY_LIMIT).collect().await;
        let body = body.map_err(|error| unreadable(format!("body: {error}")))?;
        Ok(Response::from_parts(parts, body.to_bytes()))
    };
    let mut connection = std::pin::pin!(connection);
    let mut exchange = std::pin::pin!(exchange);
    let mut is_connected = true;
    let mut kubelet_may_speak = true;
    loop {
        tokio::select! {
            biased;
            result = &mut exchange => {
                let Err(error) = result else { return result };
                // The kubelet's own words say more than "connection closed".
                let words = tokio::time::timeout(Duration::from_millis(200), &mut errors).await;
                return match words {
                    Ok(Some(problem)) if kubelet_may_speak => Err(refused(pod, &problem)),
                    Ok(_) | Err(_) => Err(error),
                };
            }
            _ = &mut connection, if is_connected => is_connected = false,
            problem = &mut errors, if kubelet_may_speak => {
                kubelet_may_speak = false;
                if let Some(problem) = problem {
                    return Err(refused(pod, &problem));
                }
            }
        }
    }
}

fn refused(pod: &PodPort, problem: &str) -> Error {
    Error::PortForward {
        target: pod.to_string(),
        problem: problem.trim().to_owned(),
    }
}

fn show(port: &PortRef) -> String {
    match port {
        PortRef::Number(number) => number.to_string(),
        PortRef::Name(name) => format!("`{name}`"),
    }
}

fn port_of(pod: &Pod, port: u16) -> PodPort {
    PodPort {
        pod: pod.metadata.name.clone().unwrap_or_default(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        port,
    }
}

fn service_selector(service: &Service) -> Option<String> {
    let selector: &BTreeMap<String, String> = service.spec.as_ref()?.selector.as_ref()?;
    let pairs = selector.iter().map(|(key, value)| format!("{key}={value}"));
    let text = pairs.collect::<Vec<_>>().join(",");
    (!text.is_empty()).then_some(text)
}

/// A stream to a port of a pod.
pub struct PodStream {
    stream: DuplexStream,
    errors: std::pin::Pin<Box<dyn Future<Output = Option<String>> + Send>>,
    _forwarder: AbortOnDrop,
}

/// Ends the library's task, which would otherwise live as long as the API server keeps the
/// WebSocket open.
struct AbortOnDrop(Portforwarder);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_and_shown() {
        for (text, shown) in [
            ("service/web:http", "service/web:http"),
            ("svc/web:80", "service/web:80"),
            ("deploy/api:8080", "deployment/api:8080"),
            ("pod/web-0:80", "pod/web-0:80"),
        ] {
            assert_eq!(text.parse::<ForwardTarget>().unwrap().to_string(), shown);
        }
        for nonsense in [
            "web:80",
            "service/web",
            "service/web:0",
            "service/web:70000",
            "service/web:Http",
            "job/migrate:80",
            "service/:80",
            "configmap/x:80",
            "http://example.org:80",
        ] {
            assert!(nonsense.parse::<ForwardTarget>().is_err(), "{nonsense}");
        }
    }

    #[test]
    fn a_service_port_leads_to_the_pods_port_by_number_by_name_or_unchanged() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "spec": {"containers": [
                {"name": "sidecar", "ports": [{"name": "metrics", "containerPort": 9090}]},
                {"name": "app", "ports": [{"name": "web", "containerPort": 8080}]}
            ]}
        }))
        .unwrap();
        let port = |value: serde_json::Value| serde_json::from_value::<ServicePort>(value).unwrap();
        let by_number = port(serde_json::json!({"port": 80, "targetPort": 8080}));
        let by_name = port(serde_json::json!({"port": 80, "targetPort": "web"}));
        let same = port(serde_json::json!({"port": 80}));
        let unknown = port(serde_json::json!({"port": 80, "targetPort": "grpc"}));
        assert_eq!(service_target(&by_number, &pod), Some(8080));
        assert_eq!(service_target(&by_name, &pod), Some(8080));
        assert_eq!(service_target(&same, &pod), Some(80));
        assert_eq!(service_target(&unknown, &pod), None);
    }
}
