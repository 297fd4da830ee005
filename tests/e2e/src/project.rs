//! The project as a caller's runner sees it: the files of the last commit, and programs to run. It
//! builds nothing that is not built by cargo, and starts no workflow.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Doing as _, Result};

/// What the archive has of the commit: what a step of a workflow uses. act copies the whole repository three
/// times for every step that uses one of its actions, file by file; the programs are built already, so nothing
/// compiles the sources.
const USED: [&str; 6] = [
    "action.yml",
    ".github/workflows",
    "actions",
    "bins/*/Cargo.toml",
    "scripts/launch",
    "tests/e2e/stand-ins",
];

/// The commit's files and the built programs, laid out in a folder.
#[derive(Debug, Clone)]
pub struct Project {
    /// The extracted `git archive HEAD` of what steps use: what `uses: switchyard-ci/switchyard/…@v1` resolves to.
    pub archive: PathBuf,
    /// The folder that `SWITCHYARD_BIN_DIR` names: each program behind `composite-step`.
    pub(crate) steps: PathBuf,
    /// The folder of the real programs.
    pub(crate) programs: PathBuf,
    /// The folder of act.
    pub(crate) tools: PathBuf,
    /// The checkout that this was made from.
    pub(crate) root: PathBuf,
}

impl Project {
    /// Extracts the last commit into `folder` and puts the programs of `programs` (and the
    /// `composite-step` of `steps`) behind it.
    ///
    /// # Errors
    /// No git, no commit, or a program that is not built.
    pub fn lay_out(folder: &Path, programs: &Path, composite_step: &Path) -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let root = root.canonicalize().doing(|| "find the project".into())?;
        let project = Self {
            archive: folder.join("archive"),
            steps: folder.join("steps"),
            programs: programs.to_owned(),
            tools: tools(&root)?,
            root,
        };
        project.extract()?;
        std::fs::create_dir_all(&project.steps).doing(|| "make a folder".into())?;
        for name in project.names()? {
            let program = programs.join(&name);
            if !program.is_file() {
                return Err(format!(
                    "{} is not built\nhint: cargo build --workspace --bins",
                    program.display()
                ));
            }
            // `composite-step` knows by the link's name which program it stands before.
            symlink(composite_step, project.steps.join(&name))
                .doing(|| format!("link `{name}`"))?;
        }
        Ok(project)
    }

    /// The names of the programs, as the commit has them.
    fn names(&self) -> Result<Vec<String>> {
        let entries = std::fs::read_dir(self.archive.join("bins"));
        let entries = entries.doing(|| "read the archive's bins".into())?;
        Ok(entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect())
    }

    fn extract(&self) -> Result<()> {
        std::fs::create_dir_all(&self.archive).doing(|| "make a folder".into())?;
        let mut git = Command::new("git");
        git.args(["archive", "--format=tar", "HEAD", "--"])
            .args(USED)
            .current_dir(&self.root)
            .stdout(Stdio::piped());
        let mut git = git.spawn().doing(|| "start git".into())?;
        let stream = git.stdout.take().ok_or("git has no output")?;
        let mut tar = Command::new("tar");
        tar.arg("-x").arg("-C").arg(&self.archive).stdin(stream);
        let tar = tar.status().doing(|| "start tar".into())?;
        let git = git.wait().doing(|| "wait for git".into())?;
        if git.success() && tar.success() {
            Ok(())
        } else {
            Err(format!("git archive HEAD: {git}, tar: {tar}"))
        }
    }
}

/// The folder of the pinned tools, which `scripts/tools` installs when they are missing.
fn tools(root: &Path) -> Result<PathBuf> {
    let output = Command::new(root.join("scripts/tools"))
        .arg("python")
        .stderr(Stdio::inherit())
        .output()
        .doing(|| "run scripts/tools".into())?;
    if !output.status.success() {
        return Err(format!("scripts/tools python: {}", output.status));
    }
    let folder = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(PathBuf::from(folder))
}
