//! Backups as objects of S3 or Azure, through the crate `object_store`: parts of large ones, signatures, repeats.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use object_store::buffered::BufWriter;
use object_store::path::Path as Key;
use object_store::{
    BackoffConfig, Certificate, ClientOptions, ObjectStore, ObjectStoreExt as _, RetryConfig,
};
use switchyard_runner::Environment;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{PIECE, Sink, StoreError, Trouble, trouble_of_io};
use crate::backup::reference::Location;

/// Bytes of a part of a large object; S3 takes 10,000 of them.
const PART: usize = 16 * 1024 * 1024;

/// Parts sent at once. Each is held in memory.
const PARTS_AT_ONCE: usize = 2;

/// Objects below a prefix.
#[derive(Debug)]
pub(crate) struct Objects {
    store: Arc<dyn ObjectStore>,
    name: String,
    prefix: String,
}

impl Objects {
    pub(super) fn new(store: Arc<dyn ObjectStore>, location: &Location, prefix: &str) -> Self {
        Self {
            store,
            name: location.to_string(),
            prefix: prefix.to_owned(),
        }
    }

    pub(super) async fn put(&self, key: &str, file: &Path) -> Result<(), StoreError> {
        let read_failed = |cause: std::io::Error| self.error("read the file for", key, cause);
        let failed = |cause: std::io::Error| self.error("write", key, cause);
        let mut source = tokio::fs::File::open(file).await.map_err(read_failed)?;
        let mut writer = BufWriter::with_capacity(self.store.clone(), self.key(key), PART)
            .with_max_concurrency(PARTS_AT_ONCE);
        let mut piece = vec![0; PIECE];
        let sent = loop {
            match source.read(&mut piece).await.map_err(read_failed) {
                Ok(0) => break Ok(()),
                Ok(length) => {
                    if let Err(cause) = writer.write_all(&piece[..length]).await {
                        break Err(failed(cause));
                    }
                }
                Err(cause) => break Err(cause),
            }
        };
        if sent.is_err() {
            // Parts that were sent would be kept and paid for. The end of an upload takes them away itself.
            let _ = writer.abort().await;
            return sent;
        }
        writer.shutdown().await.map_err(failed)
    }

    pub(super) async fn put_text(&self, key: &str, text: &str) -> Result<(), StoreError> {
        let put = self.store.put(&self.key(key), text.to_owned().into()).await;
        put.map(|_| ())
            .map_err(|cause| self.error("write", key, cause))
    }

    pub(super) async fn read(&self, key: &str, sink: Sink<'_>) -> Result<Option<u64>, StoreError> {
        let answer = match self.store.get(&self.key(key)).await {
            Ok(answer) => answer,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(cause) => return Err(self.error("read", key, cause)),
        };
        let mut pieces = answer.into_stream();
        let mut total = 0;
        while let Some(piece) = pieces
            .try_next()
            .await
            .map_err(|cause| self.error("read", key, cause))?
        {
            sink(&piece).map_err(|cause| self.error("read", key, cause))?;
            total += piece.len() as u64;
        }
        Ok(Some(total))
    }

    pub(super) async fn names(&self, key: &str) -> Result<Vec<String>, StoreError> {
        let folder = self.key(key);
        let listed = self.store.list_with_delimiter(Some(&folder)).await;
        let listed = listed.map_err(|cause| self.error("list", key, cause))?;
        let objects = listed.objects.iter().map(|object| &object.location);
        let all = objects.chain(&listed.common_prefixes);
        let names = all.filter_map(|path| path.filename().map(str::to_owned));
        let mut names: Vec<String> = names.collect();
        names.sort_unstable();
        Ok(names)
    }

    pub(super) async fn delete(&self, key: &str, last: &str) -> Result<(), StoreError> {
        let failed = |cause| self.error("delete", key, cause);
        match self.store.delete(&self.key(&format!("{key}/{last}"))).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(cause) => return Err(failed(cause)),
        }
        let mut objects = self.store.list(Some(&self.key(key)));
        while let Some(object) = objects.try_next().await.map_err(failed)? {
            self.store.delete(&object.location).await.map_err(failed)?;
        }
        Ok(())
    }

    fn key(&self, key: &str) -> Key {
        if self.prefix.is_empty() {
            Key::from(key)
        } else if key.is_empty() {
            Key::from(self.prefix.as_str())
        } else {
            Key::from(format!("{}/{key}", self.prefix))
        }
    }

    fn error(
        &self,
        what: &'static str,
        key: &str,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> StoreError {
        let cause = cause.into();
        let text = without_queries(&chain(&*cause));
        StoreError::new(what, key, &self.name, text).with(trouble(&*cause))
    }
}

/// How servers are reached: every answer has a time limit, a server in trouble is asked again for two minutes.
/// `authorities` is the variable that names a file of further authorities to trust, where it is set.
///
/// # Errors
/// Naming the variable whose file cannot be used.
pub(super) fn client_options(
    endpoint: &str,
    authorities: &str,
    environment: &Environment,
) -> Result<ClientOptions, String> {
    // rustls keeps its provider per process; a second installation fails and is not needed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut options = ClientOptions::new()
        .with_allow_http(endpoint.starts_with("http://"))
        .with_connect_timeout(Duration::from_secs(10))
        .with_read_timeout(Duration::from_secs(60))
        .with_timeout(Duration::from_secs(600));
    if let Some(path) = environment.get(authorities) {
        let unusable = |why: &dyn std::fmt::Display| format!("{authorities}: `{path}`: {why}");
        let text = std::fs::read(path).map_err(|cause| unusable(&cause))?;
        let found = Certificate::from_pem_bundle(&text).map_err(|cause| unusable(&cause))?;
        if found.is_empty() {
            return Err(unusable(&"there is no certificate in it"));
        }
        for certificate in found {
            options = options.with_root_certificate(certificate);
        }
    }
    Ok(options)
}

/// See [`client_options`].
pub(super) fn retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: 5,
        retry_timeout: Duration::from_secs(120),
    }
}

/// Of which kind an error is. That of a request may be wrapped into one of reading or writing.
fn trouble(cause: &(dyn std::error::Error + 'static)) -> Trouble {
    if let Some(cause) = cause.downcast_ref::<std::io::Error>() {
        return match cause.get_ref() {
            Some(inner) => trouble(inner),
            None => trouble_of_io(cause),
        };
    }
    match cause.downcast_ref::<object_store::Error>() {
        Some(
            object_store::Error::PermissionDenied { .. }
            | object_store::Error::Unauthenticated { .. },
        ) => Trouble::Denied,
        Some(object_store::Error::NotFound { .. }) => Trouble::NoPlace,
        Some(_) | None => Trouble::Other,
    }
}

fn chain(cause: &(dyn std::error::Error + 'static)) -> String {
    let mut text = cause.to_string();
    let mut next = cause.source();
    while let Some(one) = next {
        let one_text = one.to_string();
        if !text.contains(&one_text) {
            text.push_str(": ");
            text.push_str(&one_text);
        }
        next = one.source();
    }
    text
}

/// The text without the queries of URLs: with Azure's shared access signatures, a query is the credential.
fn without_queries(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("http") {
        let (before, url) = rest.split_at(at);
        kept.push_str(before);
        let end = url
            .find(|c: char| c.is_whitespace() || matches!(c, ')' | '"' | '>'))
            .unwrap_or(url.len());
        let (url, after) = url.split_at(end);
        kept.push_str(url.split('?').next().unwrap_or_default());
        rest = after;
    }
    kept + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_done_is_decided_by_the_kind_of_an_error_and_not_by_its_words() {
        let denied = object_store::Error::PermissionDenied {
            path: "a".to_owned(),
            source: "no".into(),
        };
        assert_eq!(trouble(&denied), Trouble::Denied);
        assert_eq!(trouble(&std::io::Error::other(denied)), Trouble::Denied);
        let absent = object_store::Error::NotFound {
            path: "a".to_owned(),
            source: "NoSuchBucket".into(),
        };
        assert_eq!(trouble(&std::io::Error::from(absent)), Trouble::NoPlace);
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        assert_eq!(trouble(&full), Trouble::Full);
        let words = std::io::Error::other("cut off after 403 bytes: Authorization");
        assert_eq!(trouble(&words), Trouble::Other);
    }

    #[test]
    fn signatures_in_urls_are_not_told() {
        let text = "error sending request for url (https://a.example/c?sv=1&sig=hunter2): refused, see https://b?x";
        let told = without_queries(text);
        assert_eq!(
            told,
            "error sending request for url (https://a.example/c): refused, see https://b"
        );
    }
}
