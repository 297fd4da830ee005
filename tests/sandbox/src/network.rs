//! The network namespace: made, entered, removed. Knows nothing of what runs inside.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::MetadataExt as _,
    process::{Command, Stdio},
};

use nix::sched::{CloneFlags, setns};

use crate::{
    error::{Context as _, Result, SandboxError},
    instance::{Layout, NODE_ADDRESS},
};

/// Sysctls of the namespace. Node ports stay free for Services; ports of closed connections are
/// reused after a second, or a load without keep-alive runs out of them.
const SYSCTLS: [(&str, &str); 4] = [
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv4/tcp_tw_reuse", "1"),
    ("net/ipv4/ip_local_reserved_ports", "30000-32767"),
    ("net/ipv4/ip_local_port_range", "16384 65000"),
];

/// Whether the namespace exists as a mounted namespace, not only as the empty file that a reboot
/// or a crash leaves.
pub(crate) fn exists(layout: &Layout) -> bool {
    Command::new("ip")
        .args(["-n", &layout.name.to_string(), "link", "show", "lo"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Creates the namespace with its loopback and the node's address.
pub(crate) fn create(layout: &Layout) -> Result<()> {
    let name = layout.name.to_string();
    run_ip(&["netns", "add", &name], "")?;
    // A veth pair carries the node's address: the kernel needs no `dummy` module for it.
    let batch = format!(
        "link set lo up\nlink add d0 type veth peer name d1\naddr add {NODE_ADDRESS}/24 dev d0\n\
         link set d0 up\nlink set d1 up\nroute add default dev d0\n"
    );
    run_ip(&["-n", &name, "-batch", "-"], &batch)
}

/// Sets the namespace's sysctls. The calling thread has to be inside.
pub(crate) fn configure() -> Result<()> {
    for (name, value) in SYSCTLS {
        let path = format!("/proc/sys/{name}");
        fs::write(&path, value).context(|| format!("cannot write `{value}` to {path}"))?;
    }
    Ok(())
}

/// Removes the namespace, mounted or not.
pub(crate) fn remove(layout: &Layout) -> Result<()> {
    if fs::symlink_metadata(layout.network_namespace()).is_err() {
        return Ok(());
    }
    run_ip(&["netns", "delete", &layout.name.to_string()], "")
}

/// Moves the calling thread into the namespace; threads and processes that it starts follow. Only
/// the network changes: `/sys` stays as it is, which containers need (`ip netns exec` remounts it
/// and hides the cgroups).
pub(crate) fn enter(layout: &Layout) -> Result<()> {
    let path = layout.network_namespace();
    let file = File::open(&path).context(|| format!("cannot open {}", path.display()))?;
    setns(file, CloneFlags::CLONE_NEWNET).context(|| format!("cannot enter {}", path.display()))
}

/// Whether the calling thread is inside.
pub(crate) fn is_inside(layout: &Layout) -> bool {
    let inode = |path: &str| fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    let own = inode("/proc/thread-self/ns/net");
    own.is_some() && own == inode(&layout.network_namespace().to_string_lossy())
}

fn run_ip(arguments: &[&str], input: &str) -> Result<()> {
    let words = arguments.join(" ");
    let mut child = Command::new("ip")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context(|| "cannot run `ip` (package iproute2)")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(input.as_bytes())
            .context(|| format!("cannot feed `ip {words}`"))?;
    }
    let output = child
        .wait_with_output()
        .context(|| format!("cannot wait for `ip {words}`"))?;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(SandboxError::new(format!("`ip {words}` failed: {message}")))
}
