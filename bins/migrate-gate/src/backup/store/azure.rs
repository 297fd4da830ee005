//! Azure's blob storage. Settings are the variables of Azure's own tools.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use switchyard_runner::Environment;

use super::objects::{client_options, retries};

/// Settings that are taken over from the environment, and what each is to `object_store`.
const SETTINGS: [(&str, AzureConfigKey); 9] = [
    ("AZURE_STORAGE_ACCOUNT", AzureConfigKey::AccountName),
    ("AZURE_STORAGE_KEY", AzureConfigKey::AccessKey),
    ("AZURE_STORAGE_SAS_TOKEN", AzureConfigKey::SasKey),
    ("AZURE_TENANT_ID", AzureConfigKey::AuthorityId),
    ("AZURE_CLIENT_ID", AzureConfigKey::ClientId),
    ("AZURE_CLIENT_SECRET", AzureConfigKey::ClientSecret),
    (
        "AZURE_FEDERATED_TOKEN_FILE",
        AzureConfigKey::FederatedTokenFile,
    ),
    ("AZURE_AUTHORITY_HOST", AzureConfigKey::AuthorityHost),
    ("AZURE_STORAGE_ENDPOINT", AzureConfigKey::Endpoint),
];

/// What proves who we are; one of them has to be there.
const PROOFS: [&str; 4] = [
    "AZURE_STORAGE_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_CLIENT_SECRET",
    "AZURE_FEDERATED_TOKEN_FILE",
];

/// Opens a container.
///
/// # Errors
/// Naming what is missing.
pub(super) fn open(
    container: &str,
    environment: &Environment,
) -> Result<Arc<dyn ObjectStore>, String> {
    if environment.get("AZURE_STORAGE_ACCOUNT").is_none() {
        return Err("AZURE_STORAGE_ACCOUNT is not set".to_owned());
    }
    // Without them the machine's metadata service would be asked, and waited for.
    if PROOFS.iter().all(|name| environment.get(name).is_none()) {
        return Err(format!("none of {} is set", PROOFS.join(", ")));
    }
    let endpoint = environment
        .get("AZURE_STORAGE_ENDPOINT")
        .unwrap_or_default();
    let mut builder = MicrosoftAzureBuilder::new()
        .with_container_name(container)
        .with_client_options(client_options(endpoint, "REQUESTS_CA_BUNDLE", environment)?)
        .with_retry(retries());
    for (name, key) in SETTINGS {
        if let Some(value) = environment.get(name) {
            builder = builder.with_config(key, value);
        }
    }
    let store = builder.build().map_err(|cause| cause.to_string())?;
    Ok(Arc::new(store))
}
