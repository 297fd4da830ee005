//! Replaces images by name, with kustomize's meaning: `name=ref` matches every container whose
//! image has that name, whatever its tag or digest. Refuses to know registries.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use crate::object::Object;
use crate::pods;
use crate::suggestion::nearest;

/// One `name=ref`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageOverride {
    name: String,
    replacement: Replacement,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Replacement {
    /// `registry/app:tag`, `registry/app@sha256:…`: the whole reference.
    Reference(String),
    /// `:tag`: the name stays.
    Tag(String),
    /// `@sha256:…`: the name stays.
    Digest(String),
}

/// Why an override was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ImageError {
    /// Not of the form `name=ref`.
    #[error(
        "no image override: {problem}; allowed is `name=ref`, as in `web=registry.example/web:v1.1.0`, `web=:v1.1.0` or `web=@sha256:…`"
    )]
    NotAnOverride {
        /// What was given.
        given: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// No container has an image of this name.
    #[error("no container has an image named `{name}`; the manifests have {}", list(.present))]
    Unknown {
        /// The name that was given.
        name: String,
        /// The names that the manifests have.
        present: Vec<String>,
        /// The one that was probably meant.
        suggestion: Option<String>,
    },
    /// Two overrides for one name.
    #[error("image `{name}` is overridden twice")]
    Twice {
        /// The name.
        name: String,
    },
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "no containers".to_owned();
    }
    names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

impl FromStr for ImageOverride {
    type Err = ImageError;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        let refused = |problem| ImageError::NotAnOverride {
            given: given.to_owned(),
            problem,
        };
        let (name, reference) = given
            .trim()
            .split_once('=')
            .ok_or_else(|| refused("there is no `=`"))?;
        if name.is_empty() || !name.chars().all(is_reference_letter) {
            return Err(refused("the name before `=` is no image name"));
        }
        if split_reference(name).0 != name {
            return Err(refused(
                "the name before `=` must not have a tag or a digest",
            ));
        }
        Ok(Self {
            name: name.to_owned(),
            replacement: replacement(reference).map_err(refused)?,
        })
    }
}

fn replacement(reference: &str) -> Result<Replacement, &'static str> {
    if let Some(digest) = reference.strip_prefix('@') {
        return is_digest(digest)
            .then(|| Replacement::Digest(digest.to_owned()))
            .ok_or("the digest must be `sha256:` and 64 hexadecimal digits");
    }
    if let Some(tag) = reference.strip_prefix(':') {
        return is_tag(tag)
            .then(|| Replacement::Tag(tag.to_owned()))
            .ok_or("the tag must be letters, digits, `_`, `.` and `-`");
    }
    let (name, tag, digest) = split_reference(reference);
    if name.is_empty() || !name.chars().all(is_reference_letter) {
        return Err("the part after `=` is no image reference");
    }
    if tag.is_none() && digest.is_none() {
        return Err("the reference has neither a tag nor a digest, so it would mean `latest`");
    }
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err("the tag must be letters, digits, `_`, `.` and `-`");
    }
    if digest.is_some_and(|digest| !is_digest(digest)) {
        return Err("the digest must be `sha256:` and 64 hexadecimal digits");
    }
    Ok(Replacement::Reference(reference.to_owned()))
}

const fn is_reference_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_' | '/' | ':')
}

fn is_tag(tag: &str) -> bool {
    !tag.is_empty()
        && tag.len() <= 128
        && !tag.starts_with(['.', '-'])
        && tag
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_'))
}

fn is_digest(digest: &str) -> bool {
    digest
        .strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.chars().all(|letter| letter.is_ascii_hexdigit()))
}

/// Splits `registry:5000/app:tag@sha256:…` into name, tag and digest. A colon before the last
/// slash is a port, not a tag.
#[must_use]
pub fn split_reference(reference: &str) -> (&str, Option<&str>, Option<&str>) {
    let (rest, digest) = match reference.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (reference, None),
    };
    let path_start = rest.rfind('/').map_or(0, |slash| slash + 1);
    match rest[path_start..].split_once(':') {
        Some((last, tag)) => (&rest[..path_start + last.len()], Some(tag), digest),
        None => (rest, None, digest),
    }
}

impl ImageOverride {
    fn applied_to(&self, image: &str) -> String {
        let (name, _, _) = split_reference(image);
        match &self.replacement {
            Replacement::Reference(reference) => reference.clone(),
            Replacement::Tag(tag) => format!("{name}:{tag}"),
            Replacement::Digest(digest) => format!("{name}@{digest}"),
        }
    }
}

impl fmt::Display for ImageOverride {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.replacement {
            Replacement::Reference(reference) => write!(formatter, "{}={reference}", self.name),
            Replacement::Tag(tag) => write!(formatter, "{}=:{tag}", self.name),
            Replacement::Digest(digest) => write!(formatter, "{}=@{digest}", self.name),
        }
    }
}

/// Replaces the images of all containers, init and ephemeral ones included.
///
/// # Errors
/// An override whose name no container has, with the name that was probably meant; or two
/// overrides for one name. Nothing is changed then.
pub fn override_images(
    objects: &mut [Object],
    overrides: &[ImageOverride],
) -> Result<(), ImageError> {
    let present = image_names(objects);
    for (index, wanted) in overrides.iter().enumerate() {
        if overrides[..index]
            .iter()
            .any(|seen| seen.name == wanted.name)
        {
            return Err(ImageError::Twice {
                name: wanted.name.clone(),
            });
        }
        if !present.contains(&wanted.name) {
            return Err(unknown(&wanted.name, &present));
        }
    }
    for object in objects {
        let kind = object.kind();
        let Some(template) = pods::template_mut(kind, object.value_mut()) else {
            continue;
        };
        pods::each_container_mut(template, &mut |container| {
            let Some(Value::String(image)) = container.get_mut("image") else {
                return;
            };
            let name = split_reference(image).0.to_owned();
            if let Some(wanted) = overrides.iter().find(|wanted| wanted.name == name) {
                *image = wanted.applied_to(image);
            }
        });
    }
    Ok(())
}

/// The names of all images in these objects, without tags, sorted, each once.
#[must_use]
pub fn image_names(objects: &[Object]) -> Vec<String> {
    let mut names: Vec<String> = objects
        .iter()
        .flat_map(|object| pods::images(object.kind(), object.value()))
        .map(|image| split_reference(&image).0.to_owned())
        .collect();
    names.sort();
    names.dedup();
    names
}

fn unknown(name: &str, present: &[String]) -> ImageError {
    let by_last_part = present
        .iter()
        .find(|candidate| last_part(candidate) == last_part(name))
        .map(String::as_str);
    ImageError::Unknown {
        name: name.to_owned(),
        present: present.to_vec(),
        suggestion: by_last_part
            .or_else(|| nearest(name, present.iter().map(String::as_str)))
            .map(str::to_owned),
    }
}

fn last_part(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::parse;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn objects() -> Vec<Object> {
        parse(
            "web.yaml",
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  template:\n    spec:\n      initContainers: [{name: migrate, image: 'registry.example:5000/shop/web'}]\n      containers:\n      - {name: web, image: 'registry.example:5000/shop/web:v1.0.0'}\n      - {name: proxy, image: 'envoy:v1'}\n---\napiVersion: batch/v1\nkind: CronJob\nmetadata: {name: sweep}\nspec: {jobTemplate: {spec: {template: {spec: {containers: [{name: a, image: 'registry.example:5000/shop/web@sha256:0'}]}}}}}\n",
        )
        .expect("valid")
    }

    fn overridden(given: &[&str]) -> Result<Vec<String>, ImageError> {
        let overrides = given
            .iter()
            .map(|text| text.parse())
            .collect::<Result<Vec<_>, _>>()?;
        let mut objects = objects();
        override_images(&mut objects, &overrides)?;
        Ok(objects
            .iter()
            .flat_map(|object| pods::images(object.kind(), object.value()))
            .collect())
    }

    #[test]
    fn every_container_with_the_name_gets_the_reference_whatever_its_tag() {
        assert_eq!(
            overridden(&["registry.example:5000/shop/web=mirror.example/web:v2"]),
            Ok(vec![
                "mirror.example/web:v2".to_owned(),
                "mirror.example/web:v2".to_owned(),
                "envoy:v1".to_owned(),
                "mirror.example/web:v2".to_owned(),
            ])
        );
    }

    #[test]
    fn a_tag_or_a_digest_alone_keeps_the_name() {
        let digest = format!("envoy=@{DIGEST}");
        let images = overridden(&["registry.example:5000/shop/web=:v2", &digest]).expect("valid");
        assert_eq!(images[1], "registry.example:5000/shop/web:v2");
        assert_eq!(images[2], format!("envoy@{DIGEST}"));
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_likely_one() {
        let error = overridden(&["shop/web=:v2"]).expect_err("unknown");
        assert_eq!(
            error.to_string(),
            "no container has an image named `shop/web`; the manifests have `envoy`, `registry.example:5000/shop/web`"
        );
        let ImageError::Unknown { suggestion, .. } = error else {
            panic!("another error: {error}")
        };
        assert_eq!(
            suggestion.as_deref(),
            Some("registry.example:5000/shop/web")
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for given in [
            "",
            "web",
            "=web:v1",
            "web=",
            "web:v1=web:v2",
            "web=web",
            "web=web:",
            "web=:",
            "web=@sha256:12",
            "web=we b:v1",
            "web=:-v1",
            "web=web@md5:abc",
            "web=web:v1@sha256:zz",
        ] {
            let error = given.parse::<ImageOverride>().expect_err(given);
            assert!(
                error.to_string().starts_with("no image override: "),
                "{given}"
            );
        }
        assert_eq!(
            overridden(&["envoy=:a", "envoy=:b"]),
            Err(ImageError::Twice {
                name: "envoy".to_owned()
            })
        );
    }

    #[test]
    fn a_port_is_no_tag() {
        assert_eq!(
            split_reference("registry:5000/app"),
            ("registry:5000/app", None, None)
        );
        assert_eq!(
            split_reference("registry:5000/app:1@sha256:a"),
            ("registry:5000/app", Some("1"), Some("sha256:a"))
        );
    }
}
