//! SIGINT and SIGTERM as an orderly request to stop.
//!
//! The runner sends SIGINT, SIGTERM 7.5 s later and kills 2.5 s after that, so a command has 7 s.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How long a command may take to end in order after the first signal.
pub const GRACE: Duration = Duration::from_secs(7);

/// The signal that asked the command to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT: a cancelled run, or Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl Signal {
    /// 128 + the signal's number.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }

    /// The signal's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }
}

/// A request to stop that every part of a command can wait for. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Cancel {
    token: CancellationToken,
    signal: Arc<OnceLock<Signal>>,
}

impl Cancel {
    /// Starts listening for SIGINT and SIGTERM. Call inside a tokio runtime.
    ///
    /// # Errors
    /// When the operating system refuses the handlers.
    pub fn listen() -> std::io::Result<Self> {
        let cancel = Self::default();
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let ours = cancel.clone();
        tokio::spawn(async move {
            let which = tokio::select! {
                _ = interrupt.recv() => Signal::Interrupt,
                _ = terminate.recv() => Signal::Terminate,
            };
            ours.request(which);
        });
        Ok(cancel)
    }

    /// Asks the command to stop, as `signal` would.
    pub fn request(&self, signal: Signal) {
        // A second signal does not change what the first one asked for.
        let _ = self.signal.set(signal);
        self.token.cancel();
    }

    /// Resolves when the command shall stop.
    pub async fn cancelled(&self) -> Signal {
        self.token.cancelled().await;
        self.requested().unwrap_or(Signal::Terminate)
    }

    /// The signal that asked to stop, if one did.
    #[must_use]
    pub fn requested(&self) -> Option<Signal> {
        self.signal.get().copied()
    }

    /// A token for code that knows tokio but not this crate. Cancelling it cancels nothing here.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.token.child_token()
    }
}
