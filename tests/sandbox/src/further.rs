//! A sandbox of one test's own beside the shared one, for what everybody in a shared one would
//! notice. Knows nothing of the test.

use crate::{
    down::down,
    error::Result,
    instance::{InstanceName, Layout, cache_root},
    sandbox::Sandbox,
    up::{Scope, UpOptions, up},
};

/// A running sandbox that ends when it is dropped.
#[derive(Debug)]
pub struct FurtherSandbox {
    sandbox: Sandbox,
    _ends: EndsOnDrop,
}

impl FurtherSandbox {
    /// Brings it up with the programs of the shared one, and moves the calling thread into its
    /// network. Threads and processes that are started from then on are inside too, so a runtime
    /// has to be made afterwards. What an earlier run left under this name is removed.
    ///
    /// # Errors
    /// The shared one is a cluster of somebody else, or a component does not start.
    ///
    /// # Panics
    /// When the shared one does not run, and inside a runtime.
    pub fn start(name: &str) -> Result<Self> {
        let programs = Sandbox::shared().all_programs()?;
        let name: InstanceName = name.parse()?;
        let root = cache_root(|variable| std::env::var(variable).ok())?;
        let layout = Layout::new(name.clone(), &root)?;
        down(&layout)?;
        // Made before `up`: one that does not come up is not left half-started.
        let ends = EndsOnDrop(layout.clone());
        up(&UpOptions {
            layout,
            programs: programs.folder,
            sandbox: programs.sandbox,
            apps: programs.apps,
            scope: Scope::Everything,
        })?;
        Ok(Self {
            sandbox: Sandbox::find(&name)?,
            _ends: ends,
        })
    }

    /// The sandbox, to be used like the shared one.
    #[must_use]
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }
}

#[derive(Debug)]
struct EndsOnDrop(Layout);

impl Drop for EndsOnDrop {
    fn drop(&mut self) {
        use std::io::Write as _;
        // Nothing can be done about a failure.
        if let Err(error) = down(&self.0) {
            let _ = writeln!(std::io::stderr(), "{}", error.chain());
        }
    }
}
