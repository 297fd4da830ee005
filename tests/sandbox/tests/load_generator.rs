//! The load generator counts exactly what a server does wrong. The servers are real sockets on
//! the loopback; no cluster is needed.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use switchyard_sandbox::load::{FailureKind, KeepAlive, LoadPlan};
use tokio::net::{TcpListener, TcpSocket};

/// What a test server does with its n-th request (from 1).
type Script = fn(u64) -> Act;

#[derive(Clone, Copy)]
enum Act {
    Answer(&'static str),
    Fail(StatusCode),
    Break,
    Wait(Duration),
}

struct Server {
    url: String,
    connections: Arc<AtomicU64>,
}

async fn server(script: Script) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let connections = Arc::new(AtomicU64::new(0));
    let requests = Arc::new(AtomicU64::new(0));
    let counted = connections.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            let requests = requests.clone();
            let service = service_fn(move |_: Request<Incoming>| {
                let number = requests.fetch_add(1, Ordering::Relaxed) + 1;
                act(script(number))
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    Server { url, connections }
}

async fn act(act: Act) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let answer = |status: StatusCode, version: &str| {
        let response = Response::builder()
            .status(status)
            .header("x-app-version", version);
        response
            .body(Full::new(Bytes::from_static(b"body")))
            .map_err(std::io::Error::other)
    };
    match act {
        Act::Answer(version) => answer(StatusCode::OK, version),
        Act::Fail(status) => answer(status, "v1.0.0"),
        Act::Break => Err(std::io::ErrorKind::ConnectionAborted.into()),
        Act::Wait(time) => {
            tokio::time::sleep(time).await;
            answer(StatusCode::OK, "v1.0.0")
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_tenth_failure_is_counted_with_its_time() {
    let server = server(|n| {
        if n.is_multiple_of(10) {
            Act::Fail(StatusCode::BAD_GATEWAY)
        } else {
            Act::Answer("v1.0.0")
        }
    })
    .await;
    let plan = LoadPlan::new(&server.url, 400).expect("a plan");
    let report = plan
        .run_for(Duration::from_secs(2))
        .await
        .expect("a report");
    assert!(report.scheduled >= 700, "{}", report.summary());
    assert_eq!(report.lost, report.scheduled / 10);
    assert_eq!(report.by_status[&502], report.lost);
    assert_eq!(report.by_status[&200], report.succeeded);
    assert_eq!(report.by_version["v1.0.0"], report.scheduled);
    assert_eq!(report.failures.len() as u64, report.lost);
    for failure in &report.failures {
        assert_eq!(failure.kind, FailureKind::Status);
        assert_eq!(failure.status, Some(502));
        assert!(failure.after_ms <= report.duration_ms);
        assert!(failure.at >= report.started_at);
    }
    let lost_by_second: u64 = report.seconds.iter().map(|second| second.lost).sum();
    assert_eq!(lost_by_second, report.lost);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_connections_are_lost_with_and_without_keep_alive() {
    for keep_alive in [KeepAlive::On, KeepAlive::Off] {
        let server = server(|n| {
            if n.is_multiple_of(10) {
                Act::Break
            } else {
                Act::Answer("v1.0.0")
            }
        })
        .await;
        let plan = LoadPlan::new(&server.url, 200)
            .expect("a plan")
            .keep_alive(keep_alive);
        let report = plan
            .run_for(Duration::from_secs(1))
            .await
            .expect("a report");
        assert_eq!(report.lost, report.scheduled / 10, "{}", report.summary());
        assert_eq!(
            report.by_failure[&FailureKind::ConnectionBroken],
            report.lost
        );
        let opened = server.connections.load(Ordering::Relaxed);
        match keep_alive {
            KeepAlive::On => assert!(opened < report.scheduled / 2, "{opened} connections"),
            KeepAlive::Off => assert_eq!(opened, report.scheduled),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_counted_by_the_version_that_gave_them() {
    let server = server(|n| {
        Act::Answer(if n.is_multiple_of(4) {
            "v1.1.0"
        } else {
            "v1.0.0"
        })
    })
    .await;
    let plan = LoadPlan::new(&server.url, 400).expect("a plan");
    let report = plan
        .run_for(Duration::from_secs(1))
        .await
        .expect("a report");
    assert_eq!(report.lost, 0, "{}", report.summary());
    assert_eq!(report.by_version["v1.1.0"], report.scheduled / 4);
    assert_eq!(report.by_version.values().sum::<u64>(), report.scheduled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_server_does_not_slow_the_schedule_and_its_late_answers_are_lost() {
    let server = server(|_| Act::Wait(Duration::from_secs(3600))).await;
    let plan = LoadPlan::new(&server.url, 100)
        .expect("a plan")
        .time_limit(Duration::from_millis(500));
    let report = plan
        .run_for(Duration::from_secs(1))
        .await
        .expect("a report");
    assert!(
        report.scheduled >= 90,
        "an open model goes on: {}",
        report.summary()
    );
    assert_eq!(report.by_failure[&FailureKind::Timeout], report.scheduled);
    assert_eq!(report.lost, report.scheduled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_for_the_generators_own_limit_counts_from_the_due_time_and_is_named() {
    let server = server(|_| Act::Wait(Duration::from_millis(300))).await;
    let plan = LoadPlan::new(&server.url, 100)
        .expect("a plan")
        .connection_limit(1)
        .time_limit(Duration::from_millis(700));
    let report = plan
        .run_for(Duration::from_millis(500))
        .await
        .expect("a report");
    assert!(
        report.by_failure[&FailureKind::ConnectionLimit] > 0,
        "{}",
        report.summary()
    );
    // The second request waited for the first one: its own 300 ms are not all that it took.
    assert!(report.latency_ms.max > 500.0, "{}", report.summary());
}

#[tokio::test]
async fn nobody_listening_is_a_loss_not_an_error() {
    // Bound, so that nobody else gets the port, and never listening.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .bind("127.0.0.1:0".parse().expect("an address"))
        .expect("a free port");
    let url = format!("http://{}/", socket.local_addr().expect("an address"));
    let plan = LoadPlan::new(&url, 50).expect("a plan");
    let report = plan
        .run_for(Duration::from_millis(500))
        .await
        .expect("a report");
    assert!(report.scheduled > 0);
    assert_eq!(report.by_failure[&FailureKind::Connect], report.scheduled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_host_header_and_the_path_reach_the_server() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(|request: Request<Incoming>| async move {
                let is_right = request.headers()["host"] == "shop.test"
                    && request
                        .uri()
                        .path_and_query()
                        .is_some_and(|path| path == "/cart?id=1");
                let status = if is_right {
                    StatusCode::OK
                } else {
                    StatusCode::BAD_REQUEST
                };
                let mut response = Response::new(Full::new(Bytes::new()));
                *response.status_mut() = status;
                Ok::<_, Infallible>(response)
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    let plan = LoadPlan::new(&format!("http://{address}/cart?id=1"), 50).expect("a plan");
    let plan = plan.host("shop.test").expect("a host");
    let report = plan
        .run_for(Duration::from_millis(300))
        .await
        .expect("a report");
    assert!(report.succeeded > 0);
    assert_eq!(report.lost, 0, "{}", report.summary());
    assert_eq!(report.by_version["none"], report.scheduled);
}

#[test]
fn plans_without_sense_are_refused() {
    assert!(LoadPlan::new("https://127.0.0.1/", 1).is_err());
    assert!(LoadPlan::new("/path", 1).is_err());
    assert!(LoadPlan::new("http://127.0.0.1/", 0).is_err());
    let plan = LoadPlan::new("http://127.0.0.1/", 1).expect("a plan");
    assert!(plan.clone().host("two\nlines").is_err());
    assert!(plan.version_header("not a name").is_err());
}
