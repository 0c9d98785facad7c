//! OCI image layouts from lists of layers, with every field open to a lie.

use crate::digest;
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// gzip, the usual one.
    Gzip,
    /// zstd.
    Zstd,
}

impl Packing {
    /// The compressed form of `bytes`.
    pub fn pack(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Plain => bytes.to_vec(),
            Self::Gzip => {
                let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                out.write_all(bytes).expect("a Vec takes every write");
                out.finish().expect("gzip ends")
            }
            Self::Zstd => zstd::encode_all(bytes, 1).expect("zstd ends"),
        }
    }

    /// The media type of a layer packed so.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Plain => "application/vnd.oci.image.layer.v1.tar",
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}

/// The manifest's media type.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// An image to be written: layers from bottom to top and a config.
#[derive(Clone, Debug)]
pub struct Image {
    layers: Vec<(Vec<u8>, Packing)>,
    config: Value,
    diff_ids: Option<Vec<String>>,
    raw_config: Option<Vec<u8>>,
    edit: Option<fn(&mut Value)>,
    docker: bool,
}

/// What an [`Image`] became: its blobs by digest.
#[derive(Clone, Debug)]
pub struct Written {
    /// The layout's directory.
    pub layout: PathBuf,
    /// The manifest's digest.
    pub manifest: String,
    /// The config's digest.
    pub config: String,
    /// The layers' digests as stored (compressed), bottom first.
    pub layers: Vec<String>,
    /// The layers' true diffIDs, bottom first.
    pub diff_ids: Vec<String>,
}

impl Default for Image {
    fn default() -> Self {
        Self::new()
    }
}

impl Image {
    /// An image without layers, for linux/amd64.
    pub fn new() -> Self {
        Self {
            layers: Vec::new(),
            config: json!({"Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["/bin/sh"]}),
            diff_ids: None,
            raw_config: None,
            edit: None,
            docker: false,
        }
    }

    /// Adds a layer (an uncompressed tar) on top.
    pub fn layer(mut self, archive: Vec<u8>, packing: Packing) -> Self {
        self.layers.push((archive, packing));
        self
    }

    /// Sets one member of the config's `config` object (`Env`, `User`, ...).
    pub fn set(mut self, member: &str, value: Value) -> Self {
        self.config[member] = value;
        self
    }

    /// Lies about the diffIDs.
    pub fn diff_ids(mut self, diff_ids: Vec<String>) -> Self {
        self.diff_ids = Some(diff_ids);
        self
    }

    /// Writes these bytes in place of the config.
    pub fn raw_config(mut self, bytes: &[u8]) -> Self {
        self.raw_config = Some(bytes.to_vec());
        self
    }

    /// Changes the manifest before it is written.
    pub fn edit_manifest(mut self, edit: fn(&mut Value)) -> Self {
        self.edit = Some(edit);
        self
    }

    /// Writes docker's schema 2 media types instead of OCI's.
    pub fn docker(mut self) -> Self {
        self.docker = true;
        self
    }

    /// Writes the layout into `dir` (made where missing), tagged `reference` in its index.
    pub fn write(&self, dir: &Path, reference: &str) -> Written {
        let blobs = dir.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).expect("the layout's directory can be made");
        std::fs::write(dir.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#).expect("oci-layout");
        let (descriptors, true_ids) = self.write_layers(dir);
        let config = self.config_bytes(self.diff_ids.as_ref().unwrap_or(&true_ids));
        let config_type = match self.docker {
            true => "application/vnd.docker.container.image.v1+json",
            false => "application/vnd.oci.image.config.v1+json",
        };
        let manifest_type = match self.docker {
            true => "application/vnd.docker.distribution.manifest.v2+json",
            false => MANIFEST,
        };
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": manifest_type,
            "config": {"mediaType": config_type, "digest": put(dir, &config), "size": config.len()},
            "layers": descriptors,
        });
        if let Some(edit) = self.edit {
            edit(&mut manifest);
        }
        let bytes = serde_json::to_vec(&manifest).expect("a manifest is JSON");
        let manifest_digest = put(dir, &bytes);
        index(dir, manifest_type, &manifest_digest, bytes.len(), reference);
        Written {
            layout: dir.to_owned(),
            manifest: manifest_digest,
            config: digest(&config),
            layers: descriptors.iter().filter_map(|d| d["digest"].as_str().map(str::to_owned)).collect(),
            diff_ids: true_ids,
        }
    }

    fn write_layers(&self, dir: &Path) -> (Vec<Value>, Vec<String>) {
        let mut descriptors = Vec::new();
        let mut diff_ids = Vec::new();
        for (archive, packing) in &self.layers {
            let bytes = packing.pack(archive);
            let media_type = match self.docker {
                true => "application/vnd.docker.image.rootfs.diff.tar.gzip",
                false => packing.media_type(),
            };
            descriptors
                .push(json!({"mediaType": media_type, "digest": put(dir, &bytes), "size": bytes.len()}));
            diff_ids.push(digest(archive));
        }
        (descriptors, diff_ids)
    }

    fn config_bytes(&self, diff_ids: &[String]) -> Vec<u8> {
        self.raw_config.clone().unwrap_or_else(|| {
            let history: Vec<Value> = diff_ids.iter().map(|_| json!({"created_by": "testkit"})).collect();
            let config = json!({
                "created": "2020-01-01T00:00:00Z",
                "architecture": "amd64",
                "os": "linux",
                "config": self.config,
                "rootfs": {"type": "layers", "diff_ids": diff_ids},
                "history": history,
            });
            serde_json::to_vec(&config).expect("a config is JSON")
        })
    }
}

/// Stores `bytes` as a blob of the layout and returns its digest.
pub fn put(layout: &Path, bytes: &[u8]) -> String {
    let digest = digest(bytes);
    std::fs::write(blob(layout, &digest), bytes).expect("a blob can be written");
    digest
}

/// The path of a blob in a layout.
pub fn blob(layout: &Path, digest: &str) -> PathBuf {
    layout.join("blobs/sha256").join(digest.trim_start_matches("sha256:"))
}

fn index(dir: &Path, media_type: &str, digest: &str, size: usize, reference: &str) {
    let path = dir.join("index.json");
    let mut document = std::fs::read(&path)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok())
        .unwrap_or_else(|| json!({"schemaVersion": 2, "manifests": []}));
    if let Some(manifests) = document["manifests"].as_array_mut() {
        manifests.push(json!({
            "mediaType": media_type,
            "digest": digest,
            "size": size,
            "annotations": {"org.opencontainers.image.ref.name": reference},
        }));
    }
    std::fs::write(path, document.to_string()).expect("index.json can be written");
}
