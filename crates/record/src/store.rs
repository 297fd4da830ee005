//! Records in the cluster: ConfigMaps written by PUT with resourceVersion.
//!
//! Owns reading, checking, size and conflicts; refuses to decide what a conflict means.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, ObjectMeta, PostParams, Preconditions};
use serde::Serialize;
use serde::de::DeserializeOwned;
use switchyard_cluster::FIELD_MANAGER;

use crate::application::ApplicationRecord;
use crate::deployment::{ChecklistEntry, DeploymentRecord, SCHEMA};
use crate::error::{RecordError, Result};
use crate::fence::FENCE_ANNOTATION;
use crate::identity::{DeploymentId, application_record_name};
use crate::validate::Impossible;

/// Most bytes of a record. A ConfigMap's data may have 1 MiB together; the rest is for its keys
/// and what the next version adds.
/// <https://kubernetes.io/docs/concepts/configuration/configmap/>
pub const MAX_RECORD_BYTES: usize = 1_000_000;
/// Key of the record within the ConfigMap's data.
pub const RECORD_KEY: &str = "record.json";
/// Label that tells records from other ConfigMaps: `application` or `deployment`.
pub const RECORD_LABEL: &str = "switchyard.dev/record";
/// Label of the application that a record belongs to.
const RECORD_OF_LABEL: &str = "switchyard.dev/record-of";
/// How often an addition is tried again after the holder was faster with a write.
const ADDING_ATTEMPTS: u32 = 10;
/// How long one request may take.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// A record as it was read, with what a conditional write needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored<T> {
    /// The record.
    pub record: T,
    /// Name of its ConfigMap.
    pub name: String,
    /// Its resourceVersion.
    pub resource_version: String,
    /// Its uid.
    pub uid: String,
    /// The fence on it.
    pub fence: Option<u64>,
    /// The field manager of its latest write.
    pub writer: Option<String>,
}

/// A record that knows how to be kept in a ConfigMap.
pub(crate) trait Record: Serialize + DeserializeOwned + Clone + PartialEq {
    /// Value of [`RECORD_LABEL`].
    const LABEL: &'static str;
    /// Name of the application.
    fn application(&self) -> &str;
    /// Name of the ConfigMap that must hold it.
    fn name(&self) -> String;
    /// Whether it can have come about.
    fn check(&self) -> std::result::Result<(), Impossible>;
}

impl Record for ApplicationRecord {
    const LABEL: &'static str = "application";

    fn application(&self) -> &str {
        &self.app
    }

    fn name(&self) -> String {
        application_record_name(&self.app)
    }

    fn check(&self) -> std::result::Result<(), Impossible> {
        self.validate()
    }
}

impl Record for DeploymentRecord {
    const LABEL: &'static str = "deployment";

    fn application(&self) -> &str {
        self.id.application()
    }

    fn name(&self) -> String {
        self.id.record_name()
    }

    fn check(&self) -> std::result::Result<(), Impossible> {
        self.validate()
    }
}

/// How a conditional write ended.
#[derive(Debug)]
pub(crate) enum Write<T> {
    /// Written.
    Done(Stored<T>),
    /// Somebody else has written since: 409, or the object is gone.
    Conflict,
    /// It may or may not have been written, or can be tried again after a read.
    Unclear(RecordError),
}

/// The records of one namespace.
#[derive(Clone)]
pub struct Store {
    api: Api<ConfigMap>,
    namespace: String,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// The records of a namespace.
    #[must_use]
    pub fn new(client: kube::Client, namespace: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
        }
    }

    /// Reads the record of an application; nothing when it has none yet.
    ///
    /// # Errors
    /// The API server fails or refuses, or the record cannot be believed.
    pub async fn application(
        &self,
        application: &str,
    ) -> Result<Option<Stored<ApplicationRecord>>> {
        self.read(&application_record_name(application)).await
    }

    /// Reads the record of a deployment; nothing when there is none.
    ///
    /// # Errors
    /// The API server fails or refuses, or the record cannot be believed.
    pub async fn deployment(&self, id: &DeploymentId) -> Result<Option<Stored<DeploymentRecord>>> {
        self.read(&id.record_name()).await
    }

    /// Reads the record of the latest deployment of a run, whichever of its deployments that is.
    ///
    /// # Errors
    /// The API server fails or refuses, or a record cannot be believed.
    pub async fn latest_of_run(
        &self,
        id: &DeploymentId,
    ) -> Result<Option<Stored<DeploymentRecord>>> {
        let Some(application) = self.application(id.application()).await? else {
            return Ok(None);
        };
        match application.record.latest_of_run(id) {
            Some(entry) => self.deployment(&entry.deployment).await,
            None => Ok(None),
        }
    }

    /// Remembers under which key a notice was posted to a channel, so that the next one updates
    /// it. Needs no lease and no open deployment: whoever holds the lease takes it in.
    ///
    /// # Errors
    /// There is no such record, or the API server fails or refuses.
    pub async fn remember_notice(&self, id: &DeploymentId, channel: &str, key: &str) -> Result<()> {
        self.add(id, |record| {
            record
                .notify_keys
                .insert(channel.to_owned(), key.to_owned());
        })
        .await
    }

    /// Takes down where items of the checklist of an ended deployment stand: its first hour goes on after its end. Who
    /// goes on with one that is under way holds the lease and writes through its session.
    ///
    /// # Errors
    /// There is no such record, it has not ended, or the API server fails or refuses.
    pub async fn continue_checklist(
        &self,
        id: &DeploymentId,
        entries: &[ChecklistEntry],
    ) -> Result<()> {
        let stored = self.deployment(id).await?;
        if stored.is_some_and(|stored| !stored.record.phase.is_terminal()) {
            return Err(RecordError::NotClaimed);
        }
        self.add(id, |record| record.update_checklist(entries.to_vec()))
            .await
    }

    /// Adds to a record what no process that holds it decides by.
    async fn add(&self, id: &DeploymentId, change: impl Fn(&mut DeploymentRecord)) -> Result<()> {
        for _attempt in 0..ADDING_ATTEMPTS {
            let stored = self
                .deployment(id)
                .await?
                .ok_or_else(|| RecordError::Missing {
                    object: self.describe(&id.record_name()),
                })?;
            let mut record = stored.record.clone();
            change(&mut record);
            if record == stored.record {
                return Ok(());
            }
            // The fence stays the holder's.
            match self
                .replace(&stored, &record, stored.fence.unwrap_or(0))
                .await?
            {
                Write::Done(_) => return Ok(()),
                Write::Conflict => {}
                Write::Unclear(error) => return Err(error),
            }
        }
        Err(RecordError::Changed {
            object: self.describe(&id.record_name()),
            writer: "its holder, again and again,".to_owned(),
        })
    }

    /// For messages: the ConfigMap of this name.
    pub(crate) fn describe(&self, name: &str) -> String {
        format!("ConfigMap `{}/{name}`", self.namespace)
    }

    pub(crate) async fn read<T: Record>(&self, name: &str) -> Result<Option<Stored<T>>> {
        let object = self.describe(name);
        let answer = within(self.api.get_opt(name)).await;
        match answer {
            None => Err(no_answer("read", &object)),
            Some(Err(error)) => Err(api_error("read", &object, error)),
            Some(Ok(None)) => Ok(None),
            Some(Ok(Some(map))) => parse(&object, name, &map).map(Some),
        }
    }

    /// Creates a record where there is none.
    pub(crate) async fn create<T: Record>(&self, record: &T, fence: u64) -> Result<Write<T>> {
        let map = self.render(record, fence, None)?;
        let name = record.name();
        let answer = within(self.api.create(&write_params(), &map)).await;
        self.judge("create", &name, answer)
    }

    /// Writes a record over the state of it that was read.
    pub(crate) async fn replace<T: Record>(
        &self,
        read: &Stored<T>,
        record: &T,
        fence: u64,
    ) -> Result<Write<T>> {
        let map = self.render(record, fence, Some(&read.resource_version))?;
        let answer = within(self.api.replace(&read.name, &write_params(), &map)).await;
        self.judge("write", &read.name, answer)
    }

    /// Deletes the record of an ended deployment. One that is gone already is no error.
    pub(crate) async fn delete(&self, name: &str) -> Result<()> {
        let object = self.describe(name);
        let Some(stored) = self.read::<DeploymentRecord>(name).await? else {
            return Ok(());
        };
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(stored.uid),
                resource_version: Some(stored.resource_version),
            }),
            ..DeleteParams::default()
        };
        match within(self.api.delete(name, &params)).await {
            None => Err(no_answer("delete", &object)),
            Some(Ok(_)) => Ok(()),
            Some(Err(kube::Error::Api(status))) if status.code == 404 => Ok(()),
            Some(Err(error)) => Err(api_error("delete", &object, error)),
        }
    }

    fn judge<T: Record>(
        &self,
        operation: &'static str,
        name: &str,
        answer: Option<kube::Result<ConfigMap>>,
    ) -> Result<Write<T>> {
        let object = self.describe(name);
        match answer {
            None => Ok(Write::Unclear(no_answer(operation, &object))),
            Some(Ok(map)) => parse(&object, name, &map).map(Write::Done),
            Some(Err(kube::Error::Api(status))) if status.code == 409 => Ok(Write::Conflict),
            // A PUT of something that was deleted: its uid no longer exists.
            Some(Err(kube::Error::Api(status))) if status.code == 404 && operation == "write" => {
                Ok(Write::Conflict)
            }
            Some(Err(kube::Error::Api(status)))
                if status.code != 429 && !(500..600).contains(&status.code) =>
            {
                Err(api_error(operation, &object, kube::Error::Api(status)))
            }
            Some(Err(error)) => Ok(Write::Unclear(api_error(operation, &object, error))),
        }
    }

    fn render<T: Record>(
        &self,
        record: &T,
        fence: u64,
        resource_version: Option<&str>,
    ) -> Result<ConfigMap> {
        let name = record.name();
        let object = self.describe(&name);
        record.check().map_err(|source| RecordError::Impossible {
            object: object.clone(),
            source,
        })?;
        let text = serde_json::to_string(record).map_err(|source| RecordError::Unreadable {
            object: object.clone(),
            source,
        })?;
        if text.len() > MAX_RECORD_BYTES {
            return Err(RecordError::TooLarge {
                object,
                size: text.len(),
                limit: MAX_RECORD_BYTES,
            });
        }
        let labels = [
            ("app.kubernetes.io/managed-by", FIELD_MANAGER),
            (RECORD_LABEL, T::LABEL),
            (RECORD_OF_LABEL, record.application()),
        ];
        Ok(ConfigMap {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(self.namespace.clone()),
                labels: Some(owned(labels)),
                annotations: Some(owned([(FENCE_ANNOTATION, fence.to_string().as_str())])),
                resource_version: resource_version.map(str::to_owned),
                ..ObjectMeta::default()
            },
            data: Some(owned([(RECORD_KEY, text.as_str())])),
            ..ConfigMap::default()
        })
    }
}

/// Bytes that a record takes in its ConfigMap.
#[must_use]
pub(crate) fn size_of<T: Record>(record: &T) -> usize {
    serde_json::to_string(record).map_or(usize::MAX, |text| text.len())
}

fn owned<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn write_params() -> PostParams {
    PostParams {
        dry_run: false,
        field_manager: Some(FIELD_MANAGER.to_owned()),
    }
}

/// Reads a record out of a ConfigMap, believing nothing.
fn parse<T: Record>(object: &str, name: &str, map: &ConfigMap) -> Result<Stored<T>> {
    let text = map
        .data
        .as_ref()
        .and_then(|data| data.get(RECORD_KEY))
        .map_or("", String::as_str);
    let record: T = parse_text(object, text)?;
    record.check().map_err(|source| RecordError::Impossible {
        object: object.to_owned(),
        source,
    })?;
    if record.name() != name {
        return Err(RecordError::Impossible {
            object: object.to_owned(),
            source: Impossible {
                field: "id",
                problem: format!("belongs into `{}`", record.name()),
            },
        });
    }
    let metadata = &map.metadata;
    Ok(Stored {
        record,
        name: name.to_owned(),
        resource_version: metadata.resource_version.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
        fence: crate::fence::fence_of(metadata),
        writer: latest_writer(metadata),
    })
}

/// Reads the schema first: the rest of an unknown one is not for us to judge.
fn parse_text<T: Record>(object: &str, text: &str) -> Result<T> {
    let unreadable = |source| RecordError::Unreadable {
        object: object.to_owned(),
        source,
    };
    let value: serde_json::Value = serde_json::from_str(text).map_err(unreadable)?;
    let schema = value.get("schema");
    if schema.and_then(serde_json::Value::as_u64) != Some(u64::from(SCHEMA)) {
        return Err(RecordError::UnknownSchema {
            object: object.to_owned(),
            found: schema.map_or_else(|| "none".to_owned(), ToString::to_string),
            known: SCHEMA,
        });
    }
    serde_json::from_value(value).map_err(unreadable)
}

/// The field manager of the latest write. Times are whole seconds: in the same second, a foreign
/// write is the one worth naming.
fn latest_writer(metadata: &ObjectMeta) -> Option<String> {
    let fields = metadata.managed_fields.as_ref()?;
    let latest = fields.iter().max_by_key(|field| {
        let is_foreign = field.manager.as_deref() != Some(FIELD_MANAGER);
        (field.time.as_ref().map(|time| time.0), is_foreign)
    })?;
    latest.manager.clone()
}

pub(crate) async fn within<T>(request: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(REQUEST_TIMEOUT, request).await.ok()
}

pub(crate) fn no_answer(operation: &'static str, object: &str) -> RecordError {
    RecordError::NoAnswer {
        operation,
        object: object.to_owned(),
        limit: REQUEST_TIMEOUT,
    }
}

pub(crate) fn api_error(operation: &'static str, object: &str, source: kube::Error) -> RecordError {
    RecordError::Api {
        operation,
        object: object.to_owned(),
        source: Box::new(source),
    }
}
