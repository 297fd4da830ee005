//! Digests of configuration: one that makes pods restart when a ConfigMap that they read
//! changes. Secrets take no part: a digest of a short secret gives it away to whoever may read
//! pods.

use std::collections::BTreeMap;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::kind::Kind;
use crate::references::{self, ConfigKind};

/// The digest of the ConfigMaps in `config_maps` (by name) that this workload's pods read;
/// `None` when they read none of them. 16 hexadecimal digits of SHA-256.
#[must_use]
pub fn of_workload(
    kind: Kind,
    workload: &Value,
    config_maps: &BTreeMap<String, Value>,
) -> Option<String> {
    let mut names: Vec<String> = references::configs(kind, workload)
        .into_iter()
        .filter(|(config, _)| *config == ConfigKind::ConfigMap)
        .map(|(_, name)| name)
        .filter(|name| config_maps.contains_key(name))
        .collect();
    names.sort();
    names.dedup();
    if names.is_empty() {
        return None;
    }
    let mut hash = Sha256::new();
    for name in &names {
        let config_map = &config_maps[name];
        for part in ["data", "binaryData"] {
            for (key, value) in config_map.get(part).map(sorted).unwrap_or_default() {
                for text in [part, key.as_str(), value.as_str()] {
                    // Lengths keep neighbouring texts apart.
                    hash.update((text.len() as u64).to_be_bytes());
                    hash.update(text.as_bytes());
                }
            }
        }
    }
    Some(hex(&hash.finalize()[..8]))
}

fn sorted(data: &Value) -> BTreeMap<String, String> {
    crate::pods::text_map(data)
}

/// SHA-256 of bytes, in 64 hexadecimal digits.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
