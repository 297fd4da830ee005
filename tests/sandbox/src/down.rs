//! Ends a sandbox: its processes, its containers, its mounts, its namespaces, its files, and
//! nothing that it did not start.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    mount::{MntFlags, umount2},
    sys::signal::Signal,
};

use crate::{
    description::{Description, lock},
    error::{Context as _, Result},
    foreign,
    instance::Layout,
    network,
    process::{self, ProcessRecord},
    steps::Steps,
};

/// Where CNI remembers what it set up, by network name.
const CNI_RESULTS: &str = "/var/lib/cni/results";
/// Where the kubelet links logs, whatever it is configured to.
const CONTAINER_LOGS: &str = "/var/log/containers";

/// Ends the sandbox. One that is not there is no error.
pub(crate) fn down(layout: &Layout) -> Result<()> {
    let steps = Steps::begin();
    let _lock = lock(layout, steps)?;
    if let Some(description) = Description::stored(layout)
        && description.network_namespace.is_none()
    {
        foreign::leave(&description, steps);
    }
    let ended = remove_everything(layout)?;
    steps.done(format!("down: {ended} processes ended"));
    Ok(())
}

/// Removes all that a sandbox left, in whatever state it is. Returns the number of processes that
/// had to be ended.
pub(crate) fn remove_everything(layout: &Layout) -> Result<usize> {
    // Killed and not asked: nothing of their state is kept.
    let (shims, components): (Vec<_>, Vec<_>) = process::owned(layout)
        .into_iter()
        .partition(|(_, words)| is_shim(words));
    let mut ended = kill_all(components.into_iter().map(|(record, _)| record))?;
    // With kubelet and containerd gone no new container appears.
    let mut cgroups = BTreeSet::new();
    let late = process::owned(layout).into_iter().chain(shims);
    for (shim, _) in late {
        let containers = process::children(shim.pid());
        for container in &containers {
            cgroups.extend(container_cgroups(container));
        }
        ended += kill_all(containers.into_iter())? + kill_all(std::iter::once(shim))?;
    }
    for cgroup in cgroups {
        // Only an empty one can be removed, and only an empty one should be.
        let _ = fs::remove_dir(cgroup);
    }
    remove_shim_sockets(layout);
    forget_pod_networks(layout);
    remove_log_links(layout);
    unmount_below(&layout.state)?;
    network::remove(layout)?;
    if layout.state.exists() {
        fs::remove_dir_all(&layout.state)
            .context(|| format!("cannot remove {}", layout.state.display()))?;
    }
    Ok(ended)
}

fn is_shim(words: &[String]) -> bool {
    words
        .first()
        .is_some_and(|program| program.contains("containerd-shim"))
}

fn kill_all(records: impl Iterator<Item = ProcessRecord>) -> Result<usize> {
    let records: Vec<ProcessRecord> = records.filter(ProcessRecord::is_alive).collect();
    for record in &records {
        process::stop(record, Signal::SIGKILL, Duration::from_secs(10))?;
    }
    Ok(records.len())
}

/// The cgroup folders of a container's first process, in every hierarchy.
fn container_cgroups(container: &ProcessRecord) -> Vec<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap_or_default();
    text.lines().filter_map(cgroup_folder).collect()
}

/// Reads a line such as `4:memory:/k8s.io/6f…`. Only folders named like a container are ours.
fn cgroup_folder(line: &str) -> Option<PathBuf> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, path) = (fields.next()?, fields.next()?);
    let name = path.rsplit('/').next()?;
    if name.len() != 64 || !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let hierarchy = match controllers.strip_prefix("name=").unwrap_or(controllers) {
        // cgroup v2, alone or beside v1.
        "" if Path::new("/sys/fs/cgroup/unified").exists() => "unified",
        controller => controller,
    };
    let root = Path::new("/sys/fs/cgroup").join(hierarchy);
    Some(root.join(path.trim_start_matches('/')))
}

/// A killed shim leaves its socket, outside of the state folder; its name stands inside.
fn remove_shim_sockets(layout: &Layout) {
    let tasks = layout
        .state
        .join("containerd-state/io.containerd.runtime.v2.task/k8s.io");
    for task in fs::read_dir(tasks).into_iter().flatten().flatten() {
        let address = fs::read_to_string(task.path().join("address")).unwrap_or_default();
        if let Some(socket) = address.trim().strip_prefix("unix://") {
            let _ = fs::remove_file(socket);
        }
    }
}

/// CNI keeps one file for each pod, in one folder for the whole machine. The network namespaces that
/// they name are mounted below the state folder.
fn forget_pod_networks(layout: &Layout) {
    let prefix = format!("{}-", layout.pod_network());
    for entry in fs::read_dir(CNI_RESULTS).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let content = fs::read_to_string(entry.path()).unwrap_or_default();
        let Ok(result) = serde_json::from_str::<serde_json::Value>(&content) else {
            continue;
        };
        // The name alone could belong to a sandbox whose name begins like ours.
        if name.starts_with(&prefix) && result["networkName"] == layout.pod_network() {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The kubelet links every container's log from one folder for the whole machine.
fn remove_log_links(layout: &Layout) {
    for link in fs::read_dir(CONTAINER_LOGS).into_iter().flatten().flatten() {
        if fs::read_link(link.path()).is_ok_and(|target| target.starts_with(&layout.state)) {
            let _ = fs::remove_file(link.path());
        }
    }
}

fn unmount_below(state: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts").context(|| "cannot read the mounts")?;
    for mount in mounts_below(&mounts, state) {
        umount2(&mount, MntFlags::MNT_DETACH)
            .context(|| format!("cannot unmount {}", mount.display()))?;
    }
    Ok(())
}

/// Mount points below a folder, the latest first. The folder's path has no spaces, so theirs
/// could only come from a pod's volume names, which have none either.
fn mounts_below(mounts: &str, folder: &Path) -> Vec<PathBuf> {
    let points = mounts
        .lines()
        .rev()
        .filter_map(|line| line.split(' ').nth(1));
    points
        .map(PathBuf::from)
        .filter(|point| point.starts_with(folder))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_named_like_a_container_are_removed() {
        let id = "6f".repeat(32);
        let folder = cgroup_folder(&format!("4:memory:/k8s.io/{id}"));
        assert_eq!(
            folder,
            Some(format!("/sys/fs/cgroup/memory/k8s.io/{id}").into())
        );
        assert_eq!(cgroup_folder("4:memory:/"), None);
        assert_eq!(cgroup_folder("4:memory:/user.slice"), None);
        assert_eq!(cgroup_folder("nonsense"), None);
    }

    #[test]
    fn mounts_of_a_sandbox_with_a_longer_name_are_left_alone() {
        let mounts = "a /s/one x\nb /s/one/p x\nc /s/one-two/p x\nd /s/one/p/q x\n";
        let found = mounts_below(mounts, Path::new("/s/one"));
        let expected: Vec<PathBuf> = ["/s/one/p/q", "/s/one/p", "/s/one"]
            .map(PathBuf::from)
            .into();
        assert_eq!(found, expected);
    }
}
