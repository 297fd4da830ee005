//! The two sides of one switch as a target sees them, and the target itself as users write it.
//! Refuses to know how a provider lays them out.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use clap::ValueEnum as _;
use switchyard_record::Side;
use thiserror::Error;

use crate::provider::ProviderKind;
use crate::routing::Routing;

/// A front object whose traffic is switched: `PROVIDER/NAME[:BASE[:PORT]]`.
///
/// `BASE` is the name of the per-side Services without their suffix; it defaults to the name of
/// the front object. `PORT` is the Services' port, where it differs from the one in the route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// Who routes.
    pub provider: ProviderKind,
    /// Name of the front object.
    pub name: String,
    /// Base name of the per-side Services.
    pub base: String,
    /// Port of the per-side Services, when stated.
    pub port: Option<u16>,
}

impl Target {
    /// The Service that holds only the pods of `side`.
    pub fn backend(&self, side: Side) -> String {
        side.object_name(&self.base)
    }

    /// The target that a record keeps; nothing where it does not say enough.
    pub fn recorded(target: &switchyard_record::Target) -> Option<Self> {
        let mut providers = ProviderKind::value_variants().iter().copied();
        let provider =
            providers.find(|kind| kind.provider().resource().kind == target.object.kind)?;
        let mut priors = target.prior.values();
        let routing = priors.find_map(|value| Routing::from_value(value).ok())?;
        let base = match &routing {
            Routing::Selector { .. } => target.object.name.clone(),
            Routing::Backends { places } => {
                let service = places.values().flat_map(|place| place.keys()).next()?;
                let sides = [Side::BLUE, Side::GREEN, Side::Canary];
                let suffixes = sides.map(|side| format!("-{side}"));
                let base = suffixes
                    .iter()
                    .find_map(|suffix| service.strip_suffix(suffix.as_str()));
                base.unwrap_or(service).to_owned()
            }
        };
        Some(Self {
            provider,
            name: target.object.name.clone(),
            base,
            port: None,
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.provider, self.name)?;
        match (self.base == self.name, self.port) {
            (true, None) => Ok(()),
            (false, None) => write!(formatter, ":{}", self.base),
            (_, Some(port)) => write!(formatter, ":{}:{port}", self.base),
        }
    }
}

/// A target that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadTarget {
    /// It does not look like `provider/name`.
    #[error("`{given}` is not of the form PROVIDER/NAME[:BASE[:PORT]]")]
    Shape {
        /// What was written.
        given: String,
    },
    /// There is no such provider.
    #[error("`{given}` names the provider `{provider}`; known are {known}")]
    Provider {
        /// What was written.
        given: String,
        /// Its first part.
        provider: String,
        /// What may stand there.
        known: String,
    },
    /// A name that Kubernetes would refuse.
    #[error(
        "`{name}` in `{given}` is no object name: lower-case letters, digits, `-` and `.`, at most 253"
    )]
    Name {
        /// What was written.
        given: String,
        /// The part at fault.
        name: String,
    },
    /// A port that is none.
    #[error("`{port}` in `{given}` is no port: a number from 1 to 65535")]
    Port {
        /// What was written.
        given: String,
        /// The part at fault.
        port: String,
    },
}

impl FromStr for Target {
    type Err = BadTarget;

    fn from_str(text: &str) -> Result<Self, BadTarget> {
        let given = text.trim();
        let shape = || BadTarget::Shape {
            given: given.to_owned(),
        };
        let (provider, rest) = given.split_once('/').ok_or_else(shape)?;
        let provider = ProviderKind::from_name(provider).ok_or_else(|| BadTarget::Provider {
            given: given.to_owned(),
            provider: provider.to_owned(),
            known: ProviderKind::names().join(", "),
        })?;
        let mut parts = rest.split(':');
        let name = object_name(given, parts.next().unwrap_or_default())?;
        let base = match parts.next() {
            Some(base) => object_name(given, base)?,
            None => name.clone(),
        };
        let port = parts
            .next()
            .map(|port| port_number(given, port))
            .transpose()?;
        if parts.next().is_some() {
            return Err(shape());
        }
        Ok(Self {
            provider,
            name,
            base,
            port,
        })
    }
}

fn object_name(given: &str, name: &str) -> Result<String, BadTarget> {
    let inner = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.'
    };
    let edge = |byte: Option<u8>| {
        byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let bytes = name.as_bytes();
    let is_valid = bytes.iter().all(|byte| inner(*byte))
        && edge(bytes.first().copied())
        && edge(bytes.last().copied())
        && bytes.len() <= 253;
    if is_valid {
        Ok(name.to_owned())
    } else {
        Err(BadTarget::Name {
            given: given.to_owned(),
            name: name.to_owned(),
        })
    }
}

fn port_number(given: &str, port: &str) -> Result<u16, BadTarget> {
    match port.parse::<u16>() {
        Ok(number) if number > 0 => Ok(number),
        Ok(_) | Err(_) => Err(BadTarget::Port {
            given: given.to_owned(),
            port: port.to_owned(),
        }),
    }
}

/// One side as a front object names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backing {
    /// The side.
    pub side: Side,
    /// The Service that holds only its pods.
    pub service: String,
    /// The selector keys that only its pods carry.
    pub selector: BTreeMap<String, String>,
}

/// Who gets traffic and who gives it away on one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roles {
    /// The front object's namespace.
    pub namespace: String,
    /// The side that is to get traffic.
    pub taking: Backing,
    /// The side that has it now.
    pub giving: Backing,
    /// Every Service name that is a side of this application, the two above among them.
    pub own_services: Vec<String>,
    /// Port of the sides' Services when it is not the one in the route.
    pub port: Option<u16>,
}

impl Roles {
    /// The same sides with the direction turned round.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self {
            taking: self.giving.clone(),
            giving: self.taking.clone(),
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_reads_back_as_written() {
        for text in [
            "service/web",
            "traefik/shop-front:web",
            "gateway/shop:web:8080",
            "gateway/web:web:80",
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!(target.to_string(), text);
        }
        let target: Target = "traefik/shop-front:web".parse().unwrap();
        assert_eq!(target.base, "web");
    }

    #[test]
    fn nonsense_is_refused_with_the_part_at_fault() {
        for text in [
            "",
            "web",
            "service/",
            "istio2/web",
            "service/Web",
            "service/web:",
            "service/web:a:0",
            "service/a:b:1:2",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
