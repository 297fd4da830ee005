//! The process: environment, ports, signals, exit codes. Decides nothing about answers.

use std::{
    convert::Infallible,
    io,
    process::ExitCode,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use crate::{
    behaviour::Behaviour,
    routes::{App, Service},
};

/// How long a draining application waits for the requests in flight after its drain time.
const LAST_REQUESTS: Duration = Duration::from_secs(20);

/// Runs an application until a signal or an ordered death ends it. Reads `VERSION`, `PORT`
/// (8080), `CONTROL_PORT` (8081), `POD_NAME` or `HOSTNAME`, and one variable for each field of
/// [`Behaviour`].
#[must_use]
pub fn run(app: App) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = runtime.and_then(|runtime| {
        let code = runtime.block_on(serve(app));
        // Nothing is finished on purpose: an application that does not drain drops its requests.
        runtime.shutdown_background();
        code
    });
    match outcome {
        Ok(code) => code,
        Err(error) => {
            log(&format!("fatal: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn serve(app: App) -> io::Result<ExitCode> {
    // Handlers first: a process that is PID 1 of its container ignores SIGTERM without one.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let behaviour = Behaviour::from_environment(variable).map_err(io::Error::other)?;
    let version = variable("VERSION").unwrap_or_else(|| "v0.0.0".to_owned());
    let pod = variable("POD_NAME")
        .or_else(|| variable("HOSTNAME"))
        .unwrap_or_default();
    log(&format!("{app:?} {version} starting with {behaviour:?}"));
    if behaviour.crash_at_start {
        log("fatal: crash at start ordered by `CRASH_AT_START`");
        return Ok(ExitCode::FAILURE);
    }
    tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(behaviour.start_delay_ms)) => {}
        _ = terminate.recv() => return Ok(ExitCode::from(143)),
    }
    let service = Arc::new(Service::new(app, version, pod, behaviour));
    let main_port = listen(variable("PORT").as_deref().unwrap_or("8080")).await?;
    let control_port = listen(variable("CONTROL_PORT").as_deref().unwrap_or("8081")).await?;
    let (address, control) = (main_port.local_addr()?, control_port.local_addr()?);
    log(&format!("listening on {address}, control on {control}"));
    let graceful = GracefulShutdown::new();
    tokio::spawn(grow(service.clone()));
    tokio::spawn(accept_control(control_port, service.clone()));
    let code = tokio::select! {
        error = accept(&main_port, &service, &graceful) => return Err(error),
        () = service.death.notified() => {
            log("fatal: request limit reached, ordered by `exit_after_requests`");
            return Ok(ExitCode::from(service.behaviour().exit_code));
        }
        _ = terminate.recv() => ExitCode::from(143),
        _ = interrupt.recv() => ExitCode::from(130),
    };
    let Some(drain) = service.behaviour().drain_ms else {
        log("terminated, requests in flight are dropped");
        return Ok(code);
    };
    log(&format!("terminated, draining for {drain} ms"));
    service.draining.store(true, Ordering::Relaxed);
    let serving = accept(&main_port, &service, &graceful);
    if let Ok(error) = tokio::time::timeout(Duration::from_millis(drain), serving).await {
        return Err(error);
    }
    drop(main_port);
    let finished = tokio::time::timeout(LAST_REQUESTS, graceful.shutdown()).await;
    log(if finished.is_ok() {
        "drained"
    } else {
        "requests in flight outlived the drain"
    });
    Ok(ExitCode::SUCCESS)
}

async fn listen(port: &str) -> io::Result<TcpListener> {
    let number = port.parse::<u16>().map_err(|_| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("`{port}` is not a port number"),
        )
    })?;
    TcpListener::bind(("0.0.0.0", number)).await
}

/// Serves until accepting fails for good; the error is the only way out.
async fn accept(
    port: &TcpListener,
    service: &Arc<Service>,
    graceful: &GracefulShutdown,
) -> io::Error {
    loop {
        let stream = match port.accept().await {
            Ok((stream, _)) => stream,
            // The client gave up between its handshake and our accept.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => return error,
        };
        let _ = stream.set_nodelay(true);
        let service = service.clone();
        let answer = service_fn(move |request| {
            let service = service.clone();
            async move { Ok::<_, Infallible>(service.answer(request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), answer);
        tokio::spawn(graceful.watch(connection));
    }
}

async fn accept_control(port: TcpListener, service: Arc<Service>) {
    while let Ok((stream, _)) = port.accept().await {
        let service = service.clone();
        let answer = service_fn(move |request| {
            let service = service.clone();
            async move { Ok::<_, Infallible>(service.control(request).await) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
    }
}

async fn grow(service: Arc<Service>) {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    loop {
        seconds.tick().await;
        let mib = service.behaviour().memory_growth_mib;
        if mib > 0 {
            service.grow(mib);
        }
    }
}

/// Writes one line to stderr: what `kubectl logs` shows.
fn log(text: &str) {
    use io::Write as _;
    let _ = writeln!(io::stderr(), "{text}");
}
