//! A second sandbox goes through its whole life beside the shared one: repaired, restarted,
//! crashed, joined by a guest, ended. Runs inside the shared sandbox's network namespace, whose
//! variables name the programs to use.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use support::Subject;
use switchyard_sandbox::Sandbox;

fn differing(before: &BTreeMap<String, i32>, after: &BTreeMap<String, i32>) -> Vec<String> {
    let changed = after
        .iter()
        .filter(|(name, pid)| before.get(*name) != Some(pid));
    changed.map(|(name, _)| name.clone()).collect()
}

/// Processes, mounts and files that still name the folder.
fn traces(state: &Path) -> Vec<String> {
    let folder = state.display().to_string();
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    let inside = format!("{folder}/");
    let mut traces: Vec<String> = mounts
        .lines()
        .filter(|line| line.contains(&inside))
        .map(str::to_owned)
        .collect();
    for entry in fs::read_dir("/proc").expect("processes").flatten() {
        let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        if words.contains(&inside) {
            traces.push(words);
        }
    }
    let links = fs::read_dir("/var/log/containers")
        .into_iter()
        .flatten()
        .flatten();
    let targets = links.filter_map(|link| fs::read_link(link.path()).ok());
    let ours = targets.filter(|target| target.starts_with(state));
    traces.extend(ours.map(|target| target.display().to_string()));
    if state.exists() {
        traces.push(folder);
    }
    traces
}

#[test]
fn a_sandbox_survives_every_accident_and_ends_without_a_trace() {
    let _shared = Sandbox::shared();
    let subject = Subject::fresh("lifecycle");
    assert_eq!(subject.run(&["status"]).status.code(), Some(1));
    assert_eq!(subject.run(&["env"]).status.code(), Some(3));

    subject.succeed(&["up"]);
    let first = subject.components();
    assert_eq!(first.len(), 10);
    subject.kubectl(&["run", "app", "--image=10.10.0.1:5000/api:v1.0.0"]);
    subject.kubectl(&["wait", "pod/app", "--for=condition=Ready", "--timeout=60s"]);

    subject.succeed(&["up"]);
    assert_eq!(subject.components(), first, "a second `up` changes nothing");

    subject.kill("kube-apiserver");
    subject.kill("traefik");
    assert_eq!(subject.run(&["status"]).status.code(), Some(1));
    subject.succeed(&["up"]);
    let repaired = subject.components();
    assert_eq!(differing(&first, &repaired), ["kube-apiserver", "traefik"]);

    subject.succeed(&["restart-apiserver"]);
    assert_eq!(
        differing(&repaired, &subject.components()),
        ["kube-apiserver"]
    );
    let pod = subject.kubectl(&["get", "pod", "app", "-o", "jsonpath={.status.phase}"]);
    assert_eq!(pod, "Running", "pods outlive the API server");

    a_crash_in_mid_up_and_a_reboot_block_nothing(&subject);
    nothing_is_left_and_bystanders_live(&subject);
}

/// The networks of the subject's pods, as `net:[INODE]`.
fn pod_networks(subject: &Subject) -> BTreeSet<String> {
    let socket = subject.state().join("containerd.sock");
    let socket = socket.display().to_string();
    let words = ["ctr", "--address", &socket, "-n=k8s.io", "tasks", "ls"];
    let tasks = subject.inside(&words);
    let ids = tasks
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().nth(1));
    let networks = ids.map(|id| fs::read_link(format!("/proc/{id}/ns/net")).expect("it runs"));
    networks.map(|link| link.display().to_string()).collect()
}

/// A network named as containerd names those of pods by default, which no sandbox made.
struct ForeignNetwork(String);

impl ForeignNetwork {
    fn add() -> Self {
        let network = Self(format!(
            "cni-5eed5eed-0000-4000-8000-{:012x}",
            std::process::id()
        ));
        network.ip("add");
        network
    }

    fn ip(&self, action: &str) {
        let status = Command::new("ip").args(["netns", action, &self.0]).status();
        assert!(status.expect("ip runs").success());
    }

    fn is_mounted(&self) -> bool {
        let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
        mounts.contains(&format!("/netns/{} nsfs", self.0))
    }
}

impl Drop for ForeignNetwork {
    fn drop(&mut self) {
        self.ip("delete");
    }
}

fn a_crash_in_mid_up_and_a_reboot_block_nothing(subject: &Subject) {
    let state = subject.state();
    let networks = pod_networks(subject);
    assert_eq!(networks.len(), 1, "{networks:?}");
    let foreign = ForeignNetwork::add();
    subject.kill("kubelet");
    subject.kill("containerd");
    // What a deletion leaves that was cut off: a pod's network without CNI's file about it.
    for file in fs::read_dir("/var/lib/cni/results").expect("CNI's folder") {
        let path = file.expect("a file").path();
        if path
            .display()
            .to_string()
            .contains("/switchyard-lifecycle-")
        {
            fs::remove_file(path).expect("it is the subject's");
        }
    }
    fs::remove_file(state.join("sandbox.json")).expect("it was there");
    fs::write(state.join("processes/etcd.json"), "{\"pid\":").expect("half a record");
    assert_eq!(
        subject.run(&["env"]).status.code(),
        Some(3),
        "it does not claim to be up"
    );
    subject.succeed(&["down"]);
    assert_eq!(traces(&state), [] as [String; 0]);
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let left: Vec<_> = networks.iter().filter(|it| mounts.contains(*it)).collect();
    assert!(left.is_empty(), "{left:?} is left:\n{mounts}");
    assert!(foreign.is_mounted(), "somebody else's network was removed");

    subject.succeed(&["up"]);
    let deleted = Command::new("ip")
        .args(["netns", "delete", "lifecycle"])
        .status();
    assert!(deleted.expect("ip runs").success());
    fs::write("/run/netns/lifecycle", "").expect("what a reboot leaves");
    subject.succeed(&["up"]);
    assert_eq!(subject.components().len(), 10);
}

fn nothing_is_left_and_bystanders_live(subject: &Subject) {
    let state = subject.state();
    let mut bystander = Command::new("sleep")
        .arg("600")
        .spawn()
        .expect("sleep runs");
    // What a recycled id looks like: the id of somebody else under our name.
    let record = format!(
        "{{\"pid\":{},\"start_time\":1,\"digest\":\"\"}}",
        bystander.id()
    );
    fs::write(state.join("processes/etcd.json"), record).expect("a record");
    subject.succeed(&["down"]);
    assert!(
        bystander.try_wait().expect("a look").is_none(),
        "the bystander was killed"
    );
    bystander.kill().expect("it is ours");
    bystander.wait().expect("it ends");
    assert_eq!(traces(&state), [] as [String; 0]);
    assert!(!Path::new("/run/netns/lifecycle").exists());
    subject.succeed(&["down"]);
}
