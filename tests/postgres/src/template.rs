//! A data directory that was initialised once, of which every server of this machine's tests gets a copy:
//! `initdb` takes longer than most tests.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::Uid;

use crate::programs::{as_server_account, give_to_server_account, server_programs, succeed};
use crate::server::{PASSWORD, SUPERUSER};

/// Bump when what is in the template changes.
const VERSION: u32 = 2;

/// Copies the template of a major version to `target`, which must not be there yet.
pub(crate) fn copy_to(target: &Path, major: u32) {
    let programs = server_programs(major);
    let template = once(&format!("data-{major}"), |template| {
        initialise(&programs, template);
    });
    succeed(
        Command::new("cp")
            .args(["--archive", "--reflink=auto"])
            .args([&template, target]),
    );
}

/// Server programs that came with a package, where the account that runs servers can read them.
pub(crate) fn copy_of_programs(package: &Path, major: u32) -> PathBuf {
    // Another package of the same major version is another folder of the cache.
    let pins = package.components().rev().nth(3);
    let pins = pins.map_or_else(String::new, |folder| {
        folder.as_os_str().to_string_lossy().into_owned()
    });
    once(&format!("{pins}-{major}"), |target| {
        succeed(
            Command::new("cp")
                .args(["--recursive", "--no-dereference", "--reflink=auto"])
                .args([package, target]),
        );
        succeed(
            Command::new("chmod")
                .args(["-R", "u+rwX,go+rX"])
                .arg(target),
        );
    })
}

/// A folder that whoever comes first makes, and everybody uses.
fn once(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let folder = folder();
    let lock = open_lock(&folder.join(format!("{name}.lock")));
    let _held = Flock::lock(lock, FlockArg::LockExclusive)
        .unwrap_or_else(|(_, cause)| panic!("lock {}: {cause}", folder.display()));
    let (made, complete) = (folder.join(name), folder.join(format!("{name}.complete")));
    if !complete.exists() {
        // What an interrupted run left.
        let _ = std::fs::remove_dir_all(&made);
        make(&made);
        File::create(&complete).expect("mark the folder as complete");
    }
    made
}

fn initialise(programs: &Path, template: &Path) {
    let password = template.with_extension("password");
    std::fs::write(&password, PASSWORD).expect("write the password of the superuser");
    std::fs::create_dir(template).expect("make the template's folder");
    give_to_server_account(template);
    // Small segments: each server keeps a few of them.
    succeed(
        as_server_account(&programs.join("initdb"))
            .args(["--no-sync", "--encoding=UTF8", "--locale=C.UTF-8"])
            .args(["--auth=scram-sha-256", "--wal-segsize=1"])
            .arg(format!("--username={SUPERUSER}"))
            .arg(format!("--pwfile={}", password.display()))
            .arg(format!("--pgdata={}", template.display())),
    );
}

/// A folder of this account's own: nobody else could have put a data directory there.
fn folder() -> PathBuf {
    let account = Uid::effective();
    let folder = std::env::temp_dir().join(format!("switchyard-postgres-{VERSION}-{account}"));
    let made = DirBuilder::new().mode(0o755).create(&folder);
    let found = std::fs::symlink_metadata(&folder)
        .unwrap_or_else(|cause| panic!("make {}: {cause}, {made:?}", folder.display()));
    assert!(
        found.is_dir() && found.uid() == account.as_raw(),
        "{} is not a folder of our own",
        folder.display()
    );
    folder
}

fn open_lock(path: &Path) -> File {
    let opened = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path);
    opened.unwrap_or_else(|cause| panic!("open {}: {cause}", path.display()))
}
