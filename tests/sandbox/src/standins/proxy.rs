//! A proxy as companies put one before the internet: it opens tunnels (`CONNECT`), asks for a password
//! where it is told to, and records who was asked for. It cannot look inside.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::{
    io::{
        AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional,
    },
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

/// Longest head of a request, in bytes.
const MOST_HEAD: u64 = 16 * 1024;

/// What came to a proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxySeen {
    /// `HOST:PORT` of every tunnel that was asked for, oldest first, refused ones included.
    pub asked: Vec<String>,
    /// `HOST:PORT` of those that were opened.
    pub opened: Vec<String>,
    /// How many were refused for want of the right password.
    pub unauthorized: usize,
}

#[derive(Default)]
struct Rules {
    /// The value of `Proxy-Authorization` that is asked for.
    credentials: Option<String>,
    /// Where a `HOST:PORT` leads that only the proxy can resolve.
    names: BTreeMap<String, String>,
}

/// A running proxy. Dropping it closes its socket and its tunnels.
pub struct Proxy {
    address: SocketAddr,
    seen: Arc<Mutex<ProxySeen>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts a proxy that takes everybody.
    ///
    /// # Errors
    /// When no socket or thread can be had.
    pub fn start() -> std::io::Result<Self> {
        Self::serve(Rules::default())
    }

    /// Starts a proxy that takes everybody, and alone knows where `name` (`HOST:PORT`) leads.
    ///
    /// # Errors
    /// As for [`Proxy::start`].
    pub fn knowing(name: &str, address: &str) -> std::io::Result<Self> {
        Self::serve(Rules {
            names: BTreeMap::from([(name.to_owned(), address.to_owned())]),
            ..Rules::default()
        })
    }

    /// Starts a proxy that takes only this user.
    ///
    /// # Errors
    /// As for [`Proxy::start`].
    pub fn asking_for(user: &str, password: &str) -> std::io::Result<Self> {
        let expected = STANDARD.encode(format!("{user}:{password}"));
        Self::serve(Rules {
            credentials: Some(format!("Basic {expected}")),
            ..Rules::default()
        })
    }

    fn serve(rules: Rules) -> std::io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let seen = Arc::<Mutex<ProxySeen>>::default();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let noted = Arc::clone(&seen);
        let thread = std::thread::Builder::new()
            .name("proxy".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = accept(listener, Arc::new(rules), noted) => {}
                        _ = stopped => {}
                    }
                });
            })?;
        Ok(Self {
            address,
            seen,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// `http://ADDRESS:PORT`, for `HTTPS_PROXY`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `ADDRESS:PORT`, for a proxy variable with or without a scheme.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// What came so far.
    #[must_use]
    pub fn seen(&self) -> ProxySeen {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was already printed by it.
            let _ = thread.join();
        }
    }
}

async fn accept(listener: std::net::TcpListener, rules: Arc<Rules>, seen: Arc<Mutex<ProxySeen>>) {
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let (rules, seen) = (Arc::clone(&rules), Arc::clone(&seen));
        tokio::spawn(async move {
            // An error is a client or a server that went away.
            let _ = tunnel(stream, &rules, &seen).await;
        });
    }
}

async fn tunnel(stream: TcpStream, rules: &Rules, seen: &Mutex<ProxySeen>) -> std::io::Result<()> {
    let note = |change: &dyn Fn(&mut ProxySeen)| {
        change(&mut seen.lock().unwrap_or_else(PoisonError::into_inner));
    };
    let mut stream = BufReader::new(stream);
    let head = head(&mut stream).await?;
    let mut lines = head.lines();
    let words: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let ["CONNECT", target, _] = words.as_slice() else {
        return refuse(&mut stream, "405 Method Not Allowed", "").await;
    };
    note(&|seen| seen.asked.push((*target).to_owned()));
    let credentials = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("proxy-authorization")
            .then(|| value.trim())
    });
    let expected = rules.credentials.as_deref();
    if expected.is_some() && credentials != expected {
        note(&|seen| seen.unauthorized += 1);
        let ask = "Proxy-Authenticate: Basic realm=\"proxy\"\r\n";
        return refuse(&mut stream, "407 Proxy Authentication Required", ask).await;
    }
    let address = rules.names.get(*target).map_or(*target, String::as_str);
    let Ok(mut server) = TcpStream::connect(address).await else {
        return refuse(&mut stream, "502 Bad Gateway", "").await;
    };
    note(&|seen| seen.opened.push((*target).to_owned()));
    stream
        .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
        .await?;
    copy_bidirectional(&mut stream, &mut server).await.map(drop)
}

/// Reads up to the empty line.
async fn head(stream: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let mut head = String::new();
    let mut limited = stream.take(MOST_HEAD);
    while limited.read_line(&mut head).await? > 0 && !head.ends_with("\r\n\r\n") {}
    Ok(head)
}

async fn refuse(
    stream: &mut BufReader<TcpStream>,
    status: &str,
    header: &str,
) -> std::io::Result<()> {
    let answer =
        format!("HTTP/1.1 {status}\r\n{header}Content-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes()).await
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    /// What the proxy answers to a request head; what comes through the tunnel after it.
    fn ask(proxy: &Proxy, head: &str) -> String {
        let mut stream = std::net::TcpStream::connect(proxy.address).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn greeter() -> (SocketAddr, JoinHandle<()>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"hello").unwrap();
        });
        (address, thread)
    }

    #[test]
    fn a_tunnel_is_opened_and_recorded() {
        let (server, thread) = greeter();
        let proxy = Proxy::start().unwrap();
        let answer = ask(
            &proxy,
            &format!("CONNECT {server} HTTP/1.1\r\nHost: {server}\r\n\r\n"),
        );
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.ends_with("hello"), "{answer}");
        assert_eq!(proxy.seen().opened, [server.to_string()]);
        thread.join().unwrap();
    }

    #[test]
    fn a_name_that_only_the_proxy_knows_leads_where_it_says() {
        let (server, thread) = greeter();
        let proxy = Proxy::knowing("service.test:80", &server.to_string()).unwrap();
        let answer = ask(&proxy, "CONNECT service.test:80 HTTP/1.1\r\n\r\n");
        assert!(answer.ends_with("hello"), "{answer}");
        assert_eq!(proxy.seen().opened, ["service.test:80"]);
        thread.join().unwrap();
    }

    #[test]
    fn a_tunnel_is_refused_without_the_password_and_to_nobody() {
        let proxy = Proxy::asking_for("ann", "secret").unwrap();
        let connect = |more: &str| {
            ask(
                &proxy,
                &format!("CONNECT 127.0.0.1:1 HTTP/1.1\r\n{more}\r\n"),
            )
        };
        assert!(connect("").starts_with("HTTP/1.1 407 "));
        assert!(connect("Proxy-Authorization: Basic eA==\r\n").starts_with("HTTP/1.1 407 "));
        let known = "proxy-authorization: Basic YW5uOnNlY3JldA==\r\n";
        assert!(
            connect(known).starts_with("HTTP/1.1 502 "),
            "nobody listens there"
        );
        assert!(ask(&proxy, "GET http://x/ HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
        let seen = proxy.seen();
        assert_eq!((seen.asked.len(), seen.unauthorized), (3, 2));
        assert!(seen.opened.is_empty());
    }
}
