//! Steps of the program under test against a rig.

use switchyard_harness::Step;

use crate::rig::Rig;

impl Rig {
    /// A step that knows the HAProxies and their backend.
    pub(crate) fn bare_step(&self) -> Step {
        Step::new(env!("CARGO_BIN_EXE_traffic-switch"))
            .input("haproxy-api", self.places())
            .input("backend", "web")
            .input("timeout", "20s")
    }

    /// A step over all servers that has what it needs.
    pub(crate) fn step(&self) -> Step {
        self.bare_step()
            .input("command", "servers")
            .input("update", self.update())
            .input("expect-version", "v2")
            .input("version-header", "x-app-version")
            .input("health-url", "http://{host}:{port}/api/health/ready")
            .input("health-interval", "50ms")
            .input("longest-request", "1s")
            .input(
                "state-file",
                self.path().join("state.json").display().to_string(),
            )
    }
}
