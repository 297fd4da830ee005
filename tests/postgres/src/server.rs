//! A server: its data directory, its port, its process.

use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::database::{Database, url};
use crate::folder;
use crate::options::{Encryption, Options};
use crate::process::{self, PATIENCE};
use crate::programs::{give_to_server_account, program, server_programs};
use crate::template;

/// Name of every server's superuser.
pub const SUPERUSER: &str = "postgres";

/// The superuser's password. Tests search logs for it, so it is like no other text.
pub const PASSWORD: &str = "sesame-7Qx2-superuser";

/// A running server; ended when it is dropped, or when this process ends in whatever way.
#[derive(Debug)]
pub struct Server {
    folder: TempDir,
    programs: PathBuf,
    port: u16,
    process: Option<Child>,
    authority: Option<PathBuf>,
}

impl Server {
    /// A server as most tests want it: no TLS, no extensions.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start() -> Self {
        Self::options().start()
    }

    /// A server with options.
    #[must_use]
    pub fn options() -> Options {
        Options::default()
    }

    /// One server for all tests of this program that neither end it nor look at the whole of it. It loads
    /// `pg_stat_statements`.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(|| Self::options().statement_statistics().start())
    }

    pub(crate) fn with(options: Options) -> Self {
        let root = options.data_in.clone().unwrap_or_else(std::env::temp_dir);
        let folder = folder::make(&root);
        let data = folder.path().join("data");
        template::copy_to(&data, options.major);
        let authority = write_certificate(folder.path(), &data, &options.encryption);
        write_rules(&data, &options.encryption);
        let mut server = Self {
            folder,
            programs: server_programs(options.major),
            port: 0,
            process: None,
            authority,
        };
        server.start_anywhere(&options);
        server
    }

    /// Another process may take the port between our look and the server's: then another one is tried.
    fn start_anywhere(&mut self, options: &Options) {
        for _ in 0..10 {
            let free = TcpListener::bind(("127.0.0.1", 0)).and_then(|socket| socket.local_addr());
            self.port = free.expect("a free port").port();
            write_settings(&self.data(), self.port, options);
            if self.try_start() {
                return;
            }
            let log = self.log();
            assert!(
                log.contains("Address already in use"),
                "the server did not start: {log}"
            );
        }
        panic!("no port was free ten times in a row");
    }

    /// Starts the process; whether it takes connections in the end.
    fn try_start(&mut self) -> bool {
        let mut child = process::start(&self.programs, &self.data(), &self.log_path());
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self.is_ready() {
                self.process = Some(child);
                return true;
            }
            if !matches!(child.try_wait(), Ok(None)) {
                return false;
            }
            if Instant::now() > deadline {
                process::end(&mut child, Signal::SIGQUIT);
                panic!("the server takes no connections: {}", self.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The server's own word comes first: another process may listen on its port.
    fn is_ready(&self) -> bool {
        self.log()
            .contains("database system is ready to accept connections")
            && Command::new(program("pg_isready"))
                .args(["--quiet", "--host=127.0.0.1"])
                .arg(format!("--port={}", self.port))
                .status()
                .is_ok_and(|status| status.success())
    }

    /// Its port on `127.0.0.1`.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// URL of a database for the superuser.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        self.url_as(SUPERUSER, PASSWORD, database)
    }

    /// URL of a database for a role with a password; both are escaped.
    #[must_use]
    pub fn url_as(&self, role: &str, password: &str, database: &str) -> String {
        url(self.port, role, password, database)
    }

    /// Makes an empty database of a name of its own.
    ///
    /// # Panics
    /// When the server refuses.
    #[must_use]
    pub fn database(&self) -> Database {
        Database::create(self.port)
    }

    /// A database that is there, such as `postgres`.
    #[must_use]
    pub fn existing_database(&self, name: &str) -> Database {
        Database::existing(self.port, name)
    }

    /// PEM file of the authority that signed its certificate, where it speaks TLS.
    #[must_use]
    pub fn authority(&self) -> Option<&Path> {
        self.authority.as_deref()
    }

    /// Its data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// What it has logged since it was started last.
    #[must_use]
    pub fn log(&self) -> String {
        let log = std::fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Id of its first process.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.as_ref().expect("the server runs").id()
    }

    /// Kills it as a crash would (SIGKILL): nothing is written, no client is told. Does not start it again.
    pub fn crash(&mut self) {
        if let Some(mut child) = self.process.take() {
            process::end(&mut child, Signal::SIGKILL);
        }
    }

    /// Ends it in order (fast shutdown: sessions are cut). Does not start it again.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.process.take() {
            process::end(&mut child, Signal::SIGINT);
        }
    }

    /// Starts it again on the same port, after [`Server::crash`] or [`Server::stop`], or in place of the
    /// running one.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&mut self) {
        self.stop();
        // Children of a crashed server hold its memory until they have noticed.
        let deadline = Instant::now() + PATIENCE;
        while !self.try_start() {
            let log = self.log();
            assert!(
                Instant::now() < deadline && log.contains("is still in use"),
                "the server did not start again: {log}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.process.take() {
            // Immediate: nothing of it is needed any more.
            process::end(&mut child, Signal::SIGQUIT);
        }
    }
}

fn write_settings(data: &Path, port: u16, options: &Options) {
    let mut text = format!(
        "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = ''\n\
         fsync = off\nfull_page_writes = off\nmax_connections = 60\n\
         shared_buffers = 16MB\nlog_line_prefix = '%m [%p] %a %u@%d '\n\
         default_text_search_config = 'pg_catalog.english'\n"
    );
    if !matches!(options.encryption, Encryption::None) {
        text.push_str("ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'\n");
    }
    for (name, value) in &options.settings {
        text.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
    }
    std::fs::write(data.join("postgresql.conf"), text).expect("write postgresql.conf");
}

/// Everybody has to give a password; without TLS only where that is allowed.
fn write_rules(data: &Path, encryption: &Encryption) {
    let kind = match encryption {
        Encryption::None | Encryption::Offered(..) => "host",
        Encryption::Required(..) => "hostssl",
    };
    let rule = format!(
        "{kind} all all 127.0.0.1/32 scram-sha-256\n\
         {kind} replication all 127.0.0.1/32 scram-sha-256\n"
    );
    std::fs::write(data.join("pg_hba.conf"), rule).expect("write pg_hba.conf");
}

/// Writes the server's certificate and key, and gives the file of its authority's certificate.
fn write_certificate(folder: &Path, data: &Path, encryption: &Encryption) -> Option<PathBuf> {
    let (authority, names) = match encryption {
        Encryption::None => return None,
        Encryption::Offered(authority, names) | Encryption::Required(authority, names) => {
            (authority, names)
        }
    };
    let mut names = names.clone();
    names.push("127.0.0.1".to_owned());
    let (certificate, key) = authority.issue(&names);
    for (name, text) in [("server.crt", certificate), ("server.key", key)] {
        let path = data.join(name);
        std::fs::write(&path, text).expect("write the server's certificate");
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("protect the key");
        give_to_server_account(&path);
    }
    let path = folder.join("authority.pem");
    std::fs::write(&path, authority.certificate()).expect("write the authority's certificate");
    Some(path)
}
