//! Where PostgreSQL's programs are, and as whom its server runs.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nix::unistd::Uid;

use crate::template;
use crate::tools::tool;

/// Folder of the server's and the client's programs of the pinned major version.
///
/// # Panics
/// When it is not installed.
#[must_use]
pub fn programs() -> &'static Path {
    let folder = Path::new("/usr/lib/postgresql/15/bin");
    assert!(
        folder.join("initdb").exists(),
        "PostgreSQL 15 is not installed: run `scripts/tools postgresql`"
    );
    folder
}

/// Path of one of them.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    programs().join(name)
}

/// Major version of the programs that tests use unless they say otherwise.
pub(crate) const PINNED: u32 = 15;

/// Folder of the server's programs of a major version, readable to the account that runs servers.
///
/// # Panics
/// When there are none of it.
pub(crate) fn server_programs(major: u32) -> PathBuf {
    if major == PINNED {
        return programs().to_owned();
    }
    let package = tool("postgresql-majors").join(format!("node_modules/pg{major}/native"));
    assert!(
        package.join("bin/postgres").exists(),
        "tests/tools/postgresql-majors has no PostgreSQL {major}"
    );
    template::copy_of_programs(&package, major).join("bin")
}

/// A command as the account that may run a server: PostgreSQL refuses root.
///
/// The kernel sends SIGQUIT, an immediate shutdown, when the thread that starts it ends.
pub(crate) fn as_server_account(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    if Uid::effective().is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    }
    command
        .arg("--pdeathsig=QUIT")
        .arg(program)
        .env_clear()
        .env("LC_ALL", "C.UTF-8")
        .current_dir("/");
    command
}

/// Gives a file or folder to the account that runs servers.
pub(crate) fn give_to_server_account(path: &Path) {
    if Uid::effective().is_root() {
        let account = nix::unistd::User::from_name("postgres").expect("read the accounts");
        let account = account.expect("PostgreSQL's package makes the account `postgres`");
        nix::unistd::chown(path, Some(account.uid), Some(account.gid))
            .unwrap_or_else(|cause| panic!("give {} away: {cause}", path.display()));
    }
}

/// Runs a command to its end and insists on success.
pub(crate) fn succeed(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|cause| panic!("start {:?}: {cause}", command.get_program()));
    assert!(
        output.status.success(),
        "{:?} ended with {}: {}{}",
        command.get_program(),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}
