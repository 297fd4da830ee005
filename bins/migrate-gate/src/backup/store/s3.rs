//! S3, and what speaks its language. Settings are the variables of AWS's own tools.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum};
use switchyard_runner::Environment;

use super::objects::{client_options, retries};

/// Settings that are taken over from the environment, and what each is to `object_store`.
const SETTINGS: [(&str, AmazonS3ConfigKey); 6] = [
    ("AWS_ACCESS_KEY_ID", AmazonS3ConfigKey::AccessKeyId),
    ("AWS_SECRET_ACCESS_KEY", AmazonS3ConfigKey::SecretAccessKey),
    ("AWS_SESSION_TOKEN", AmazonS3ConfigKey::Token),
    ("AWS_DEFAULT_REGION", AmazonS3ConfigKey::Region),
    ("AWS_REGION", AmazonS3ConfigKey::Region),
    ("AWS_ENDPOINT_URL", AmazonS3ConfigKey::Endpoint),
];

/// Opens a bucket. Every request carries the SHA-256 of its body, which the server compares.
///
/// # Errors
/// Naming what is missing.
pub(super) fn open(
    bucket: &str,
    environment: &Environment,
) -> Result<Arc<dyn ObjectStore>, String> {
    // Without them the machine's metadata service would be asked, and waited for.
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
        if environment.get(name).is_none() {
            return Err(format!(
                "{name} is not set: log in to AWS in a step before, or set it in the step's `env`"
            ));
        }
    }
    let endpoint = environment.get("AWS_ENDPOINT_URL").unwrap_or_default();
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_checksum_algorithm(Checksum::SHA256)
        .with_client_options(client_options(endpoint, "AWS_CA_BUNDLE", environment)?)
        .with_retry(retries());
    for (name, key) in SETTINGS {
        if let Some(value) = environment.get(name) {
            builder = builder.with_config(key, value);
        }
    }
    let store = builder.build().map_err(|cause| cause.to_string())?;
    Ok(Arc::new(store))
}
