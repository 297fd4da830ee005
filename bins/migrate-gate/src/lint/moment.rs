//! What a rule sees: a statement, what is there before it, and what its transaction holds already.

use switchyard_sql::statement::{AlterTable, AlterTableAction, SetParameter, TransactionCommand};
use switchyard_sql::{
    Catalog, Effects, LockMode, Name, Place, ServerVersion, Statement, Work, WorkKind,
};

/// What lock_timeout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LockTimeout {
    /// Nobody set it: statements wait for ever.
    Unset,
    /// Set, by the script or at the connection.
    Set,
}

/// A lock that the transaction holds on a table that others use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    /// The table.
    pub(crate) table: Name,
    /// The mode.
    pub(crate) mode: LockMode,
    /// Line of the statement that took it.
    pub(crate) line: usize,
}

/// What the statements before have left.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// lock_timeout as it stands.
    pub(crate) lock_timeout: LockTimeout,
    /// What it is without the script.
    connection: LockTimeout,
    /// What it is once the transaction is committed: `SET LOCAL` is over by then.
    committed: LockTimeout,
    /// What it was when the transaction began, and is again when that is rolled back.
    before: LockTimeout,
    /// The least that it was in the transaction: a savepoint may have it.
    least: LockTimeout,
    /// Locks that writers wait for, on tables that others use.
    pub(crate) held: Vec<Held>,
    /// Labels that the transaction added to enums.
    pub(crate) enum_values: Vec<String>,
    transaction: usize,
}

impl Session {
    /// A connection, with or without a lock_timeout of its own.
    pub(crate) fn new(connection: LockTimeout) -> Self {
        Self {
            lock_timeout: connection,
            connection,
            committed: connection,
            before: connection,
            least: connection,
            held: Vec::new(),
            enum_values: Vec::new(),
            transaction: 0,
        }
    }

    /// Begins a statement of a transaction: what an earlier one held is gone.
    pub(crate) fn enter(&mut self, place: Place) {
        if place.transaction != self.transaction {
            self.transaction = place.transaction;
            self.held.clear();
            self.enum_values.clear();
            self.lock_timeout = self.committed;
            self.before = self.committed;
            self.least = self.committed;
        }
    }

    /// Takes in what a statement leaves behind.
    pub(crate) fn leave(&mut self, moment_effects: &Effects, catalog: &Catalog, line: usize) {
        for lock in &moment_effects.locks {
            if !lock.mode.blocks_writes() || catalog.is_new(&lock.table) {
                continue;
            }
            match self.held.iter_mut().find(|held| held.table == lock.table) {
                Some(held) if held.mode >= lock.mode => {}
                Some(held) => {
                    held.mode = lock.mode;
                    held.line = line;
                }
                None => self.held.push(Held {
                    table: lock.table.clone(),
                    mode: lock.mode,
                    line,
                }),
            }
        }
    }

    /// Takes in a `SET`.
    pub(crate) fn set(&mut self, set: &SetParameter, local: Local) {
        if set.name != "lock_timeout" {
            return;
        }
        let lock_timeout = match &set.value {
            None => self.connection,
            Some(value) if is_zero(value) => LockTimeout::Unset,
            Some(_) => LockTimeout::Set,
        };
        match (set.is_local, local) {
            (false, _) => self.set_for_session(lock_timeout),
            (true, Local::InForce) => self.set_now(lock_timeout),
            // Where it is not known whether it is in force still, only what it takes away counts.
            (true, Local::InDoubt) => self.set_now(lock_timeout.min(self.lock_timeout)),
            (true, Local::Ignored) => {}
        }
    }

    /// Takes in a `RESET`; `None` is all. It is for the session, as a `SET` without `LOCAL`.
    pub(crate) fn reset(&mut self, name: Option<&str>) {
        if matches!(name, None | Some("lock_timeout")) {
            self.set_for_session(self.connection);
        }
    }

    /// Takes in a command that ends a transaction or a part of it.
    pub(crate) fn end(&mut self, command: TransactionCommand) {
        match command {
            // Settings are taken back as rows are.
            TransactionCommand::Rollback => self.set_for_session(self.before),
            TransactionCommand::RollbackToSavepoint => {
                self.committed = self.committed.min(self.least);
                self.lock_timeout = self.least;
            }
            TransactionCommand::Begin
            | TransactionCommand::Commit
            | TransactionCommand::Savepoint
            | TransactionCommand::Prepare
            | TransactionCommand::Characteristics => {}
        }
    }

    fn set_for_session(&mut self, lock_timeout: LockTimeout) {
        self.committed = lock_timeout;
        self.set_now(lock_timeout);
    }

    fn set_now(&mut self, lock_timeout: LockTimeout) {
        self.lock_timeout = lock_timeout;
        self.least = self.least.min(lock_timeout);
    }
}

/// What `SET LOCAL` does at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Local {
    /// It is in force until the transaction ends.
    InForce,
    /// It is in force until the body that it stands in commits, wherever that is.
    InDoubt,
    /// PostgreSQL warns and does nothing: there is no transaction block.
    Ignored,
}

/// Whether a time-out of this value is none.
pub(crate) fn is_zero(value: &str) -> bool {
    let value = value.trim();
    let number = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let milliseconds = match &value[number.len()..] {
        "us" => 0.001,
        "s" => 1e3,
        "min" => 6e4,
        "h" => 3.6e6,
        "d" => 8.64e7,
        // `ms`, none, or one that PostgreSQL refuses.
        _ => 1.0,
    };
    let number = number.trim().parse::<f64>();
    // It keeps whole milliseconds.
    number.is_ok_and(|number| (number * milliseconds).abs() <= 0.5)
}

/// A statement at its place in a script.
pub(crate) struct Moment<'a> {
    /// The statement.
    pub(crate) statement: &'a Statement,
    /// Its text.
    pub(crate) text: &'a str,
    /// What it does to tables.
    pub(crate) effects: &'a Effects,
    /// What each action of an `ALTER TABLE` does by itself.
    pub(crate) action_effects: &'a [Effects],
    /// What is there before it.
    pub(crate) catalog: &'a Catalog,
    /// The server.
    pub(crate) version: ServerVersion,
    /// What the statements before have left.
    pub(crate) session: &'a Session,
    /// Its transaction.
    pub(crate) place: Place,
    /// Whether it stands in the body of a `DO`.
    pub(crate) is_in_body: bool,
}

impl<'a> Moment<'a> {
    /// Whether others use a table: the migration did not make it.
    pub(crate) fn is_used(&self, table: &Name) -> bool {
        !self.catalog.is_new(table)
    }

    /// Work on tables that others use.
    pub(crate) fn works(&self) -> impl Iterator<Item = &'a Work> + '_ {
        self.effects
            .works
            .iter()
            .filter(|work| self.is_used(&work.table))
    }

    /// The first table that others use and that the statement works on in this way.
    pub(crate) fn table_with(&self, kind: WorkKind) -> Option<&'a Name> {
        let mut works = self.effects.works.iter();
        works
            .find(|work| work.kind == kind && self.is_used(&work.table))
            .map(|work| &work.table)
    }

    /// What `ALTER TABLE` does to a table that others use.
    pub(crate) fn actions(
        &self,
    ) -> impl Iterator<Item = (&'a AlterTable, &'a AlterTableAction)> + '_ {
        let alter = if let Statement::AlterTable(alter) = self.statement {
            Some(alter).filter(|alter| self.is_used(&alter.table))
        } else {
            None
        };
        alter
            .into_iter()
            .flat_map(|alter| alter.actions.iter().map(move |action| (alter, action)))
    }

    /// What one action of [`Moment::actions`] does by itself, the earlier ones of its statement done.
    pub(crate) fn effects_of(&self, alter: &AlterTable, action: &AlterTableAction) -> &'a Effects {
        let position = alter
            .actions
            .iter()
            .position(|other| std::ptr::eq(other, action));
        let own = position.and_then(|position| self.action_effects.get(position));
        own.unwrap_or(self.effects)
    }
}

/// Whether effects name a sort of work.
pub(crate) fn has(effects: &Effects, kind: WorkKind) -> bool {
    effects.works.iter().any(|work| work.kind == kind)
}
