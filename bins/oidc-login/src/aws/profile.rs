//! A profile whose credentials are got from this program, in an AWS configuration file of the job's own. The
//! file holds no secret; the user's own configuration is not touched.
//! <https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html>

use std::path::PathBuf;

use switchyard_runner::{Failure, Kind};

use super::names::{ProfileName, Region};
use super::process;
use crate::credential::{Assume, Network};
use crate::lock::Lock;
use crate::plugin::own_path;
use crate::private::{self, PrivateFolder, Problem};
use crate::session::Session;

const FILE: &str = "aws-config";

/// A profile that can be written down.
#[derive(Debug)]
pub(crate) struct Profile {
    name: ProfileName,
    region: Region,
    /// The command, as it stands in the file.
    command: String,
}

impl Profile {
    /// The profile of this way to a session.
    ///
    /// # Errors
    /// Of kind input when the command cannot be written so that every SDK reads it alike.
    pub(crate) fn new(
        name: ProfileName,
        assume: &Assume,
        network: &Network,
    ) -> Result<Self, Failure> {
        let program = std::iter::once(own_path()?.display().to_string());
        let words = program.chain(process::arguments(assume, network));
        let quoted = words.map(|word| {
            quoted(&word).ok_or_else(|| {
                let text = format!("input `profile`: `{word}` cannot stand in AWS's configuration");
                Failure::message(Kind::Input, text)
                    .hint("letters, digits, spaces and `_+=,.@/:~%-` can")
            })
        });
        let words: Vec<String> = quoted.collect::<Result<_, _>>()?;
        Ok(Self {
            name,
            region: assume.region.clone(),
            command: words.join(" "),
        })
    }

    /// Writes the profile into the job's configuration file, in place of the one of its name, and gives the
    /// file's path. Other profiles stay.
    ///
    /// # Errors
    /// When the file is not ours alone, or cannot be locked or written.
    pub(crate) async fn write(&self, session: &Session) -> Result<PathBuf, Failure> {
        let written = self.written(session).await;
        written.map_err(|problem| {
            let problem = anyhow::Error::new(problem);
            Failure::input(problem.context("the AWS configuration of this job is not written"))
        })
    }

    async fn written(&self, session: &Session) -> Result<PathBuf, Problem> {
        let path = PrivateFolder::below(session.runner_temp()?)?.file(FILE);
        let lock = path.with_extension("lock");
        let _lock = Lock::of_file(&lock, session.deadline).await?;
        let before = private::read(&path)?.unwrap_or_default();
        private::replace(&path, &self.entered(&before))?;
        Ok(path)
    }

    fn entered(&self, before: &str) -> String {
        let own = self.name.section();
        let mut is_own = false;
        let mut text = String::new();
        for line in before.lines() {
            if line.starts_with('[') {
                is_own = line == own;
            }
            if !is_own {
                text += &format!("{line}\n");
            }
        }
        text + &format!(
            "{own}\nregion = {}\ncredential_process = {}\n",
            self.region, self.command
        )
    }
}

/// A word of a command line that SDKs read alike, whether they start it themselves or through a shell.
fn quoted(word: &str) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_+=,.@/:~%-".contains(c);
    if word.chars().all(is_plain) {
        Some(word.to_owned())
    } else if word.chars().all(|c| is_plain(c) || c == ' ') {
        Some(format!("\"{word}\""))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(name: &str, command: &str) -> Profile {
        Profile {
            name: name.parse().unwrap(),
            region: "eu-central-1".parse().unwrap(),
            command: command.to_owned(),
        }
    }

    #[test]
    fn a_profile_replaces_the_one_of_its_name_alone() {
        let text = profile("one", "first").entered("");
        let text = profile("default", "second").entered(&text);
        let text = profile("one", "third").entered(&text);
        insta::assert_snapshot!(text, @r"
        [default]
        region = eu-central-1
        credential_process = second
        [profile one]
        region = eu-central-1
        credential_process = third
        ");
    }

    #[test]
    fn no_word_of_a_command_means_anything_to_a_shell() {
        assert_eq!(quoted("--a=b:/c").unwrap(), "--a=b:/c");
        assert_eq!(quoted("/a b/c").unwrap(), "\"/a b/c\"");
        for word in ["$HOME", "a\"b", "a;b", "a\\b", "a\nb", "`a`", "a#b", "a'b"] {
            assert_eq!(quoted(word), None, "{word}");
        }
    }
}
