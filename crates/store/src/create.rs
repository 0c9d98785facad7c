//! create.json: what the user chose for a container, which is what its id is made of.

use std::collections::BTreeMap;

use descriptor::Digest;
use serde::{Deserialize, Serialize};

use crate::{DocumentFault, Error, Result};

/// What the user chose, and nothing that differs from one creation to the next: no time, path or id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CreateDoc {
    /// The name at creation.
    pub name: String,
    /// The image manifest's digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<Digest>,
    /// The image's layers by diffID, the lowest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub diff_ids: Vec<Digest>,
    /// What runs in it.
    pub process: Process,
    /// What is mounted into it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Limits by the name of their flag.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, String>,
    /// none, private, host, ...
    pub network: String,
    /// Its host name, where one was chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Whether its root is read-only.
    #[serde(skip_serializing_if = "is_false")]
    pub read_only: bool,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Removed when its journey ends (`--rm`).
    #[serde(skip_serializing_if = "is_false")]
    pub auto_remove: bool,
    /// Kept for a look after a failure (`--keep-on-failure`).
    #[serde(skip_serializing_if = "is_false")]
    pub keep_on_failure: bool,
    /// Whether the caller's proxies are the container's, too (`--no-http-proxy`); where it is not said, they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_proxy: Option<bool>,
    /// Choices of a version that knows more.
    #[serde(flatten)]
    pub more: BTreeMap<String, serde_json::Value>,
}

/// What was chosen for the container's process; what was not is the image's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Process {
    /// In place of the image's ENTRYPOINT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// In place of the image's CMD.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// KEY=VALUE, on top of the image's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The working directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// user[:group].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// Something mounted into a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Mount {
    /// bind, tmpfs, ...
    pub kind: String,
    /// What, on the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Where, in the container.
    pub target: String,
    /// Whether it is read-only.
    #[serde(skip_serializing_if = "is_false")]
    pub read_only: bool,
    /// Further options.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(value: &bool) -> bool {
    !value
}

impl CreateDoc {
    /// create.json's bytes: the canonical form (RFC 8785).
    ///
    /// # Errors
    /// [`Error::Document`] for a number without a canonical form.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let value = serde_json::to_value(self).map_err(|e| Error::document("create.json", e))?;
        let rule =
            |e: descriptor::NotCanonical| Error::document("create.json", DocumentFault::Rule(e.to_string()));
        descriptor::canonical(&value).map_err(rule)
    }

    /// Whether the caller's proxy variables are handed on to the container when it runs.
    pub fn passes_proxies(&self) -> bool {
        self.http_proxy.unwrap_or(true)
    }

    /// The container's id: 64 hexadecimal digits.
    ///
    /// # Errors
    /// As [`CreateDoc::to_bytes`].
    pub fn id(&self) -> Result<String> {
        Ok(Digest::of(&self.to_bytes()?).hex())
    }
}
