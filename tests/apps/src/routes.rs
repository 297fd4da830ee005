//! What each path answers, for `api` and for `web`, and the control endpoint. Owns the state of
//! the process; opens no port and handles no signal.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderValue},
};
use serde_json::json;
use tokio::sync::Notify;

use crate::{
    behaviour::Behaviour,
    metrics::{Metrics, resident_bytes},
};

/// The largest body the control endpoint reads.
const CONTROL_BODY_LIMIT: usize = 64 * 1024;
/// The longest answer that `/slow?ms=` gives.
const SLOWEST: Duration = Duration::from_secs(600);

/// Which of the demo applications this process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum App {
    /// The service: JSON, `/api/health/live` and `/api/health/ready`.
    Api,
    /// The front end: HTML, `/health`.
    Web,
}

impl App {
    fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Web => "web",
        }
    }
}

/// One running application.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) app: App,
    pub(crate) version: String,
    pub(crate) pod: String,
    pub(crate) behaviour: RwLock<Behaviour>,
    pub(crate) metrics: Metrics,
    /// Set once SIGTERM came and the application drains.
    pub(crate) draining: AtomicBool,
    /// Woken when the process has to end, with the code in `exit_code`.
    pub(crate) death: Notify,
    requests: AtomicU64,
    ballast: Mutex<Vec<Vec<u8>>>,
}

type Answer = Response<Full<Bytes>>;

impl Service {
    pub(crate) fn new(app: App, version: String, pod: String, behaviour: Behaviour) -> Self {
        Self {
            app,
            version,
            pod,
            behaviour: RwLock::new(behaviour),
            metrics: Metrics::default(),
            draining: AtomicBool::new(false),
            death: Notify::new(),
            requests: AtomicU64::new(0),
            ballast: Mutex::new(Vec::new()),
        }
    }

    pub(crate) fn behaviour(&self) -> Behaviour {
        self.behaviour
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Takes and touches memory, so that the kernel really gives it.
    pub(crate) fn grow(&self, mib: u64) {
        let bytes = usize::try_from(mib)
            .unwrap_or(usize::MAX)
            .saturating_mul(1024 * 1024);
        let mut ballast = self.ballast.lock().unwrap_or_else(PoisonError::into_inner);
        ballast.push(vec![1; bytes]);
    }

    /// Answers one request on the application's port.
    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Answer {
        let behaviour = self.behaviour();
        let path = request.uri().path().to_owned();
        let mut answer = match (request.method(), path.as_str()) {
            (&Method::GET | &Method::HEAD, "/api/health/live") if self.app == App::Api => {
                self.health(behaviour.live)
            }
            (&Method::GET | &Method::HEAD, "/api/health/ready") if self.app == App::Api => {
                self.health(behaviour.ready && !self.draining.load(Ordering::Relaxed))
            }
            (&Method::GET | &Method::HEAD, "/health") if self.app == App::Web => {
                let draining = self.draining.load(Ordering::Relaxed);
                self.health(behaviour.live && behaviour.ready && !draining)
            }
            (&Method::GET, "/version") => json_answer(StatusCode::OK, &self.identity()),
            (&Method::GET, "/metrics") => {
                let text = self.metrics.render(&self.version, resident_bytes());
                text_answer(StatusCode::OK, "text/plain; version=0.0.4", text)
            }
            _ => self.serve(&request, &path, &behaviour).await,
        };
        self.sign(&mut answer);
        answer
    }

    /// A request that counts: it can be slow, fail, or be the last one.
    async fn serve(
        &self,
        request: &Request<Incoming>,
        path: &str,
        behaviour: &Behaviour,
    ) -> Answer {
        let _in_flight = self.metrics.begin();
        let started = Instant::now();
        let number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        if behaviour
            .exit_after_requests
            .is_some_and(|limit| number > limit)
        {
            self.death.notify_one();
            // The process ends before this wait does: the client sees its connection break.
            tokio::time::sleep(SLOWEST).await;
        }
        if behaviour.latency_ms > 0 {
            tokio::time::sleep(Duration::from_millis(behaviour.latency_ms)).await;
        }
        let answer = if behaviour.fails(number) {
            let status = StatusCode::from_u16(behaviour.error_status)
                .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            json_answer(status, &json!({"error": "failure ordered by `error_rate`"}))
        } else {
            self.page(request, path).await
        };
        self.metrics
            .record(answer.status().as_u16(), started.elapsed());
        answer
    }

    async fn page(&self, request: &Request<Incoming>, path: &str) -> Answer {
        match (self.app, path) {
            (_, "/slow") => {
                let wait = query(request.uri().query().unwrap_or_default())
                    .get("ms")
                    .and_then(|ms| ms.parse().ok())
                    .map_or(Duration::ZERO, Duration::from_millis);
                tokio::time::sleep(wait.min(SLOWEST)).await;
                json_answer(StatusCode::OK, &self.identity())
            }
            (App::Api, "/" | "/api") => json_answer(StatusCode::OK, &self.identity()),
            (App::Web, "/") => {
                let (version, pod) = (&self.version, &self.pod);
                let page = format!(
                    "<!doctype html><title>web {version}</title><h1>web {version}</h1><p>{pod}\n"
                );
                text_answer(StatusCode::OK, "text/html; charset=utf-8", page)
            }
            (App::Api | App::Web, _) => {
                json_answer(StatusCode::NOT_FOUND, &json!({"error": "no such path"}))
            }
        }
    }

    /// Answers one request on the control port: `GET /control` shows the behaviour, `POST
    /// /control` merges a JSON object into it.
    pub(crate) async fn control(&self, request: Request<Incoming>) -> Answer {
        if request.uri().path() != "/control" {
            return json_answer(StatusCode::NOT_FOUND, &json!({"error": "no such path"}));
        }
        let mut answer = match *request.method() {
            Method::GET => json_answer(StatusCode::OK, &json!(self.behaviour())),
            Method::POST => self.change(request).await,
            _ => json_answer(
                StatusCode::METHOD_NOT_ALLOWED,
                &json!({"error": "GET shows the behaviour, POST changes it"}),
            ),
        };
        self.sign(&mut answer);
        answer
    }

    async fn change(&self, request: Request<Incoming>) -> Answer {
        let body = match Limited::new(request.into_body(), CONTROL_BODY_LIMIT)
            .collect()
            .await
        {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                return json_answer(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    &json!({"error": "too large"}),
                );
            }
            Err(error) => {
                return json_answer(
                    StatusCode::BAD_REQUEST,
                    &json!({"error": error.to_string()}),
                );
            }
        };
        let change = serde_json::from_slice(&body).map_err(Into::into);
        let merged = change.and_then(|change| self.behaviour().merged(change));
        match merged {
            Ok(behaviour) => {
                let shown = json!(behaviour);
                *self
                    .behaviour
                    .write()
                    .unwrap_or_else(PoisonError::into_inner) = behaviour;
                json_answer(StatusCode::OK, &shown)
            }
            Err(error) => json_answer(
                StatusCode::BAD_REQUEST,
                &json!({"error": error.to_string()}),
            ),
        }
    }

    fn health(&self, healthy: bool) -> Answer {
        let (status, text) = if healthy {
            (StatusCode::OK, "ok")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
        };
        json_answer(status, &json!({"status": text, "version": self.version}))
    }

    fn identity(&self) -> serde_json::Value {
        json!({"app": self.app.name(), "version": self.version, "pod": self.pod})
    }

    fn sign(&self, answer: &mut Answer) {
        for (name, value) in [("x-app-version", &self.version), ("x-app-pod", &self.pod)] {
            if let Ok(value) = HeaderValue::from_str(value) {
                answer.headers_mut().insert(name, value);
            }
        }
    }
}

fn query(text: &str) -> HashMap<&str, &str> {
    text.split('&')
        .filter_map(|pair| pair.split_once('='))
        .collect()
}

fn json_answer(status: StatusCode, value: &serde_json::Value) -> Answer {
    text_answer(status, "application/json", format!("{value}\n"))
}

fn text_answer(status: StatusCode, kind: &'static str, text: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}
