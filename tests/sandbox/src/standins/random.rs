//! Random identifiers and secrets, in the forms in which services give them out.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// A fresh identifier in the form of a UUID, version 4.
pub(super) fn uuid() -> String {
    let hex = hex(&rand::random::<[u8; 16]>());
    let (a, b, c, d, e) = (
        &hex[..8],
        &hex[8..12],
        &hex[13..16],
        &hex[17..20],
        &hex[20..],
    );
    format!("{a}-{b}-4{c}-8{d}-{e}")
}

/// So many random letters and digits.
pub(super) fn opaque(length: usize) -> String {
    let mut text = String::new();
    while text.len() < length {
        let more = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 24]>());
        text.push_str(&more.replace(['-', '_'], ""));
    }
    text.truncate(length);
    text
}

/// Bytes as lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
