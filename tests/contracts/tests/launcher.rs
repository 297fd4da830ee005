//! Black-box tests of `scripts/launch`, which stands between a caller's job and our programs.
//!
//! Each test lays out a runner: a source tree of two tiny programs beside the real launcher, a tool
//! cache, and a caller's checkout that may be hostile. The builds are real, with the real cargo.

#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test that cannot go on panics"
)]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Prints what the tests look at: who runs, with which arguments, and the environment's names.
const PROGRAM: &str = r#"
fn main() {
    println!("program={} pid={}", env!("CARGO_PKG_NAME"), std::process::id());
    println!("arguments={:?}", std::env::args().skip(1).collect::<Vec<_>>());
    println!("directory={}", std::env::current_dir().unwrap().display());
    for (name, value) in std::env::vars() {
        println!("env {name}={value}");
    }
    std::process::exit(std::env::var("EXIT_WITH").map_or(0, |code| code.parse().unwrap()));
}
"#;

const WORKSPACE: &str = r#"[workspace]
resolver = "3"
members = ["bins/*"]

[workspace.package]
version = "7.8.9"

[profile.quick]
inherits = "release"
opt-level = 0
"#;

const LOCK: &str = r#"version = 4

[[package]]
name = "rollout"
version = "7.8.9"

[[package]]
name = "traffic-switch"
version = "7.8.9"
"#;

struct Runner {
    root: TempDir,
    rustup_home: String,
}

impl Runner {
    fn new() -> Self {
        let root = tempfile::Builder::new()
            .prefix("switchyard-launcher")
            .tempdir()
            .unwrap();
        let home = std::env::var("HOME").unwrap();
        let rustup_home =
            std::env::var("RUSTUP_HOME").unwrap_or_else(|_| format!("{home}/.rustup"));
        let runner = Self { root, rustup_home };
        for folder in ["checkout", "tool-cache", "temp", "home"] {
            fs::create_dir(runner.path(folder)).unwrap();
        }
        runner.lay_out_sources();
        runner
    }

    /// A source tree as the runner extracts it, with the real launcher and toolchain file.
    fn lay_out_sources(&self) {
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        self.write("action/Cargo.toml", WORKSPACE);
        self.write("action/Cargo.lock", LOCK);
        fs::create_dir_all(self.path("action/crates")).unwrap();
        fs::create_dir_all(self.path("action/stand-ins")).unwrap();
        fs::create_dir_all(self.path("action/scripts")).unwrap();
        fs::copy(
            project.join("rust-toolchain.toml"),
            self.path("action/rust-toolchain.toml"),
        )
        .unwrap();
        fs::copy(
            project.join("scripts/launch"),
            self.path("action/scripts/launch"),
        )
        .unwrap();
        for name in ["rollout", "traffic-switch"] {
            self.write(
                &format!("action/bins/{name}/Cargo.toml"),
                &format!(
                    "[package]\nname = \"{name}\"\nedition = \"2024\"\nversion.workspace = true\n"
                ),
            );
            self.write(&format!("action/bins/{name}/src/main.rs"), PROGRAM);
        }
    }

    fn path(&self, relative: &str) -> PathBuf {
        // Physical, because the launcher reports physical paths.
        self.root.path().canonicalize().unwrap().join(relative)
    }

    fn write(&self, relative: &str, text: &str) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn write_executable(&self, relative: &str, text: &str) {
        self.write(relative, text);
        fs::set_permissions(self.path(relative), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The launcher as a composite step starts it: in the caller's checkout, with the runner's
    /// variables and nothing else.
    fn launch(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.path("action/scripts/launch"));
        command
            .args(arguments)
            .current_dir(self.path("checkout"))
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap())
            .env("HOME", self.path("home"))
            .env("RUSTUP_HOME", &self.rustup_home)
            .env("GITHUB_ACTIONS", "true")
            .env("GITHUB_WORKSPACE", self.path("checkout"))
            .env("RUNNER_TOOL_CACHE", self.path("tool-cache"))
            .env("RUNNER_TEMP", self.path("temp"))
            .stdin(Stdio::null());
        command
    }

    /// The folder that a build installs into.
    fn installed(&self) -> PathBuf {
        let version = fs::read_dir(self.path("tool-cache/switchyard"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.is_dir())
            .expect("a version is installed");
        let mut architectures = fs::read_dir(version).unwrap();
        architectures.next().unwrap().unwrap().path()
    }

    /// Puts a file of the attacker's into the tool cache in place of an installed one.
    fn replace_installed(&self, name: &str, content: &[u8]) {
        let path = self.installed().join(name);
        fs::remove_file(&path).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[track_caller]
fn assert_ran(output: &Output, program: &str) {
    assert!(
        output.status.success() && stdout(output).contains(&format!("program={program} ")),
        "{program} did not run: {}\n{}\n{}",
        output.status,
        stdout(output),
        stderr(output)
    );
}

#[track_caller]
fn assert_refused(output: &Output, code: i32, message: &str) {
    assert_eq!(output.status.code(), Some(code), "{}", stderr(output));
    assert!(stderr(output).contains(message), "{}", stderr(output));
    assert!(stderr(output).contains("hint: "), "{}", stderr(output));
    assert!(!stdout(output).contains("program="), "{}", stdout(output));
}

fn built(output: &Output) -> bool {
    stderr(output).contains("Build switchyard 7.8.9 from source")
}

/// A PATH with the tools of the system but without cargo, so that a build would fail.
const WITHOUT_CARGO: &str = "/usr/bin:/bin";

#[test]
fn builds_once_for_a_version_and_passes_arguments_and_exit_codes_on() {
    let runner = Runner::new();
    let first = run(runner
        .launch(&["traffic-switch", "switch", "--to", "a b"])
        .env("INPUT_TO", "green"));
    assert_ran(&first, "traffic-switch");
    assert!(built(&first));
    assert!(stdout(&first).contains(r#"arguments=["switch", "--to", "a b"]"#));
    assert!(stdout(&first).contains("env INPUT_TO=green"));

    // The same build holds the other program, and no cargo is needed any more.
    let second = run(runner
        .launch(&["rollout"])
        .env("PATH", WITHOUT_CARGO)
        .env("EXIT_WITH", "41"));
    assert_eq!(second.status.code(), Some(41), "{}", stderr(&second));
    assert!(stdout(&second).contains("program=rollout "));
    assert!(!built(&second));
}

#[test]
fn changed_sources_of_the_same_version_are_another_build() {
    let runner = Runner::new();
    assert_ran(&run(&mut runner.launch(&["rollout"])), "rollout");
    runner.write(
        "action/bins/rollout/src/main.rs",
        "fn main() { println!(\"program=rollout second\"); }",
    );
    let second = run(&mut runner.launch(&["rollout"]));
    assert!(built(&second));
    assert!(stdout(&second).contains("program=rollout second"));
}

#[test]
fn the_program_takes_the_place_of_the_launcher_and_so_gets_the_signals() {
    let runner = Runner::new();
    assert_ran(&run(&mut runner.launch(&["rollout"])), "rollout");
    let child = runner
        .launch(&["rollout"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert!(stdout(&output).contains(&format!("program=rollout pid={pid}\n")));
}

#[test]
fn a_tampered_program_in_the_tool_cache_is_built_again() {
    let runner = Runner::new();
    assert_ran(&run(&mut runner.launch(&["rollout"])), "rollout");
    runner.replace_installed("rollout", b"#!/bin/sh\necho hostile\n");

    let offline = run(runner.launch(&["rollout"]).env("PATH", WITHOUT_CARGO));
    assert!(!stdout(&offline).contains("hostile"));
    assert_refused(&offline, 2, "cargo is not on PATH");

    let again = run(&mut runner.launch(&["rollout"]));
    assert_ran(&again, "rollout");
    assert!(stderr(&again).contains("::warning title=switchyard::"));
    assert!(stderr(&again).contains("is not what was installed there"));
}

#[test]
fn a_record_of_hashes_that_lacks_the_program_vouches_for_nothing() {
    let runner = Runner::new();
    assert_ran(&run(&mut runner.launch(&["rollout"])), "rollout");
    runner.replace_installed("rollout", b"#!/bin/sh\necho hostile\n");
    runner.replace_installed("SHA256SUMS", b"");
    let again = run(&mut runner.launch(&["rollout"]));
    assert_ran(&again, "rollout");
    assert!(built(&again));
}

#[test]
fn an_installed_program_that_became_a_link_is_built_again() {
    let runner = Runner::new();
    assert_ran(&run(&mut runner.launch(&["rollout"])), "rollout");
    let program = runner.installed().join("rollout");
    let elsewhere = runner.path("elsewhere");
    fs::rename(&program, &elsewhere).unwrap();
    symlink(&elsewhere, &program).unwrap();
    assert!(built(&run(&mut runner.launch(&["rollout"]))));
}

#[test]
fn configuration_in_the_callers_checkout_is_not_read() {
    let runner = Runner::new();
    runner.write(
        "checkout/.cargo/config.toml",
        "[build]\nrustc-wrapper = \"/bin/false\"\ntarget-dir = \"/nonexistent\"\n",
    );
    runner.write(
        "checkout/rust-toolchain.toml",
        "[toolchain]\nchannel = \"1.0.0\"\n",
    );
    runner.write("checkout/Cargo.toml", "nonsense");
    assert_ran(&run(&mut runner.launch(&["rollout"])), "rollout");
}

#[test]
fn variables_of_the_callers_job_do_not_reach_the_build() {
    let runner = Runner::new();
    let output = run(runner
        .launch(&["rollout"])
        .env("RUSTC_WRAPPER", "/bin/false")
        .env("RUSTFLAGS", "--nonsense")
        .env("CARGO_HOME", runner.path("checkout"))
        .env("CARGO_BUILD_TARGET", "nonsense"));
    assert_ran(&output, "rollout");
}

#[test]
fn startup_files_and_exported_functions_of_the_callers_shell_are_ignored() {
    let runner = Runner::new();
    runner.write(
        "checkout/startup",
        "echo hostile startup; touch \"$MARK\"\n",
    );
    let output = run(runner
        .launch(&["rollout"])
        .env("BASH_ENV", runner.path("checkout/startup"))
        .env("ENV", runner.path("checkout/startup"))
        .env("MARK", runner.path("mark"))
        .env("BASH_FUNC_sha256sum%%", "() { echo hostile function; }")
        .env("BASH_FUNC_exec%%", "() { echo hostile function; }"));
    assert_ran(&output, "rollout");
    assert!(!runner.path("mark").exists());
    assert!(!stdout(&output).contains("hostile startup"));
    assert!(!stdout(&output).contains("env BASH_ENV="));
}

#[test]
fn programs_are_never_looked_up_on_path_nor_tools_in_the_checkout() {
    let runner = Runner::new();
    for name in ["rollout", "cargo", "rustc"] {
        runner.write_executable(
            &format!("checkout/bin/{name}"),
            "#!/bin/sh\necho hostile\nexit 0\n",
        );
    }
    let path = format!(
        "{}:bin:{}",
        runner.path("checkout/bin").display(),
        std::env::var("PATH").unwrap()
    );
    let output = run(runner.launch(&["rollout"]).env("PATH", path));
    assert_ran(&output, "rollout");
    assert!(!stdout(&output).contains("hostile"));
}

#[test]
fn two_jobs_at_once_share_one_build() {
    let runner = Runner::new();
    let start = || {
        runner
            .launch(&["rollout"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let outputs = [start(), start(), start()].map(|child| child.wait_with_output().unwrap());
    for output in &outputs {
        assert_ran(output, "rollout");
    }
    assert_eq!(outputs.iter().filter(|output| built(output)).count(), 1);
}

#[test]
fn a_cancelled_build_ends_at_once_and_leaves_nothing_behind() {
    let runner = Runner::new();
    runner.write(
        "action/bins/rollout/build.rs",
        &format!(
            "fn main() {{ std::fs::write({:?}, std::process::id().to_string()).unwrap(); \
             std::thread::sleep(std::time::Duration::from_secs(600)); }}",
            runner.path("building")
        ),
    );
    let mut child = runner
        .launch(&["rollout"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("the build runs", || runner.path("building").exists());
    until("the build script wrote its pid", || {
        fs::metadata(runner.path("building")).is_ok_and(|file| file.len() > 0)
    });
    signal(&child, nix::sys::signal::Signal::SIGTERM);
    assert_eq!(child.wait().unwrap().code(), Some(143));

    let script: i32 = fs::read_to_string(runner.path("building"))
        .unwrap()
        .parse()
        .unwrap();
    until("the build script has ended", || {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(script), None).is_err()
    });
    let left: Vec<_> = fs::read_dir(runner.path("tool-cache/switchyard"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("build."))
        .collect();
    assert!(left.is_empty(), "{left:?}");

    runner.write("action/bins/rollout/build.rs", "fn main() {}");
    assert_ran(&run(&mut runner.launch(&["rollout"])), "rollout");
}

#[test]
fn a_build_that_fails_names_the_way_out() {
    let runner = Runner::new();
    runner.write("action/bins/rollout/src/main.rs", "nonsense");
    assert_refused(
        &run(&mut runner.launch(&["traffic-switch"])),
        3,
        "could not be built from source",
    );
}

#[test]
fn without_cargo_the_hint_names_rustup_and_the_directory() {
    let runner = Runner::new();
    let output = run(runner.launch(&["rollout"]).env("PATH", WITHOUT_CARGO));
    assert_refused(&output, 2, "cargo is not on PATH");
    assert!(stderr(&output).contains("SWITCHYARD_BIN_DIR"));
}

#[test]
fn a_tree_with_a_release_manifest_is_not_built_from_source() {
    let runner = Runner::new();
    runner.write("action/release-manifest.json", "{}");
    assert_refused(
        &run(&mut runner.launch(&["rollout"])),
        70,
        "this tree is a release",
    );
}

#[test]
fn a_tool_cache_inside_the_checkout_is_refused() {
    let runner = Runner::new();
    let output = run(runner
        .launch(&["rollout"])
        .env("RUNNER_TOOL_CACHE", runner.path("checkout/cache")));
    assert_refused(&output, 2, "lies inside the workspace");
}

#[test]
fn an_unknown_program_is_refused_with_the_known_ones() {
    let runner = Runner::new();
    for name in ["traffic", "../rollout", "", "."] {
        let output = run(&mut runner.launch(&[name]));
        assert_refused(&output, 2, &format!("unknown program `{name}`"));
        assert!(stderr(&output).contains("rollout traffic-switch"));
    }
    assert_refused(&run(&mut runner.launch(&[])), 2, "no program was named");
}

const LOCAL: &str = "#!/bin/sh\necho program=$(basename \"$0\") local\n";

#[test]
fn a_directory_of_programs_outside_the_checkout_is_used_without_a_build() {
    let runner = Runner::new();
    runner.write_executable("programs/rollout", LOCAL);
    let output = run(runner
        .launch(&["rollout"])
        .env("SWITCHYARD_BIN_DIR", runner.path("programs")));
    assert_ran(&output, "rollout");
    assert!(!runner.path("tool-cache/switchyard").exists());
}

#[test]
fn a_directory_of_programs_inside_the_checkout_is_refused_also_behind_links() {
    let runner = Runner::new();
    runner.write_executable("checkout/programs/rollout", LOCAL);
    symlink(runner.path("checkout/programs"), runner.path("linked")).unwrap();
    fs::create_dir(runner.path("outside")).unwrap();
    symlink(
        "../checkout/programs/rollout",
        runner.path("outside/rollout"),
    )
    .unwrap();
    symlink(runner.path("checkout"), runner.path("workspace")).unwrap();
    for directory in [
        "checkout/programs",
        "linked",
        "outside",
        "temp/../checkout/programs",
    ] {
        let output = run(runner
            .launch(&["rollout"])
            .env("SWITCHYARD_BIN_DIR", runner.path(directory))
            .env("GITHUB_WORKSPACE", runner.path("workspace")));
        assert_refused(&output, 2, "inside the workspace");
    }
}

#[test]
fn a_directory_of_programs_that_cannot_serve_is_refused() {
    let runner = Runner::new();
    runner.write("programs/rollout", "not executable");
    for (directory, message) in [
        ("programs".to_owned(), "not an absolute path"),
        (
            runner.path("missing").display().to_string(),
            "is not a folder",
        ),
        (
            runner.path("programs").display().to_string(),
            "is not an executable file",
        ),
    ] {
        let output = run(runner
            .launch(&["rollout"])
            .env("SWITCHYARD_BIN_DIR", directory));
        assert_refused(&output, 2, message);
    }
}

#[test]
fn setup_puts_exactly_the_chosen_programs_on_path() {
    let runner = Runner::new();
    for name in ["rollout", "traffic-switch"] {
        runner.write_executable(&format!("programs/{name}"), LOCAL);
    }
    for (chosen, expected) in [
        ("traffic-switch", vec!["traffic-switch"]),
        (
            " rollout,\n traffic-switch\n",
            vec!["rollout", "traffic-switch"],
        ),
        ("", vec!["rollout", "traffic-switch"]),
    ] {
        let (path, output) = (runner.path("github-path"), runner.path("github-output"));
        let _ = fs::remove_file(&path);
        let ran = run(runner
            .launch(&["setup"])
            .env("SWITCHYARD_BIN_DIR", runner.path("programs"))
            .env("INPUT_PROGRAMS", chosen)
            .env("GITHUB_PATH", &path)
            .env("GITHUB_OUTPUT", &output));
        assert!(ran.status.success(), "{}", stderr(&ran));
        let folder = fs::read_to_string(&path).unwrap().trim_end().to_owned();
        let mut found: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        found.sort();
        assert_eq!(found, expected);
        assert!(
            fs::read_to_string(&output)
                .unwrap()
                .contains(&format!("directory={folder}\n"))
        );
        assert_ran(
            &run(&mut Command::new(Path::new(&folder).join(expected[0]))),
            expected[0],
        );
    }
    let unknown = run(runner
        .launch(&["setup"])
        .env("INPUT_PROGRAMS", "rollout, trafic-switch"));
    assert_refused(&unknown, 2, "unknown program `trafic-switch`");
}

fn signal(child: &Child, signal: nix::sys::signal::Signal) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, signal).unwrap();
}

#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "waited for 60 s until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
