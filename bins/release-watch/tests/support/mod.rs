//! What the tests on loopback share: the demo application, a real Prometheus that scrapes it, traffic, and stand-ins
//! for what answers wrongly.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod cluster;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use switchyard_harness::{Ended, Step, until};

/// A program that ends with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The demo application `api`, on ports of its own.
pub(crate) struct App {
    _program: Program,
    pub(crate) address: String,
    control: String,
    /// Drained, so that the application never waits for a reader.
    _log: std::thread::JoinHandle<()>,
}

impl App {
    pub(crate) fn start(version: &str) -> Self {
        let beside = Path::new(env!("CARGO_BIN_EXE_release-watch"));
        let program = beside.parent().unwrap().join("api");
        assert!(
            program.exists(),
            "{} is not built: `cargo build -p switchyard-apps --bins`",
            program.display()
        );
        let mut child = Command::new(program)
            .env_clear()
            .envs([("PORT", "0"), ("CONTROL_PORT", "0"), ("VERSION", version)])
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the demo application");
        let mut log = BufReader::new(child.stderr.take().expect("a pipe"));
        let program = Program(child);
        let (address, control) = loop {
            let mut line = String::new();
            let read = log.read_line(&mut line).expect("a log");
            assert!(read > 0, "it ended before it listened");
            if let Some(rest) = line.strip_prefix("listening on ") {
                let (address, control) = rest.trim().split_once(", control on ").expect("both");
                let local = |text: &str| text.replace("0.0.0.0", "127.0.0.1");
                break (local(address), local(control));
            }
        };
        Self {
            _program: program,
            address,
            control,
            _log: std::thread::spawn(move || {
                let _ = std::io::copy(&mut log, &mut std::io::sink());
            }),
        }
    }

    /// Changes how it behaves.
    pub(crate) fn behave(&self, change: &str) {
        let answer = request(&self.control, "POST", "/control", change);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// Whether it has answered any request that counts.
    pub(crate) fn has_served(&self) -> bool {
        request(&self.address, "GET", "/metrics", "").contains("http_requests_total{")
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

/// Sends one request and reads the whole answer; nothing where there is none.
fn request(address: &str, method: &str, path: &str, body: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(address) else {
        return String::new();
    };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    let _ = stream.write_all(head.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// HAProxy with its own exporter, before two applications of which each is a server of its backend `shop`.
pub(crate) struct HaProxy {
    _program: Program,
    pub(crate) address: String,
    pub(crate) metrics: String,
    _folder: tempfile::TempDir,
}

impl HaProxy {
    /// Servers `new-1` and `old-1`, with a quarter of the requests for the new one.
    pub(crate) fn before(new: &App, old: &App) -> Self {
        let program = PathBuf::from("/usr/sbin/haproxy");
        assert!(
            program.exists(),
            "HAProxy is not installed: `scripts/tools haproxy`"
        );
        let folder = tempfile::tempdir().expect("a folder");
        for _ in 0..5 {
            let [front, metrics] = [(); 2].map(|()| {
                let free = TcpListener::bind("127.0.0.1:0").unwrap();
                free.local_addr().unwrap().to_string()
            });
            let configuration = format!(
                "defaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n\
                 frontend front\n  bind {front}\n  default_backend shop\n\
                 backend shop\n  server new-1 {} weight 64\n  server old-1 {} weight 192\n\
                 frontend exporter\n  bind {metrics}\n  http-request use-service prometheus-exporter\n",
                new.address, old.address
            );
            let file = folder.path().join("haproxy.cfg");
            std::fs::write(&file, configuration).expect("write its configuration");
            let child = Command::new(&program)
                .args(["-db", "-f"])
                .arg(&file)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("start HAProxy");
            let mut program = Program(child);
            let deadline = Instant::now() + Duration::from_secs(60);
            // Another program may take a port before it does: then others are tried.
            while Instant::now() < deadline && matches!(program.0.try_wait(), Ok(None)) {
                if request(&metrics, "GET", "/metrics", "").contains("haproxy_server_") {
                    return Self {
                        _program: program,
                        address: front,
                        metrics,
                        _folder: folder,
                    };
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        panic!("HAProxy does not start");
    }

    /// Sends so many requests one after the other, and counts the answers of each version, and its failures.
    pub(crate) fn ask(&self, requests: u32) -> std::collections::BTreeMap<String, (u64, u64)> {
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..requests {
            let answer = request(&self.address, "GET", "/api", "");
            let version = answer.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("x-app-version")
                    .then(|| value.trim().to_owned())
            });
            let version = version.unwrap_or_else(|| panic!("no version in {answer}"));
            let one: &mut (u64, u64) = counts.entry(version).or_default();
            one.0 += 1;
            one.1 += u64::from(!answer.starts_with("HTTP/1.1 200"));
        }
        counts
    }
}

/// Requests that keep coming.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Traffic {
    /// Two senders for each application.
    pub(crate) fn to(applications: &[&App]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let addresses = applications
            .iter()
            .flat_map(|one| [one.address.clone(), one.address.clone()]);
        let threads = addresses.map(|address| {
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    request(&address, "GET", "/api", "");
                    sent.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(4));
                }
            })
        });
        Self {
            threads: threads.collect(),
            stop,
            sent,
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A Prometheus of this test's own.
pub(crate) struct Prometheus {
    program: Program,
    address: String,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    /// Scrapes the applications every quarter of a second, and is asked nothing before it has their metrics.
    pub(crate) fn scraping(applications: &[&App]) -> Self {
        let addresses: Vec<_> = applications
            .iter()
            .map(|one| one.address.as_str())
            .collect();
        Self::scraping_at(&addresses)
    }

    /// As above, of whatever answers `/metrics` at these addresses.
    pub(crate) fn scraping_at(addresses: &[&str]) -> Self {
        let prometheus = Self::start(addresses);
        for address in addresses {
            let up = format!("up{{instance=\"{address}\"}} == 1");
            until("the first scrape", || {
                prometheus.ask(&up).contains("\"value\"")
            });
        }
        prometheus
    }

    fn start(addresses: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let targets: Vec<_> = addresses.iter().map(|one| format!("'{one}'")).collect();
        let configuration = format!(
            "global: {{scrape_interval: 250ms, scrape_timeout: 250ms}}\n\
             scrape_configs:\n- job_name: demo\n  static_configs:\n  - targets: [{}]\n",
            targets.join(", ")
        );
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, configuration).expect("write its configuration");
        let program = PathBuf::from("/usr/bin/prometheus");
        assert!(
            program.exists(),
            "Prometheus is not installed: `scripts/tools prometheus`"
        );
        // Another program may take the port before it does: then another one is tried.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            let address = format!("127.0.0.1:{port}");
            let log = std::fs::File::create(folder.path().join("log")).expect("a log");
            let child = Command::new(&program)
                .arg(format!("--config.file={}", file.display()))
                .arg(format!(
                    "--storage.tsdb.path={}",
                    folder.path().join("data").display()
                ))
                .arg(format!("--web.listen-address={address}"))
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .expect("start Prometheus");
            let mut program = Program(child);
            let deadline = Instant::now() + Duration::from_secs(60);
            while Instant::now() < deadline {
                if request(&address, "GET", "/-/ready", "").starts_with("HTTP/1.1 200") {
                    return Self {
                        program,
                        address,
                        _folder: folder,
                    };
                }
                if !matches!(program.0.try_wait(), Ok(None)) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        panic!("Prometheus does not start");
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The answer to a query, as it comes.
    pub(crate) fn ask(&self, query: &str) -> String {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        request(
            &self.address,
            "POST",
            "/api/v1/query",
            &format!("query={encoded}"),
        )
    }

    /// Ends it.
    pub(crate) fn end(&mut self) {
        let _ = self.program.0.kill();
        let _ = self.program.0.wait();
    }
}

/// Something that exposes metrics as it is told to.
pub(crate) struct Exporter {
    pub(crate) address: String,
    text: Arc<std::sync::Mutex<String>>,
}

impl Exporter {
    pub(crate) fn telling(text: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let text = Arc::new(std::sync::Mutex::new(text.to_owned()));
        let told = Arc::clone(&text);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let mut head = vec![0; 8192];
                let _ = stream.read(&mut head);
                let body = told.lock().unwrap().clone();
                let length = body.len();
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\nconnection: close";
                let answer = format!("{head}\r\ncontent-length: {length}\r\n\r\n{body}");
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Self { address, text }
    }

    pub(crate) fn tell(&self, text: &str) {
        text.clone_into(&mut self.text.lock().unwrap());
    }
}

/// Something that answers every request in the same way.
pub(crate) struct Wrong {
    address: String,
    requests: Arc<std::sync::Mutex<Vec<String>>>,
}

impl Wrong {
    /// Answers with a status and a body, after a while.
    pub(crate) fn answering(status: &str, body: &str, after: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        let requests = Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let (answer, seen) = (answer.clone(), Arc::clone(&seen));
                std::thread::spawn(move || {
                    let mut head = vec![0; 8192];
                    let read = stream.read(&mut head).unwrap_or(0);
                    let text = String::from_utf8_lossy(&head[..read]).into_owned();
                    seen.lock().unwrap().push(text);
                    std::thread::sleep(after);
                    let _ = stream.write_all(answer.as_bytes());
                });
            }
        });
        Self { address, requests }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// The step under test, with looks of a second.
pub(crate) fn step() -> Step {
    Step::new(env!("CARGO_BIN_EXE_release-watch"))
        .input("interval", "2s")
        .input("duration", "8s")
        .input("min-requests", "50")
        .input("max-age", "10s")
        .input("version-header", "x-app-version")
}

/// The requests and failures that a watch has counted.
pub(crate) fn counted(ended: &Ended, check: &str) -> (u64, u64) {
    let samples = std::fs::read_to_string(&ended.outputs["evidence"]).unwrap();
    let lines = samples
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let of_check = lines.filter(|line| line["check"] == check);
    of_check.fold((0, 0), |(requests, failed), line| {
        let number = |key: &str| line[key].as_u64().unwrap_or(0);
        (requests + number("requests"), failed + number("failed"))
    })
}

/// Whether the watch with this folder has looked once, and so knows where its counters began.
pub(crate) fn has_looked(folder: &Path, check: &str) -> bool {
    let samples = std::fs::read_to_string(folder.join("samples.jsonl"));
    samples.is_ok_and(|samples| samples.contains(check))
}
