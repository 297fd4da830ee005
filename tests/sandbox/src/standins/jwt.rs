//! RS256 tokens: keys that rotate, signing, checking, and the key set that others check with. It
//! knows nothing of what the claims of a service mean.

use std::{
    fmt, io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    rsa::{KeyPair, PublicKeyComponents},
    signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256},
};
use rsa::{PrivateKey, pkcs8::EncodePrivateKey as _};
use serde_json::{Value, json};

use super::random::{hex, opaque, uuid};

/// The size of a key in bits, as GitHub and Entra have it.
const KEY_BITS: usize = 2_048;

/// A key with the identifier under which it is published.
struct Key {
    id: String,
    pair: KeyPair,
    public: PublicKeyComponents<Vec<u8>>,
}

impl Key {
    fn generate() -> io::Result<Self> {
        let private = PrivateKey::new(&mut rand::rng(), KEY_BITS);
        let der = private.map_err(io::Error::other)?.to_pkcs8_der();
        let der = der.map_err(io::Error::other)?;
        let pair = KeyPair::from_pkcs8(der.as_bytes());
        let pair = pair.map_err(|rejected| io::Error::other(rejected.to_string()))?;
        Ok(Self {
            id: uuid(),
            public: PublicKeyComponents::from(pair.public_key()),
            pair,
        })
    }

    fn sign(&self, claims: &Value) -> String {
        let header = json!({"typ": "JWT", "alg": "RS256", "kid": self.id});
        let signed = format!("{}.{}", encode(&header), encode(claims));
        let mut signature = vec![0; self.pair.public().modulus_len()];
        let random = SystemRandom::new();
        let done = self.pair.sign(
            &RSA_PKCS1_SHA256,
            &random,
            signed.as_bytes(),
            &mut signature,
        );
        done.expect("a key that was read signs");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn document(&self) -> Value {
        json!({
            "kty": "RSA", "alg": "RS256", "use": "sig", "kid": self.id,
            "n": URL_SAFE_NO_PAD.encode(&self.public.n), "e": URL_SAFE_NO_PAD.encode(&self.public.e),
        })
    }
}

/// The keys of one issuer. The newest signs; all of them are published.
pub struct KeyRing {
    keys: Mutex<Vec<Key>>,
    publication: Option<PathBuf>,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing").finish_non_exhaustive()
    }
}

impl KeyRing {
    /// A ring with one key.
    ///
    /// # Errors
    /// No key can be made.
    pub fn generate() -> io::Result<Arc<Self>> {
        Self::new(None)
    }

    /// A ring whose public keys are also kept in a file of a folder, where whoever answers for the
    /// issuer finds them. The file goes with the ring.
    ///
    /// # Errors
    /// No key can be made, or the folder not be written to.
    pub fn published_in(folder: PathBuf) -> io::Result<Arc<Self>> {
        std::fs::create_dir_all(&folder)?;
        Self::new(Some(folder.join(format!("{}.json", opaque(16)))))
    }

    fn new(publication: Option<PathBuf>) -> io::Result<Arc<Self>> {
        let ring = Self {
            keys: Mutex::new(vec![Key::generate()?]),
            publication,
        };
        ring.publish()?;
        Ok(Arc::new(ring))
    }

    /// Adds a key that signs from now on. What older ones signed stays good.
    ///
    /// # Errors
    /// No key can be made or published.
    pub fn rotate(&self) -> io::Result<()> {
        let key = Key::generate()?;
        self.lock().push(key);
        self.publish()
    }

    /// Withdraws every key but the newest: what they signed is worth nothing any more.
    ///
    /// # Errors
    /// The keys cannot be published.
    pub fn withdraw_old(&self) -> io::Result<()> {
        let mut keys = self.lock();
        let old = keys.len() - 1;
        keys.drain(..old);
        drop(keys);
        self.publish()
    }

    /// Signs claims with the newest key.
    #[must_use]
    pub fn sign(&self, claims: &Value) -> String {
        self.lock()
            .last()
            .expect("a ring is never empty")
            .sign(claims)
    }

    /// The published key set.
    #[must_use]
    pub fn key_set(&self) -> Value {
        json!({"keys": self.lock().iter().map(Key::document).collect::<Vec<_>>()})
    }

    /// What the published keys say of a token's signature.
    #[must_use]
    pub fn check(&self, token: &Token) -> Signature {
        let keys = self.lock();
        let key = keys
            .iter()
            .find(|key| token.header["kid"] == key.id.as_str());
        match key {
            None => Signature::UnknownKey,
            Some(_) if token.header["alg"] != "RS256" => Signature::Wrong,
            Some(key) => {
                let signed = token.signed.as_bytes();
                let parameters = &RSA_PKCS1_2048_8192_SHA256;
                match key.public.verify(parameters, signed, &token.signature) {
                    Ok(()) => Signature::Good,
                    Err(_) => Signature::Wrong,
                }
            }
        }
    }

    fn publish(&self) -> io::Result<()> {
        let Some(path) = &self.publication else {
            return Ok(());
        };
        let partial = path.with_extension("partial");
        std::fs::write(&partial, self.key_set().to_string())?;
        std::fs::rename(partial, path)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Key>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for KeyRing {
    fn drop(&mut self) {
        if let Some(path) = &self.publication {
            // A file that is left behind only names keys that nobody has.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// What a key set says of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signature {
    /// A published key made it.
    Good,
    /// The key that is named is published, and did not make it.
    Wrong,
    /// No published key has the identifier that is named.
    UnknownKey,
}

/// A token taken apart, not checked.
#[derive(Debug, Clone)]
pub struct Token {
    /// The header.
    pub header: Value,
    /// The claims.
    pub claims: Value,
    signed: String,
    signature: Vec<u8>,
}

impl Token {
    /// Takes a token apart; `None` for what is not three parts of base64url around JSON objects.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        Some(Self {
            header: decode(header)?,
            claims: decode(claims)?,
            signed: signed.to_owned(),
            signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
        })
    }

    /// A claim that is text; empty where it is absent or something else.
    #[must_use]
    pub fn text(&self, claim: &str) -> &str {
        self.claims[claim].as_str().unwrap_or_default()
    }

    /// A claim that is a number; 0 where it is absent or something else.
    #[must_use]
    pub fn number(&self, claim: &str) -> i64 {
        self.claims[claim].as_i64().unwrap_or_default()
    }

    /// Whether a second lies in the token's life, as far as it states one.
    #[must_use]
    pub fn lives_at(&self, second: i64) -> bool {
        second < self.number("exp") && second >= self.number("nbf")
    }

    /// The identifier of the key that is named.
    #[must_use]
    pub fn key_id(&self) -> String {
        let id = self.header["kid"].as_str().unwrap_or_default();
        hex(id.as_bytes()).to_uppercase()
    }
}

fn encode(document: &Value) -> String {
    URL_SAFE_NO_PAD.encode(document.to_string())
}

fn decode(part: &str) -> Option<Value> {
    let document: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()?;
    document.is_object().then_some(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_published_key_signed_is_good() {
        let ring = KeyRing::generate().unwrap();
        let old = Token::parse(&ring.sign(&json!({"sub": "old"}))).unwrap();
        ring.rotate().unwrap();
        let text = ring.sign(&json!({"sub": "new"}));
        let new = Token::parse(&text).unwrap();
        assert_ne!(old.header["kid"], new.header["kid"]);
        assert_eq!(ring.check(&old), Signature::Good);
        ring.withdraw_old().unwrap();
        assert_eq!(ring.check(&old), Signature::UnknownKey);
        assert_eq!(ring.check(&new), Signature::Good);

        let parts: Vec<&str> = text.split('.').collect();
        let forged = encode(&json!({"sub": "admin"}));
        let forged = Token::parse(&format!("{}.{forged}.{}", parts[0], parts[2])).unwrap();
        assert_eq!(ring.check(&forged), Signature::Wrong);
        let mut unsigned = new.clone();
        unsigned.header["alg"] = json!("none");
        assert_eq!(ring.check(&unsigned), Signature::Wrong);
    }

    #[test]
    fn what_is_no_token_is_not_taken_apart() {
        for text in ["", "a.b", "a.b.c", "e30.W10.", "e30.e30.*"] {
            assert!(Token::parse(text).is_none(), "{text}");
        }
        assert!(Token::parse("e30.e30.").is_some());
    }

    #[test]
    fn a_published_ring_leaves_nothing_behind() {
        let folder = std::env::temp_dir().join(format!("key-ring-{}", opaque(8)));
        let ring = KeyRing::published_in(folder.clone()).unwrap();
        ring.rotate().unwrap();
        let file = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap();
        let document: Value = serde_json::from_slice(&std::fs::read(file.path()).unwrap()).unwrap();
        assert_eq!(document, ring.key_set());
        assert_eq!(document["keys"].as_array().map(Vec::len), Some(2));
        drop(ring);
        std::fs::remove_dir(folder).expect("empty");
    }
}
