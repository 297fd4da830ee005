//! The process of a server: started from a thread that lives as long as this process, because the kernel
//! ends a server together with the thread that started it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::programs::as_server_account;

/// How long a server may take to start or to end: the machine may be busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What the thread that starts servers is asked for.
struct Order {
    program: PathBuf,
    arguments: Vec<String>,
    log: File,
    reply: Sender<Child>,
}

/// Starts the `postgres` of a folder of programs with its output in `log`.
pub(crate) fn start(programs: &Path, data: &Path, log: &Path) -> Child {
    let (reply, started) = channel();
    let order = Order {
        program: programs.join("postgres"),
        arguments: vec!["-D".to_owned(), data.display().to_string()],
        log: File::create(log).expect("make the server's log"),
        reply,
    };
    let sent = keeper()
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send(order);
    sent.expect("the thread that starts servers lives");
    started.recv().expect("a server is started")
}

fn keeper() -> &'static Mutex<Sender<Order>> {
    static KEEPER: OnceLock<Mutex<Sender<Order>>> = OnceLock::new();
    KEEPER.get_or_init(|| {
        let (sender, orders) = channel::<Order>();
        std::thread::spawn(move || {
            for order in orders {
                let errors = order.log.try_clone().expect("share the log");
                let child = as_server_account(&order.program)
                    .args(&order.arguments)
                    .stdin(Stdio::null())
                    .stdout(order.log)
                    .stderr(errors)
                    .spawn();
                // Whoever asked may be gone: nothing to tell then.
                let _ = order.reply.send(child.expect("start postgres"));
            }
        });
        Mutex::new(sender)
    })
}

/// Signals a server and waits until it has ended.
pub(crate) fn end(child: &mut Child, signal: Signal) {
    send(child, signal);
    let deadline = Instant::now() + PATIENCE;
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() > deadline {
            send(child, Signal::SIGKILL);
            let _ = child.wait();
            panic!("the server did not end within {PATIENCE:?} after {signal}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn send(child: &Child, signal: Signal) {
    let id = Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
    // A server that is gone already is what was wanted.
    let _ = kill(id, signal);
}
