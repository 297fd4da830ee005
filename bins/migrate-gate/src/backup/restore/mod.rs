//! `restore`: puts a backup in the place of a database, with its owner, settings and grants. What was replaced is
//! kept under another name.
//!
//! The order: backup read once and compared with its manifest → writes since then counted, and consented to → copy
//! restored beside the database → copy compared → copy dressed → sessions cut and names exchanged → looked at. Before the exchange
//! nothing of the database is changed.

mod shell;
mod swap;

use std::path::Path;

use switchyard_postgres::{ConnectionSettings, ConnectionUrl, Session, identifier};
use switchyard_runner::{Context, Failure, Kind};
use tempfile::TempDir;

use super::compare::{Found, compare, is_of_same_major, uncounted};
use super::inputs::{PlaceArgs, ProgramArgs, RestoreArgs};
use super::manifest::{DUMP, MANIFEST, Manifest};
use super::proof::Proof;
use super::reference::BackupReference;
use super::scratch::{connection_text, look};
use super::store::Store;
use super::{keep, staging, until_cancelled, verify};
use crate::sha256::sha256;
use crate::shorten::few;
use crate::{database, report_file, trusted};
use shell::Shell;
use swap::{Names, Next};

/// Most differences that are told.
const SHOWN: usize = 10;

/// What a signal leaves before anything was begun.
const UNCHANGED: &str = "nothing was changed";

/// Databases in which nobody works, for statements that cannot be run from within a database.
const MAINTENANCE: [&str; 2] = ["postgres", "template1"];

/// What is to be put in the place of what.
#[derive(Debug)]
pub(crate) struct Restoring<'a> {
    /// The database that is replaced.
    pub(crate) url: &'a ConnectionUrl,
    /// The backup.
    pub(crate) backup: &'a BackupReference,
    /// Whether what was written since the backup may be lost.
    pub(crate) accept_lost_writes: bool,
    /// How PostgreSQL's programs are run.
    pub(crate) programs: &'a ProgramArgs,
    pub(crate) context: &'a Context,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Restored {
    /// Name of the database that was replaced.
    pub(crate) kept_as: String,
    /// What was written since the backup and is only there.
    pub(crate) lost: Vec<String>,
}

/// The server and the name of the database that a backup is one of.
///
/// # Errors
/// Kind gate when it has no manifest, or another one than it is named with; kind remote when the store fails.
pub(crate) async fn origin_of(
    backup: &BackupReference,
    context: &Context,
) -> Result<(String, String), Failure> {
    let store = PlaceArgs { backup_to: None }.open(&backup.location, context)?;
    let text = store.text(MANIFEST).await.map_err(keep::store_failure)?;
    let damaged = |why: String| {
        Failure::message(
            Kind::Gate,
            format!("the backup at {}: {why}", backup.location),
        )
        .hint("nothing was changed; make another one")
    };
    let text = text.ok_or_else(|| damaged("it has no manifest".to_owned()))?;
    let manifest = Manifest::parse(&text, backup.digest.as_deref());
    let manifest = manifest.map_err(|cause| damaged(cause.to_string()))?;
    Ok((manifest.server.clone(), manifest.database.clone()))
}

/// Restores a backup.
///
/// # Errors
/// Kind gate when the backup is damaged, or writes would be lost without consent; kind input for bad inputs; kind
/// remote when a server or a store fails.
pub(crate) async fn run(args: RestoreArgs, context: &mut Context) -> Result<(), Failure> {
    trusted::require(&context.environment, "restore")?;
    let urls = database::distinct(&args.database, &context.console)?;
    let [url] = urls.as_slice() else {
        let text = format!(
            "{} databases are named, and a backup is one of one",
            urls.len()
        );
        return Err(Failure::message(Kind::Input, text).hint("give `database-url` alone"));
    };
    let restoring = Restoring {
        url,
        backup: &args.backup,
        accept_lost_writes: args.accept_lost_writes,
        programs: &args.programs,
        context,
    };
    let restored = restoring.restore().await?;
    let text = restored.markdown(url);
    context.console.info(&text);
    context.summarize("migrate-gate", &text);
    context.outputs.set("restored", true)
}

impl Restoring<'_> {
    /// Restores, and says what is kept and what is lost.
    ///
    /// # Errors
    /// As [`run`].
    pub(crate) async fn restore(&self) -> Result<Restored, Failure> {
        let store = PlaceArgs { backup_to: None }.open(&self.backup.location, self.context)?;
        let read = verify::manifest(&store, self.backup);
        let manifest = until_cancelled(self.context, UNCHANGED, read).await?;
        let manifest = manifest.map_err(|proof| damaged(&proof))?;
        self.refuse_another_database(&manifest)?;
        let text = manifest.text().map_err(Failure::bug)?;
        let names = Names::of(self.url.database(), &sha256(text.as_bytes()));
        let session = self.maintenance().await?;
        let present = swap::look(&session, &names)
            .await
            .map_err(database::failure)?;
        let lost = match swap::next(present) {
            Next::InPlace => {
                let comparing = self.is_in_place(&names, &manifest);
                until_cancelled(self.context, UNCHANGED, comparing).await?;
                self.say(format!(
                    "the backup is in place already; what it replaced is `{}`",
                    names.replaced
                ));
                Vec::new()
            }
            Next::Finish => {
                self.say(format!(
                    "an exchange that was cut off is ended: `{}` takes its name",
                    names.restored
                ));
                swap::finish(&session, &names)
                    .await
                    .map_err(database::failure)?;
                Vec::new()
            }
            Next::Absent => return Err(self.absent(&names)),
            Next::Restore => {
                let replaced = self.replace(&session, &names, &manifest, &store).await;
                if replaced.is_err() {
                    self.leave_writable(&session, &names).await;
                }
                replaced?
            }
        };
        self.look_at(&manifest).await?;
        Ok(Restored {
            kept_as: names.replaced,
            lost,
        })
    }

    /// A signal ends what goes on for long. Not the exchange itself: one that is cut off leaves the database closed
    /// or without its name.
    async fn replace(
        &self,
        session: &Session,
        names: &Names,
        manifest: &Manifest,
        store: &Store,
    ) -> Result<Vec<String>, Failure> {
        let preparing = self.prepare(session, names, manifest, store);
        let left = "the database is as it was; a copy that was begun is dropped by the next run";
        let lost = until_cancelled(self.context, left, preparing).await?;
        self.say(format!(
            "`{}` takes the place of `{}`",
            names.restored, names.live
        ));
        let exchanged = swap::exchange(session, names, &self.context.console).await;
        exchanged.map_err(database::failure)?;
        Ok(lost)
    }

    /// Makes the copy that is to be exchanged, and stops the writes. Gives what would be lost.
    async fn prepare(
        &self,
        session: &Session,
        names: &Names,
        manifest: &Manifest,
        store: &Store,
    ) -> Result<Vec<String>, Failure> {
        let copy = self.url.with_database(&names.restored);
        let script = async |what: &str, sql: String| {
            session.script(what, &sql).await.map_err(database::failure)
        };
        // One that was killed between closing and renaming left it closed.
        swap::reopen(session, names)
            .await
            .map_err(database::failure)?;
        let folder = self.fetch(manifest, store).await?;
        let shell = Shell::read(session, &names.live)
            .await
            .map_err(database::failure)?;
        // With consent the last count is enough: it is what is told.
        if !self.accept_lost_writes {
            self.writes_since(manifest).await?;
        }
        let restored = identifier(&names.restored);
        script(
            "drop an unfinished copy",
            format!("DROP DATABASE IF EXISTS {restored}"),
        )
        .await?;
        script("make the copy", shell.create(&names.restored)).await?;
        let filled = async {
            self.fill(&copy, &folder.path().join(DUMP)).await?;
            self.compare(&copy, manifest).await?;
            for statement in shell.dress(&names.restored) {
                script("give the copy its settings and grants", statement).await?;
            }
            self.last_writes(session, names, manifest).await
        };
        let filled = filled.await;
        if filled.is_err() {
            let sql = format!("DROP DATABASE {restored}");
            if let Err(cause) = script("drop the copy", sql).await {
                self.context.console.warning("migrate-gate", cause.chain());
            }
        }
        filled
    }

    /// Stops the writes and counts once more: restoring took a while, and the application went on. Where that is
    /// refused, the application may write again.
    async fn last_writes(
        &self,
        session: &Session,
        names: &Names,
        manifest: &Manifest,
    ) -> Result<Vec<String>, Failure> {
        let counted = async {
            let stopped = swap::stop_writes(session, names, &self.context.console).await;
            stopped.map_err(database::failure)?;
            self.writes_since(manifest).await
        };
        let counted = counted.await;
        if counted.is_err() {
            let again = swap::reopen(session, names).await;
            if let Err(cause) = again.map_err(database::failure) {
                self.context.console.error("migrate-gate", cause.chain());
            }
        }
        counted
    }

    /// A step that ends before the exchange, or in it, must leave the database as everybody knows it.
    ///
    /// The session that was at work comes first: what a signal has left running in it is over before it answers.
    async fn leave_writable(&self, session: &Session, names: &Names) {
        let left = async {
            match swap::reopen(session, names).await {
                Err(cause) if cause.is_lost() => {
                    let session = self.maintenance().await?;
                    swap::reopen(&session, names).await
                }
                reopened => reopened,
            }
            .map_err(database::failure)
        };
        if let Err(cause) = left.await {
            let text = format!(
                "`{}` may be closed, or only be read now: {}; run `restore` again",
                names.live,
                cause.chain()
            );
            self.context.console.error("migrate-gate", text);
        }
    }

    /// What is in the database and not in the backup. Refused without consent.
    async fn writes_since(&self, manifest: &Manifest) -> Result<Vec<String>, Failure> {
        self.say("counting what was written since the backup".to_owned());
        let (_, counted) = look(self.url, self.programs.jobs).await?;
        let mut since = manifest.contents.differences(&counted.contents);
        // The ledger's rows are what the restoration takes back.
        since.retain(|one| !one.contains("._prisma_migrations "));
        let uncounted = uncounted(manifest, &counted).into_iter();
        since.extend(uncounted.map(|one| format!("not counted: {one}")));
        if since.is_empty() || self.accept_lost_writes {
            return Ok(since);
        }
        let taken_at = manifest.taken_at;
        let text = format!(
            "{} has changed since the backup of {taken_at} in {} places, and that would be lost: {}",
            self.url,
            since.len(),
            few(&since, SHOWN, "; ")
        );
        Err(Failure::message(Kind::Gate, text).hint(
            "nothing was changed; give `accept-lost-writes: true` to restore nevertheless, what is replaced is kept under another name",
        ))
    }

    /// Reads the backup once: what is restored is what was compared. Programs that are too old are found out before.
    async fn fetch(&self, manifest: &Manifest, store: &Store) -> Result<TempDir, Failure> {
        let programs = self.programs.programs(self.context);
        programs.require(manifest.server_version).await?;
        let folder = staging::folder(&report_file::folder(self.context), &self.context.console)?;
        match verify::files(store, manifest, Some(folder.path())).await? {
            Proof::Unverifiable { .. } | Proof::Verified { .. } => Ok(folder),
            proof @ Proof::Damaged { .. } => Err(damaged(&proof)),
        }
    }

    async fn fill(&self, copy: &ConnectionUrl, dump: &Path) -> Result<(), Failure> {
        let programs = self.programs.programs(self.context);
        self.say(format!("restoring into {copy}"));
        let arguments = [
            "--exit-on-error".to_owned(),
            "--no-password".to_owned(),
            format!("--jobs={}", self.programs.jobs),
            format!("--dbname={}", connection_text(copy.database())),
            dump.display().to_string(),
        ];
        let ran = programs.run("pg_restore", &arguments, copy).await;
        ran.map_err(|failure| {
            failure.hint(
                "owners and grants are restored as well: the role has to be a member of the owners",
            )
        })
    }

    async fn compare(&self, copy: &ConnectionUrl, manifest: &Manifest) -> Result<(), Failure> {
        let differences = self.differences(copy, manifest).await?;
        if differences.is_empty() {
            return Ok(());
        }
        let text = format!(
            "the restored copy is not what was backed up: {}",
            few(&differences, SHOWN, "; ")
        );
        Err(Failure::message(Kind::Gate, text).hint("nothing was changed; give an older backup"))
    }

    /// The names say that the backup was restored once. What has happened since then is in the contents alone.
    async fn is_in_place(&self, names: &Names, manifest: &Manifest) -> Result<(), Failure> {
        self.say("the backup was restored before: comparing what is there now".to_owned());
        let differences = self.differences(self.url, manifest).await?;
        if differences.is_empty() {
            return Ok(());
        }
        let replaced = &names.replaced;
        let text = format!(
            "the backup was restored before, `{replaced}` is what it replaced then, and {} has changed since: {}",
            self.url,
            few(&differences, SHOWN, "; ")
        );
        Err(Failure::message(Kind::Gate, text).hint(format!(
            "nothing was changed; look at `{replaced}`, then drop or rename it to restore once more"
        )))
    }

    async fn differences(
        &self,
        url: &ConnectionUrl,
        manifest: &Manifest,
    ) -> Result<Vec<String>, Failure> {
        let server = database::open_for_reading(url).await?.version();
        let (schema, counted) = look(url, self.programs.jobs).await?;
        let found = Found {
            server,
            schema: &schema,
            counted: &counted,
        };
        let compared = compare(manifest, found, None);
        if !compared.uncompared.is_empty() {
            let text = format!("{url}: not compared: {}", compared.uncompared.join("; "));
            self.context.console.warning("migrate-gate", text);
        }
        Ok(compared.differences)
    }

    /// The database is reachable under its own name and has the backup's schema.
    async fn look_at(&self, manifest: &Manifest) -> Result<(), Failure> {
        let session = database::open_for_reading(self.url).await?;
        if !is_of_same_major(manifest, session.version()) {
            return Ok(());
        }
        let schema = session.describe_schema().await.map_err(database::failure)?;
        if schema.fingerprint() == manifest.fingerprint {
            return Ok(());
        }
        let text = format!("{} has not the schema of the backup", self.url);
        Err(Failure::message(Kind::Gate, text)
            .hint("something changes it already, or an earlier exchange is from another day"))
    }

    fn refuse_another_database(&self, manifest: &Manifest) -> Result<(), Failure> {
        if manifest.database == self.url.database() {
            return Ok(());
        }
        let text = format!(
            "the backup is one of `{}`, and the database is `{}`",
            manifest.database,
            self.url.database()
        );
        Err(Failure::message(Kind::Input, text)
            .hint("give the URL of the database that was backed up"))
    }

    fn absent(&self, names: &Names) -> Failure {
        let text = format!(
            "there is no database `{}` on {}, and no finished copy of the backup",
            names.live,
            self.url.server()
        );
        Failure::message(Kind::Gate, text).hint(format!(
            "if `{}` is there, give it its name back: ALTER DATABASE … RENAME TO …",
            names.replaced
        ))
    }

    async fn maintenance(&self) -> Result<Session, Failure> {
        let settings =
            ConnectionSettings::reading("switchyard migrate-gate").without_statement_timeout();
        let mut first = None;
        for name in MAINTENANCE {
            match Session::open(&self.url.with_database(name), &settings).await {
                Ok(session) => return Ok(session),
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(match first {
            Some(error) => database::failure(error).hint(
                "a database is exchanged from another one: the role has to be let into `postgres`",
            ),
            None => Failure::message(Kind::Bug, "no database was tried"),
        })
    }

    fn say(&self, text: String) {
        self.context.console.progress(text);
    }
}

impl Restored {
    fn markdown(&self, url: &ConnectionUrl) -> String {
        let mut text = format!(
            "### Restored: {url}\n\nThe backup is in place. What it replaced is the database `{}`: look at it, then drop it.\n",
            self.kept_as
        );
        if !self.lost.is_empty() {
            text.push_str("\nWritten since the backup, and only there:\n\n");
            for line in &self.lost {
                text.push_str(&format!("- {line}\n"));
            }
        }
        text
    }
}

fn damaged(proof: &Proof) -> Failure {
    let text = format!("the backup is damaged: {}", proof.told());
    Failure::message(Kind::Gate, text).hint("nothing was changed; give an older backup")
}
