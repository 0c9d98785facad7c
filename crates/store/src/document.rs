//! Manifests and indexes, read strictly (image-spec v1.1, manifest.md and image-index.md; docker's version 2, schema 2).
//!
//! A document that two readers could take for two things is refused: with members of both kinds (CVE-2021-41190), with a
//! member that stands twice, or with one that differs from a known one in case only.

use std::collections::BTreeMap;
use std::fmt;

use descriptor::{Descriptor, Platform, media};
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::{DocumentFault, Error, Result};

type Fault<T> = std::result::Result<T, DocumentFault>;

/// The members of a manifest, an index and a descriptor that mean something to somebody.
const KNOWN: [&str; 18] = [
    "schemaVersion",
    "mediaType",
    "artifactType",
    "config",
    "layers",
    "manifests",
    "subject",
    "annotations",
    "digest",
    "size",
    "urls",
    "data",
    "platform",
    "os",
    "architecture",
    "variant",
    "fsLayers",
    "history",
];
/// The members of an image configuration whose meaning decides what is unpacked.
const KNOWN_CONFIG: [&str; 7] = ["rootfs", "diff_ids", "config", "os", "architecture", "variant", "history"];

/// A manifest or an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// A choice of images.
    Index(Index),
}

/// An image manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// OCI's or docker's.
    pub media_type: String,
    /// The image configuration.
    pub config: Descriptor,
    /// The layers, the lowest first.
    pub layers: Vec<Descriptor>,
    /// Free text by key.
    pub annotations: BTreeMap<String, String>,
}

/// An image index or manifest list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// OCI's or docker's.
    pub media_type: String,
    /// What there is to choose from.
    pub manifests: Vec<Descriptor>,
    /// Free text by key.
    pub annotations: BTreeMap<String, String>,
}

impl Document {
    /// Reads a document; `media_type` is what its descriptor, or the registry, calls it, where one does.
    ///
    /// # Errors
    /// [`Error::Document`] with the rule it breaks.
    pub fn parse(bytes: &[u8], media_type: Option<&str>) -> Result<Self> {
        parse(bytes, media_type).map_err(|fault| Error::document("document", fault))
    }

    /// OCI's or docker's name for its kind.
    pub fn media_type(&self) -> &str {
        match self {
            Self::Manifest(manifest) => &manifest.media_type,
            Self::Index(index) => &index.media_type,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members {
    schema_version: u64,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

pub(crate) fn parse(bytes: &[u8], wanted: Option<&str>) -> Fault<Document> {
    let value = strict(bytes)?;
    check_case(&value, &KNOWN)?;
    if value.get("fsLayers").is_some() {
        return Err(DocumentFault::Unsupported("docker's schema 1".into()));
    }
    for (index, manifest) in [("manifests", "layers"), ("manifests", "config")] {
        if value.get(index).is_some() && value.get(manifest).is_some() {
            return Err(DocumentFault::TwoKinds(index, manifest));
        }
    }
    let members: Members = serde_json::from_value(value)?;
    if members.schema_version != 2 {
        return Err(rule(format!("schemaVersion is {}, not 2", members.schema_version)));
    }
    let media_type = media_type(&members, wanted)?;
    let annotations = members.annotations.unwrap_or_default();
    if media::is_index(&media_type) {
        let manifests = members.manifests.ok_or_else(|| rule("an index without manifests"))?;
        return Ok(Document::Index(Index { media_type, manifests, annotations }));
    }
    let config = members.config.ok_or_else(|| rule("a manifest without config"))?;
    let layers = members.layers.ok_or_else(|| rule("a manifest without layers"))?;
    Ok(Document::Manifest(Manifest { media_type, config, layers, annotations }))
}

/// The document's media type; descriptor, mediaType and members must agree.
fn media_type(members: &Members, wanted: Option<&str>) -> Fault<String> {
    let by_shape = if members.manifests.is_some() { media::OCI_INDEX } else { media::OCI_MANIFEST };
    // OCI's mediaType may be absent (manifest.md: SHOULD); then it is what the members say.
    let found = members.media_type.as_deref().unwrap_or(by_shape);
    if !media::is_image(found) {
        return Err(DocumentFault::Unsupported(found.chars().take(100).collect()));
    }
    if let Some(wanted) = wanted.filter(|wanted| *wanted != found) {
        let short = |text: &str| text.chars().take(100).collect();
        return Err(DocumentFault::MediaType { wanted: short(wanted), found: short(found) });
    }
    if media::is_index(found) != members.manifests.is_some() {
        return Err(rule(format!("mediaType {found:?} does not fit its members")));
    }
    Ok(found.into())
}

fn rule(text: impl Into<String>) -> DocumentFault {
    DocumentFault::Rule(text.into())
}

impl Index {
    /// The image for a platform: an entry of the same os and architecture, of the same variant before one without.
    ///
    /// An entry without a platform is taken only where it is the only one.
    ///
    /// # Errors
    /// [`Error::NoPlatform`] with what there is.
    pub fn choose(&self, platform: &Platform) -> Result<&Descriptor> {
        let fits = |exact: bool| {
            self.manifests.iter().find(|entry| {
                entry.platform.as_ref().is_some_and(|p| match exact {
                    true => p == platform,
                    false => {
                        (&p.os, &p.architecture) == (&platform.os, &platform.architecture)
                            && variants_agree(p, platform)
                    }
                })
            })
        };
        let single = || match &self.manifests[..] {
            [only] if only.platform.is_none() => Some(only),
            _ => None,
        };
        fits(true)
            .or_else(|| fits(false))
            .or_else(single)
            .ok_or_else(|| Error::NoPlatform { wanted: platform.clone(), available: self.platforms() })
    }

    /// The platforms there are, without attestations (whose platform is `unknown/unknown`).
    pub fn platforms(&self) -> Vec<String> {
        let platforms = self.manifests.iter().filter_map(|entry| entry.platform.as_ref());
        platforms.filter(|p| p.os != "unknown").map(ToString::to_string).collect()
    }
}

/// Where one side names no variant, the architecture's usual one is meant (image-index.md, "Platform Variants"; containerd).
fn variants_agree(entry: &Platform, wanted: &Platform) -> bool {
    let usual = match &*entry.architecture {
        "arm64" => "v8",
        "arm" => "v7",
        "amd64" => "v1",
        _ => "",
    };
    let of = |p: &Platform| p.variant.clone().filter(|v| !v.is_empty()).unwrap_or_else(|| usual.into());
    of(entry) == of(wanted)
}

/// JSON in which no member stands twice.
pub(crate) fn strict(bytes: &[u8]) -> Fault<Value> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict.deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// Refuses members, at any depth, that differ from a known one in case only.
pub(crate) fn check_case(value: &Value, known: &[&'static str]) -> Fault<()> {
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| check_case(item, known)),
        Value::Object(members) => members.iter().try_for_each(|(name, value)| {
            if let Some(wanted) = known.iter().find(|k| **k != name && k.eq_ignore_ascii_case(name)) {
                return Err(DocumentFault::Case { found: name.clone(), wanted });
            }
            // Free text by key: a label may have any name.
            if name == "annotations" { Ok(()) } else { check_case(value, known) }
        }),
        _ => Ok(()),
    }
}

/// An image configuration as JSON, strict where its meaning decides what is unpacked.
pub(crate) fn config(bytes: &[u8]) -> Fault<Value> {
    let value = strict(bytes)?;
    for part in [Some(&value), value.get("rootfs")].into_iter().flatten() {
        let Value::Object(members) = part else { return Err(rule("an image configuration is an object")) };
        for name in members.keys() {
            if let Some(wanted) = KNOWN_CONFIG.iter().find(|k| **k != name && k.eq_ignore_ascii_case(name)) {
                return Err(DocumentFault::Case { found: name.clone(), wanted });
            }
        }
    }
    Ok(value)
}

struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> std::result::Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Strict)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Value, A::Error> {
        let mut members = serde_json::Map::new();
        while let Some(name) = map.next_key::<String>()? {
            if members.contains_key(&name) {
                return Err(A::Error::custom(format_args!("member {name:?} stands twice")));
            }
            let value = map.next_value_seed(Strict)?;
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}
