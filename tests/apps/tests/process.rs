//! The applications as processes: what they do at start, at SIGTERM and when told to die.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, ChildStderr, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

struct Running {
    child: Child,
    log: BufReader<ChildStderr>,
    address: String,
    control: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(program: &str, environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .envs([("PORT", "0"), ("CONTROL_PORT", "0"), ("VERSION", "v1.0.0")])
        .envs(environment.iter().copied())
        .stderr(Stdio::piped());
    command
}

/// Starts an application and waits until its ports are open.
fn start(program: &str, environment: &[(&str, &str)]) -> Running {
    let mut child = command(program, environment).spawn().expect("it starts");
    let mut log = BufReader::new(child.stderr.take().expect("a pipe"));
    let (address, control) = loop {
        let mut line = String::new();
        assert!(
            log.read_line(&mut line).expect("a log") > 0,
            "it ended before it listened"
        );
        if let Some(rest) = line.strip_prefix("listening on ") {
            let (address, control) = rest.trim().split_once(", control on ").expect("both");
            break (address.to_owned(), control.to_owned());
        }
    };
    Running {
        child,
        log,
        address,
        control,
    }
}

const API: &str = env!("CARGO_BIN_EXE_api");
const WEB: &str = env!("CARGO_BIN_EXE_web");

fn send(address: &str, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a time limit");
    stream.write_all(request.as_bytes()).expect("a request");
    stream
}

/// The whole answer, or what came before the connection broke.
fn read(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn get(address: &str, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: app\r\nconnection: close\r\n\r\n");
    read(send(address, &request))
}

impl Running {
    fn terminate(&self) {
        let pid = i32::try_from(self.child.id()).expect("it fits");
        kill(Pid::from_raw(pid), Signal::SIGTERM).expect("it runs");
    }

    fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().expect("it ends").code()
    }

    /// Returns once the application has written these words.
    fn wait_for_log(&mut self, words: &str) {
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            assert!(
                self.log.read_line(&mut line).expect("a log") > 0,
                "no `{words}` in the log"
            );
        }
    }

    /// Returns once a request to `/slow` is in flight.
    fn wait_for_request(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !get(&self.address, "/metrics").contains("http_requests_in_flight 1") {
            assert!(Instant::now() < deadline, "no request in flight");
        }
    }
}

#[test]
fn sigterm_drops_what_is_in_flight_by_default() {
    let mut app = start(API, &[]);
    let slow = send(
        &app.address,
        "GET /slow?ms=60000 HTTP/1.1\r\nhost: app\r\n\r\n",
    );
    app.wait_for_request();
    app.terminate();
    assert_eq!(read(slow), "", "the connection breaks without an answer");
    assert_eq!(app.exit_code(), Some(143));
}

#[test]
fn a_draining_application_answers_what_is_in_flight_and_is_not_ready() {
    let mut app = start(API, &[("DRAIN_MS", "1000")]);
    let slow = send(
        &app.address,
        "GET /slow?ms=500 HTTP/1.1\r\nhost: app\r\nconnection: close\r\n\r\n",
    );
    app.wait_for_request();
    app.terminate();
    app.wait_for_log("draining");
    assert!(get(&app.address, "/api/health/ready").starts_with("HTTP/1.1 503"));
    assert!(
        get(&app.address, "/").starts_with("HTTP/1.1 200"),
        "new requests are still served"
    );
    assert!(read(slow).starts_with("HTTP/1.1 200"));
    assert_eq!(app.exit_code(), Some(0));
}

#[test]
fn a_crash_at_start_opens_no_port() {
    let output = command(API, &[("CRASH_AT_START", "true")])
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!log.contains("listening") && log.contains("fatal"), "{log}");
}

#[test]
fn a_start_delay_comes_before_the_port() {
    let before = Instant::now();
    let _app = start(API, &[("START_DELAY_MS", "400")]);
    assert!(before.elapsed() >= Duration::from_millis(400));
}

#[test]
fn an_environment_without_sense_is_refused() {
    for entry in [
        ("ERROR_RATE", "2"),
        ("LATENCY_MS", "slow"),
        ("PORT", "http"),
    ] {
        let output = command(API, &[entry]).output().expect("it runs");
        assert_eq!(output.status.code(), Some(1), "{entry:?}");
    }
}

#[test]
fn the_ordered_death_comes_after_the_last_request_with_its_code() {
    let mut app = start(API, &[("EXIT_AFTER_REQUESTS", "1"), ("EXIT_CODE", "7")]);
    assert!(get(&app.address, "/").starts_with("HTTP/1.1 200"));
    assert!(
        get(&app.address, "/api/health/live").starts_with("HTTP/1.1 200"),
        "checks are free"
    );
    assert_eq!(get(&app.address, "/"), "", "the next request breaks");
    assert_eq!(app.exit_code(), Some(7));
}

#[test]
fn memory_grows_on_request() {
    let app = start(API, &[]);
    let resident = || {
        let metrics = get(&app.address, "/metrics");
        let lines: Vec<&str> = metrics.lines().collect();
        let name = "process_resident_memory_bytes ";
        let value = lines.iter().find_map(|line| line.strip_prefix(name));
        value.expect("the metric").parse::<u64>().expect("a number")
    };
    let before = resident();
    let body = "{\"memory_growth_mib\": 32}";
    let length = body.len();
    let answer = read(send(
        &app.control,
        &format!(
            "POST /control HTTP/1.1\r\nhost: app\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        ),
    ));
    assert!(answer.contains("\"memory_growth_mib\":32"), "{answer}");
    let deadline = Instant::now() + Duration::from_secs(30);
    while resident() < before + 32 * 1024 * 1024 {
        assert!(Instant::now() < deadline, "the memory does not grow");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn web_serves_a_page_and_one_health_check() {
    let app = start(WEB, &[("READY", "false")]);
    let page = get(&app.address, "/");
    assert!(
        page.starts_with("HTTP/1.1 200") && page.contains("web v1.0.0"),
        "{page}"
    );
    assert!(page.contains("x-app-version: v1.0.0"), "{page}");
    assert!(get(&app.address, "/health").starts_with("HTTP/1.1 503"));
    assert!(get(&app.address, "/api/health/live").starts_with("HTTP/1.1 404"));
}
