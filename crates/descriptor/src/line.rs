//! The four kinds of lines and their JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Classify, Descriptor, Digest, Exit, LINE_LIMIT, Platform, canonical, media};

/// One line between two stages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// An image: a manifest or an index.
    Image(ImageLine),
    /// The unpacked layers of an image.
    Rootfs(RootfsLine),
    /// A container.
    Container(ContainerLine),
    /// A failure on its way to the last stage.
    Error(ErrorLine),
}

/// An image: the descriptor of its manifest or index, whose exact bytes are in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageLine {
    /// Names the manifest or index.
    #[serde(flatten)]
    pub descriptor: Descriptor,
    /// The store it lies in; none for an image in a registry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<PathBuf>,
    /// The reference it was asked for by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// `name@digest`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pinned: Option<String>,
    /// False while blobs are still on their way.
    pub complete: bool,
}

/// The unpacked layers of an image; the digest is that of the canonical `{type, diff_ids}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RootfsLine {
    /// Of the canonical form of the image configuration's `rootfs`.
    pub digest: Digest,
    /// The canonical form's length in bytes.
    pub size: u64,
    /// The image's platform.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Free text by key.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The store the trees lie in.
    pub store: PathBuf,
    /// The image manifest's digest.
    pub image: Digest,
    /// The image configuration's digest.
    pub config: Digest,
    /// The chainID of all layers (image-spec, config.md, "Layer ChainID"); none for an image without layers.
    #[serde(rename = "chainID", skip_serializing_if = "Option::is_none")]
    pub chain_id: Option<Digest>,
    /// How many layers.
    pub layers: u64,
}

/// A container; the digest is that of its `create.json` and, without the algorithm, its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerLine {
    /// Of create.json.
    pub digest: Digest,
    /// The length of create.json in bytes.
    pub size: u64,
    /// Free text by key.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The store the container lies in.
    pub store: PathBuf,
    /// 64 hexadecimal digits.
    pub id: String,
    /// Random for each creation, so that a line of a removed container never names its successor.
    pub instance: String,
    /// Unique among the store's containers.
    pub name: String,
    /// The OCI bundle.
    pub bundle: PathBuf,
    /// Where its root is, or would be, mounted.
    pub rootfs: PathBuf,
    /// Whether it is mounted there.
    pub mounted: bool,
    /// The manifest it was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<Digest>,
    /// Its state.
    pub status: Status,
    /// How its last process ended: 0 to 255, 128 + n after signal n.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
    /// True once a supervisor of ours stopped trying to start it again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub given_up: Option<bool>,
}

impl RootfsLine {
    /// The digest and the size of the canonical `{type, diff_ids}`: the identity of a stack of layers.
    pub fn identity(diff_ids: &[Digest]) -> (Digest, u64) {
        let value = serde_json::json!({"type": "layers", "diff_ids": diff_ids});
        let bytes = canonical(&value).expect("strings alone have a canonical form");
        (Digest::of(&bytes), bytes.len() as u64)
    }
}

/// A failure that travels to the end of the pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorLine {
    /// The tool that failed.
    pub tool: String,
    /// Its exit status, which every later stage exits with.
    pub exit: u8,
    /// What it was doing.
    pub what: String,
    /// Why that failed.
    pub why: String,
    /// What can be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The states of a container: those of runtime-spec 1.2, whose `creating` never shows, and `paused`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Made, never started.
    Created,
    /// Its process runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// Its process ended.
    Stopped,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

/// Input that is no line.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// More than [`LINE_LIMIT`] bytes without a newline.
    #[error("more than {LINE_LIMIT} bytes without a newline")]
    TooLong,
    /// Not a JSON object with a line's members.
    #[error("{0}")]
    Json(#[source] serde_json::Error),
    /// A media type that is none of ours.
    #[error("its mediaType is {0:?}")]
    MediaType(String),
    /// A member is missing that its kind has, or says nothing: an error's exit status of 0.
    #[error("{kind} line without {member}")]
    Missing {
        /// The kind of line.
        kind: &'static str,
        /// The missing member.
        member: &'static str,
    },
    /// The input could not be read.
    #[error("read: {0}")]
    Read(#[source] std::io::Error),
}

impl Classify for LineError {
    fn exit(&self) -> Exit {
        match self {
            Self::Read(_) => Exit::Other,
            _ => Exit::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Read(_) => None,
            _ => Some("stdin must carry ocipipe's lines: does the stage before lack --pass?".into()),
        }
    }
}

/// All members of all kinds. Serde refuses a member that stands twice; unknown ones are ignored.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members {
    media_type: String,
    digest: Option<Digest>,
    size: Option<u64>,
    platform: Option<Platform>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    store: Option<PathBuf>,
    reference: Option<String>,
    pinned: Option<String>,
    complete: Option<bool>,
    image: Option<Digest>,
    config: Option<Digest>,
    #[serde(rename = "chainID")]
    chain_id: Option<Digest>,
    layers: Option<u64>,
    id: Option<String>,
    instance: Option<String>,
    name: Option<String>,
    bundle: Option<PathBuf>,
    rootfs: Option<PathBuf>,
    mounted: Option<bool>,
    status: Option<Status>,
    exit_code: Option<u8>,
    given_up: Option<bool>,
    tool: Option<String>,
    exit: Option<u8>,
    what: Option<String>,
    why: Option<String>,
    hint: Option<String>,
}

impl Line {
    /// Reads one line, with or without its newline.
    ///
    /// # Errors
    /// [`LineError`] for anything that is no line of this project.
    pub fn parse(bytes: &[u8]) -> Result<Self, LineError> {
        if bytes.len() > LINE_LIMIT {
            return Err(LineError::TooLong);
        }
        let members: Members = serde_json::from_slice(bytes).map_err(LineError::Json)?;
        match members.media_type.as_str() {
            media::ROOTFS => members.rootfs_line().map(Self::Rootfs),
            media::CONTAINER => members.container_line().map(Self::Container),
            media::ERROR => members.error_line().map(Self::Error),
            other if media::is_image(other) => members.image_line().map(Self::Image),
            other => Err(LineError::MediaType(other.chars().take(100).collect())),
        }
    }

    /// The line's JSON without a newline, the media type first.
    pub fn to_json(&self) -> serde_json::Value {
        let (media_type, body) = match self {
            // The descriptor brings its own media type.
            Self::Image(line) => (None, serde_json::to_value(line)),
            Self::Rootfs(line) => (Some(media::ROOTFS), serde_json::to_value(line)),
            Self::Container(line) => (Some(media::CONTAINER), serde_json::to_value(line)),
            Self::Error(line) => (Some(media::ERROR), serde_json::to_value(line)),
        };
        let mut all = serde_json::Map::new();
        if let Some(media_type) = media_type {
            all.insert("mediaType".into(), media_type.into());
        }
        if let Ok(serde_json::Value::Object(body)) = body {
            all.extend(body);
        }
        all.into()
    }

    /// `image`, `rootfs`, `container` or `error`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Image(_) => "image",
            Self::Rootfs(_) => "rootfs",
            Self::Container(_) => "container",
            Self::Error(_) => "error",
        }
    }
}

/// The members of a kind, or the error that names the first that is missing.
macro_rules! need {
    ($kind:literal, $member:expr, $name:literal) => {
        $member.ok_or(LineError::Missing { kind: $kind, member: $name })?
    };
}

impl Members {
    fn image_line(self) -> Result<ImageLine, LineError> {
        let descriptor = Descriptor {
            media_type: self.media_type,
            digest: need!("image", self.digest, "digest"),
            size: need!("image", self.size, "size"),
            platform: self.platform,
            annotations: self.annotations,
        };
        // A descriptor from elsewhere (skopeo's index.json, say) is an image line whose blobs are there.
        let complete = self.complete.unwrap_or(true);
        Ok(ImageLine {
            descriptor,
            store: self.store,
            reference: self.reference,
            pinned: self.pinned,
            complete,
        })
    }

    fn rootfs_line(self) -> Result<RootfsLine, LineError> {
        Ok(RootfsLine {
            digest: need!("rootfs", self.digest, "digest"),
            size: need!("rootfs", self.size, "size"),
            platform: self.platform,
            annotations: self.annotations,
            store: need!("rootfs", self.store, "store"),
            image: need!("rootfs", self.image, "image"),
            config: need!("rootfs", self.config, "config"),
            chain_id: self.chain_id,
            layers: need!("rootfs", self.layers, "layers"),
        })
    }

    fn container_line(self) -> Result<ContainerLine, LineError> {
        Ok(ContainerLine {
            digest: need!("container", self.digest, "digest"),
            size: need!("container", self.size, "size"),
            annotations: self.annotations,
            store: need!("container", self.store, "store"),
            id: need!("container", self.id, "id"),
            instance: need!("container", self.instance, "instance"),
            name: need!("container", self.name, "name"),
            bundle: need!("container", self.bundle, "bundle"),
            rootfs: need!("container", self.rootfs, "rootfs"),
            mounted: need!("container", self.mounted, "mounted"),
            image: self.image,
            status: need!("container", self.status, "status"),
            exit_code: self.exit_code,
            given_up: self.given_up,
        })
    }

    fn error_line(self) -> Result<ErrorLine, LineError> {
        Ok(ErrorLine {
            tool: need!("error", self.tool, "tool"),
            // Success would hide the failure from every later stage.
            exit: need!("error", self.exit.filter(|&status| status != 0), "exit"),
            what: need!("error", self.what, "what"),
            why: need!("error", self.why, "why"),
            hint: self.hint,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error() -> ErrorLine {
        ErrorLine { tool: "oci-pull".into(), exit: 3, what: "a".into(), why: "b".into(), hint: None }
    }

    fn image() -> ImageLine {
        ImageLine {
            descriptor: Descriptor::of(media::OCI_MANIFEST, b"{}"),
            store: Some("/s".into()),
            reference: Some("docker.io/library/a:1".into()),
            pinned: None,
            complete: false,
        }
    }

    #[test]
    fn a_line_reads_back_as_it_was_written() {
        for line in [Line::Image(image()), Line::Error(error())] {
            assert_eq!(Line::parse(line.to_json().to_string().as_bytes()).expect("parse"), line);
        }
    }

    #[test]
    fn an_error_line_has_no_digest() {
        assert!(Line::Error(error()).to_json().get("digest").is_none());
    }

    #[test]
    fn a_bare_descriptor_is_a_complete_image_line() {
        let text = serde_json::to_string(&image().descriptor).expect("JSON");
        let Line::Image(line) = Line::parse(text.as_bytes()).expect("parse") else { panic!("an image line") };
        assert!(line.complete);
    }

    #[test]
    fn what_is_no_line_is_refused() {
        let digest = Digest::of(b"");
        let twice = format!(
            r#"{{"mediaType":"{}","digest":"{digest}","digest":"{digest}","size":1}}"#,
            media::OCI_MANIFEST
        );
        let negative = format!(r#"{{"mediaType":"{}","digest":"{digest}","size":-1}}"#, media::OCI_MANIFEST);
        for text in [
            "",
            "hello",
            "[]",
            "{}",
            r#"{"mediaType":"text/plain"}"#,
            r#"{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1}"#,
            r#"{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:../x","size":1}"#,
            r#"{"mediaType":"application/vnd.ocipipe.error.v1+json","tool":"x","exit":256,"what":"","why":""}"#,
            r#"{"mediaType":"application/vnd.ocipipe.error.v1+json","tool":"x","exit":0,"what":"","why":""}"#,
            &twice,
            &negative,
        ] {
            assert!(Line::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
