//! An HTTP proxy on the loopback that opens tunnels (`CONNECT`) and does nothing else, as many
//! networks have one before everything outside. Knows nothing of what goes through them.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinHandle},
};

use crate::error::{Context as _, Result};

/// The longest request that is read.
const HEAD_LIMIT: usize = 8192;

/// How a proxy behaves.
#[derive(Debug, Clone, Default)]
pub struct ConnectRules {
    /// `user:password` that it asks for; none lets everybody through.
    pub credentials: Option<String>,
    /// `host:port` of names that only the proxy can resolve.
    pub names: BTreeMap<String, String>,
}

/// What came to a proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectSeen {
    /// `host:port` of each tunnel that was opened.
    pub opened: Vec<String>,
    /// Requests without the right credentials.
    pub unauthorized: usize,
}

/// A running proxy. It ends when it is dropped, and its tunnels with it.
#[derive(Debug)]
pub struct ConnectProxy {
    address: SocketAddr,
    seen: Arc<Mutex<ConnectSeen>>,
    tunnels: Arc<Mutex<Vec<AbortHandle>>>,
    acceptor: JoinHandle<()>,
}

impl ConnectProxy {
    /// Starts one on a free port of the loopback.
    ///
    /// # Errors
    /// No port.
    pub async fn start(rules: ConnectRules) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.context(|| "cannot open a port")?;
        let address = listener
            .local_addr()
            .context(|| "the port has no address")?;
        let seen = Arc::<Mutex<ConnectSeen>>::default();
        let tunnels = Arc::<Mutex<Vec<AbortHandle>>>::default();
        let (rules, noted, opened) = (Arc::new(rules), seen.clone(), tunnels.clone());
        let acceptor = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let tunnel = tokio::spawn(serve(stream, rules.clone(), noted.clone()));
                let mut opened = opened.lock().unwrap_or_else(PoisonError::into_inner);
                opened.push(tunnel.abort_handle());
            }
        });
        Ok(Self {
            address,
            seen,
            tunnels,
            acceptor,
        })
    }

    /// `host:port`, as a proxy variable takes it with or without a scheme.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// What came so far.
    #[must_use]
    pub fn seen(&self) -> ConnectSeen {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clone()
    }
}

impl Drop for ConnectProxy {
    fn drop(&mut self) {
        self.acceptor.abort();
        let mut tunnels = self.tunnels.lock().unwrap_or_else(PoisonError::into_inner);
        for tunnel in tunnels.drain(..) {
            tunnel.abort();
        }
    }
}

async fn serve(mut client: TcpStream, rules: Arc<ConnectRules>, seen: Arc<Mutex<ConnectSeen>>) {
    let note = |change: &dyn Fn(&mut ConnectSeen)| {
        change(&mut seen.lock().unwrap_or_else(PoisonError::into_inner));
    };
    let Some(head) = read_head(&mut client).await else {
        return;
    };
    let Some(target) = target_of(&head) else {
        answer(&mut client, "405 Method Not Allowed\r\nallow: CONNECT").await;
        return;
    };
    if !is_authorized(&head, rules.credentials.as_deref()) {
        note(&|seen| seen.unauthorized += 1);
        let status =
            "407 Proxy Authentication Required\r\nproxy-authenticate: Basic realm=\"proxy\"";
        answer(&mut client, status).await;
        return;
    }
    let address = rules.names.get(target).map_or(target, String::as_str);
    let Ok(mut server) = TcpStream::connect(address).await else {
        answer(&mut client, "502 Bad Gateway").await;
        return;
    };
    note(&|seen| seen.opened.push(target.to_owned()));
    let established = b"HTTP/1.1 200 Connection established\r\n\r\n";
    if client.write_all(established).await.is_ok() {
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }
}

/// Reads to the empty line, byte by byte: what follows belongs to the tunnel.
async fn read_head(client: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == HEAD_LIMIT {
            return None;
        }
        head.push(client.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

fn target_of(head: &str) -> Option<&str> {
    head.strip_prefix("CONNECT ")?.split(' ').next()
}

fn is_authorized(head: &str, credentials: Option<&str>) -> bool {
    let Some(credentials) = credentials else {
        return true;
    };
    let expected = format!("Basic {}", STANDARD.encode(credentials));
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .any(|(name, value)| {
            name.eq_ignore_ascii_case("proxy-authorization") && value.trim() == expected
        })
}

async fn answer(client: &mut TcpStream, status: &str) {
    let text = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    // Whoever is gone needs no answer.
    let _ = client.write_all(text.as_bytes()).await;
}
