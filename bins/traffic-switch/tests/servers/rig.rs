//! Real HAProxies in front of demo applications that drop what is under way when they are told to end, and
//! a script that updates one as a user would: it ends the old process and starts the new one.

// Each test program uses its part of this.
#![allow(dead_code)]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use switchyard_harness::until;
use switchyard_sandbox::load::LoadPlan;

/// Whether HAProxy checks the servers by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum OwnChecks {
    On,
    Off,
}

/// Servers, and the HAProxies before them.
pub(crate) struct Rig {
    folder: tempfile::TempDir,
    servers: Vec<(String, u16)>,
    haproxies: Vec<Haproxy>,
}

struct Haproxy {
    master: Child,
    port: u16,
    /// Where it is asked: the first one by its unix socket, others by TCP.
    api: String,
}

/// Ends the old process of a server and starts the new one, as a user's script might.
const UPDATE: &str = r#"
exec 9>"$RIG/$SERVER_NAME.lock"; flock 9
echo "$SERVER_NAME $SERVER_ADDRESS $SERVER_HOST $SERVER_PORT $SERVER_BACKEND $EXPECT_VERSION" >>"$RIG/updates"
"$RIG/hook" "$SERVER_NAME"
old=$(cat "$RIG/$SERVER_NAME.pid")
kill "$old"
while [ -d "/proc/$old" ] && ! grep -q '^State:.Z' "/proc/$old/status"; do sleep 0.02; done
"$RIG/start" "$SERVER_NAME" "$SERVER_PORT" v2
"#;

impl Rig {
    /// So many servers with version `v1`, behind so many HAProxies.
    pub(crate) fn new(servers: usize, haproxies: usize) -> Self {
        Self::with(servers, haproxies, OwnChecks::On)
    }

    pub(crate) fn with(servers: usize, haproxies: usize, checks: OwnChecks) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut rig = Self {
            folder,
            servers: Vec::new(),
            haproxies: Vec::new(),
        };
        let start = format!(
            "#!/bin/bash\nVERSION=$3 PORT=$2 CONTROL_PORT=$(($2 + 1)) POD_NAME=$1 setsid {} >>{}/$1.log 2>&1 9>&- &\necho $! >{}/$1.pid\n",
            crate::application().display(),
            rig.path().display(),
            rig.path().display(),
        );
        rig.script("start", &start);
        rig.script("hook", "#!/bin/bash\n");
        for number in 1..=servers {
            let (name, port) = (format!("web{number}"), free_port());
            rig.start(&name, port, "v1");
            rig.servers.push((name, port));
        }
        for number in 0..haproxies {
            let haproxy = rig.start_haproxy(number, checks);
            rig.haproxies.push(haproxy);
        }
        let up = match checks {
            OwnChecks::On => "UP",
            OwnChecks::Off => "no check",
        };
        for number in 0..haproxies {
            until("HAProxy finds every server up", || {
                rig.states(number).iter().all(|state| state == up)
            });
        }
        rig
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// What is run for a server, with its name as argument, before its update stops anything.
    pub(crate) fn hook(&self, script: &str) {
        self.script(
            "hook",
            &format!(
                "#!/bin/bash\nset -e\ncd {}\n{script}\n",
                self.path().display()
            ),
        );
    }

    /// Where every HAProxy answers its runtime API, one a line.
    pub(crate) fn places(&self) -> String {
        let places: Vec<&str> = self.haproxies.iter().map(|one| &*one.api).collect();
        places.join("\n")
    }

    /// A script that updates one server to version `v2`.
    pub(crate) fn update(&self) -> String {
        format!("RIG={}\n{UPDATE}", self.path().display())
    }

    /// Load on one HAProxy.
    pub(crate) fn load(&self, haproxy: usize, rate: u32) -> LoadPlan {
        LoadPlan::new(&self.url(haproxy, "/"), rate).expect("a plan")
    }

    pub(crate) fn url(&self, haproxy: usize, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.haproxies[haproxy].port)
    }

    /// What a runtime API answers.
    pub(crate) fn ask(&self, haproxy: usize, command: &str) -> String {
        let mut answer = String::new();
        if let Ok(mut stream) = UnixStream::connect(self.socket(haproxy, "admin")) {
            writeln!(stream, "{command}").expect("ask HAProxy");
            // A process that is being replaced may break off.
            let _ = stream.read_to_string(&mut answer);
        }
        answer
    }

    /// A server's state in HAProxy's words.
    pub(crate) fn state(&self, haproxy: usize, server: &str) -> String {
        let table = self.ask(haproxy, "show stat -1 4 -1");
        let row = table
            .lines()
            .find(|line| line.starts_with(&format!("web,{server},")));
        row.and_then(|row| row.split(',').nth(17))
            .unwrap_or_default()
            .to_owned()
    }

    pub(crate) fn states(&self, haproxy: usize) -> Vec<String> {
        self.servers
            .iter()
            .map(|(name, _)| self.state(haproxy, name))
            .collect()
    }

    /// Sessions that HAProxy has under way at a server.
    pub(crate) fn sessions(&self, haproxy: usize, server: &str) -> String {
        let table = self.ask(haproxy, "show stat -1 4 -1");
        let row = table
            .lines()
            .find(|line| line.starts_with(&format!("web,{server},")));
        row.and_then(|row| row.split(',').nth(4))
            .unwrap_or_default()
            .to_owned()
    }

    /// The names of servers whose update was begun, in order.
    pub(crate) fn updates(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path().join("updates")).unwrap_or_default();
        let name = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
        text.lines().map(name).collect()
    }

    /// The lines that the update script wrote, with what it was given.
    pub(crate) fn given(&self) -> String {
        std::fs::read_to_string(self.path().join("updates")).unwrap_or_default()
    }

    pub(crate) fn port(&self, server: &str) -> u16 {
        let found = self.servers.iter().find(|(name, _)| name == server);
        found.expect("a server of the rig").1
    }

    /// A user with one request to a server that takes so long.
    pub(crate) fn slow_request(
        &self,
        haproxy: usize,
        server: &str,
        milliseconds: u32,
    ) -> TcpStream {
        let mut stream =
            TcpStream::connect(("127.0.0.1", self.haproxies[haproxy].port)).expect("connect");
        let request = format!(
            "GET /slow?ms={milliseconds} HTTP/1.1\r\nhost: app\r\ncookie: SRV={server}\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).expect("ask");
        until("the slow request is under way", || {
            self.sessions(haproxy, server) == "1"
        });
        stream
    }

    /// Ends a HAProxy's process and starts another one with the same configuration and sockets.
    pub(crate) fn reload_command(&self, haproxy: usize) -> String {
        format!("kill -USR2 {}", self.haproxies[haproxy].master.id())
    }

    /// The process that answers at the socket of a HAProxy.
    pub(crate) fn worker(&self, haproxy: usize) -> i32 {
        let info = self.ask(haproxy, "show info");
        let line = info.lines().find_map(|line| line.strip_prefix("Pid: "));
        line.and_then(|pid| pid.parse().ok()).expect("a process id")
    }

    pub(crate) fn socket(&self, haproxy: usize, level: &str) -> PathBuf {
        self.path().join(format!("{haproxy}-{level}.sock"))
    }

    /// Starts a server anew with another version, and waits until every HAProxy finds it up.
    pub(crate) fn restart(&self, name: &str, version: &str) {
        let pid = std::fs::read_to_string(self.path().join(format!("{name}.pid"))).expect("a pid");
        let pid = Pid::from_raw(pid.trim().parse().expect("a process id"));
        kill(pid, Signal::SIGKILL).expect("end the application");
        for haproxy in 0..self.haproxies.len() {
            until("HAProxy finds the server down", || {
                self.state(haproxy, name).starts_with("DOWN")
            });
        }
        self.start(name, self.port(name), version);
        for haproxy in 0..self.haproxies.len() {
            until("HAProxy finds the server up", || {
                self.state(haproxy, name) == "UP"
            });
        }
    }

    fn start(&self, name: &str, port: u16, version: &str) {
        let status = Command::new(self.path().join("start"))
            .args([name, &port.to_string(), version])
            .status();
        assert!(status.expect("start an application").success());
        until("the application listens", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
    }

    fn start_haproxy(&self, number: usize, checks: OwnChecks) -> Haproxy {
        let port = free_port();
        let tcp = format!("127.0.0.1:{}", port + 1);
        let mut configuration = format!(
            "global\n  stats socket ipv4@{tcp} level admin\n  stats socket {} mode 600 level admin\n  stats socket {} mode 600 level operator\n\
             defaults\n  mode http\n  timeout connect 2s\n  timeout client 60s\n  timeout server 60s\n  timeout queue 5s\n\
             frontend web\n  bind 127.0.0.1:{port}\n  default_backend web\n\
             backend web\n  balance roundrobin\n  option httpchk GET /api/health/ready\n  cookie SRV insert indirect nocache\n\
             default-server check inter 200ms fall 3 rise 2\n",
            self.socket(number, "admin").display(),
            self.socket(number, "operator").display(),
        );
        if checks == OwnChecks::Off {
            configuration =
                configuration.replace("default-server check", "default-server no-check");
        }
        for (name, port) in &self.servers {
            configuration += &format!("  server {name} 127.0.0.1:{port} cookie {name}\n");
        }
        let file = self.path().join(format!("{number}.cfg"));
        std::fs::write(&file, configuration).expect("write a configuration");
        let log = std::fs::File::create(self.path().join(format!("{number}.log"))).expect("a log");
        let haproxy = Path::new("/usr/sbin/haproxy");
        assert!(
            haproxy.exists(),
            "HAProxy is not installed: run `scripts/tools haproxy`"
        );
        let master = Command::new(haproxy)
            .arg("-W")
            .arg("-f")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("start HAProxy");
        until("HAProxy takes connections", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        let api = match number {
            0 => self.socket(number, "admin").display().to_string(),
            _ => tcp,
        };
        Haproxy { master, port, api }
    }

    fn script(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        // Written beside and renamed: a script that is being run may not be written.
        let (path, beside) = (
            self.path().join(name),
            self.path().join(format!("{name}.new")),
        );
        std::fs::write(&beside, text).expect("write a script");
        let mode = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(&beside, mode).expect("make it executable");
        std::fs::rename(beside, path).expect("put the script in its place");
    }
}

impl Drop for Rig {
    /// Ends what the rig has started: the masters end their workers.
    fn drop(&mut self) {
        for haproxy in &mut self.haproxies {
            let id = Pid::from_raw(i32::try_from(haproxy.master.id()).unwrap_or(i32::MAX));
            let _ = kill(id, Signal::SIGTERM);
            std::thread::sleep(Duration::from_millis(100));
            let _ = haproxy.master.kill();
            let _ = haproxy.master.wait();
        }
        for (name, _) in &self.servers {
            let pid = std::fs::read_to_string(self.path().join(format!("{name}.pid")));
            if let Some(pid) = pid.ok().and_then(|text| text.trim().parse().ok()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}

/// A port with its successor, below those that the kernel gives to clients: an application leaves its port
/// for a moment in its update, and nobody may take it then.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 600).unwrap_or(0) * 20;
    loop {
        let port = 20_000 + (first + 2 * NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        let is_free = |port| TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port))).is_ok();
        if is_free(port) && is_free(port + 1) {
            return port;
        }
    }
}
