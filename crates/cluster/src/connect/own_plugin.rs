//! Whether a kubeconfig may start our own credential plugin without anybody's leave.
//!
//! Being our program is not enough. A kubeconfig also says which token the plugin gets and to which
//! server the client sends it: one from a pull request could have this job's token sent to a server of
//! its choice. So it must be one that our login wrote in this job: a file of ours that nobody else can
//! read, below the runner's folder for temporary files, where a checkout puts nothing.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use kube::config::ExecConfig;
use nix::unistd::Uid;

/// Our own credential plugin, and where the kubeconfigs lie that may start it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnPlugin {
    /// The plugin's file, the one installed beside the running program.
    pub program: PathBuf,
    /// The runner's folder for temporary files, which is emptied with the job.
    pub folder: PathBuf,
}

/// The plugin's word in its arguments.
const WORD: &str = "credential";

impl OwnPlugin {
    /// Whether this is a call of our plugin from files that our login wrote.
    pub(super) fn is_called_by(&self, exec: &ExecConfig, files: &[PathBuf]) -> bool {
        self.is_meant(exec) && !files.is_empty() && files.iter().all(|file| self.wrote(file))
    }

    /// Whether the call starts our program, as itself: an environment of the kubeconfig's own could
    /// lead it to another proxy, other authorities or another library.
    fn is_meant(&self, exec: &ExecConfig) -> bool {
        let command = exec.command.as_deref().map(Path::new);
        let is_ours = command
            .is_some_and(|command| command.is_absolute() && same_file(command, &self.program));
        let word = exec.args.as_ref().and_then(|arguments| arguments.first());
        is_ours
            && exec.env.as_ref().is_none_or(Vec::is_empty)
            && word.is_some_and(|word| word == WORD)
    }

    fn wrote(&self, file: &Path) -> bool {
        let (Ok(found), Ok(real), Ok(folder)) = (
            file.symlink_metadata(),
            file.canonicalize(),
            self.folder.canonicalize(),
        ) else {
            return false;
        };
        found.is_file()
            && found.uid() == Uid::effective().as_raw()
            && found.mode() & 0o077 == 0
            && real.starts_with(folder)
    }
}

fn same_file(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    struct Case {
        root: tempfile::TempDir,
    }

    impl Case {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            std::fs::create_dir(root.path().join("temp")).unwrap();
            std::fs::create_dir(root.path().join("checkout")).unwrap();
            std::fs::write(root.path().join("oidc-login"), "").unwrap();
            Self { root }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.root.path().join(name)
        }

        fn kubeconfig(&self, name: &str, mode: u32) -> PathBuf {
            let path = self.path(name);
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            path
        }

        fn takes(&self, exec: &ExecConfig, files: &[PathBuf]) -> bool {
            let own = OwnPlugin {
                program: self.path("oidc-login"),
                folder: self.path("temp"),
            };
            own.is_called_by(exec, files)
        }

        fn call(&self, change: impl FnOnce(&mut ExecConfig)) -> ExecConfig {
            let command = self.path("oidc-login").display().to_string();
            let exec = serde_json::json!({ "command": command, "args": ["credential", "azure"] });
            let mut exec = serde_json::from_value(exec).unwrap();
            change(&mut exec);
            exec
        }
    }

    #[test]
    fn a_kubeconfig_that_the_login_wrote_may_start_our_plugin() {
        let case = Case::new();
        let file = case.kubeconfig("temp/config", 0o600);
        assert!(case.takes(&case.call(|_| {}), std::slice::from_ref(&file)));
        // As the launcher puts it on PATH.
        symlink(case.path("oidc-login"), case.path("temp/oidc-login")).unwrap();
        let linked = case.path("temp/oidc-login").display().to_string();
        assert!(case.takes(&case.call(|exec| exec.command = Some(linked)), &[file]));
    }

    #[test]
    fn a_kubeconfig_from_elsewhere_may_not() {
        let case = Case::new();
        let call = case.call(|_| {});
        let written = case.kubeconfig("temp/config", 0o600);
        let checked_out = case.kubeconfig("checkout/config", 0o600);
        let readable = case.kubeconfig("temp/readable", 0o640);
        let link = case.path("temp/link");
        symlink(&checked_out, &link).unwrap();
        let around = case.path("temp/../checkout/config");
        for file in [
            &checked_out,
            &readable,
            &link,
            &around,
            &case.path("temp/none"),
        ] {
            assert!(
                !case.takes(&call, std::slice::from_ref(file)),
                "{}",
                file.display()
            );
            assert!(
                !case.takes(&call, &[written.clone(), file.clone()]),
                "merged with {}",
                file.display()
            );
        }
        assert!(!case.takes(&call, &[]));
    }

    #[test]
    fn another_program_another_word_or_an_environment_may_not() {
        let case = Case::new();
        let file = case.kubeconfig("temp/config", 0o600);
        std::fs::write(case.path("checkout/oidc-login"), "").unwrap();
        let planted = case.path("checkout/oidc-login").display().to_string();
        let variable = HashMap::from([("name".to_owned(), "LD_PRELOAD".to_owned())]);
        let calls: [ExecConfig; 6] = [
            case.call(|exec| exec.command = Some(planted)),
            case.call(|exec| exec.command = Some("oidc-login".to_owned())),
            case.call(|exec| exec.command = None),
            case.call(|exec| exec.args = None),
            case.call(|exec| exec.args = Some(vec!["explain".to_owned()])),
            case.call(|exec| exec.env = Some(vec![variable])),
        ];
        for call in calls {
            assert!(
                !case.takes(&call, std::slice::from_ref(&file)),
                "{:?}",
                call.command
            );
        }
    }
}
