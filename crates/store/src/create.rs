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
    /// Limits of the process's own resources by name, `SOFT:HARD` (`--ulimit`).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ulimits: BTreeMap<String, String>,
    /// Devices of the host, or their CDI names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// Rules of the device control group in docker's form, `c 42:* rmw` (`--device-cgroup-rule`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_rules: Vec<String>,
    /// What the process may do, and what is hidden from it.
    #[serde(skip_serializing_if = "is_default")]
    pub security: Security,
    /// Namespaces by kind (ipc, pid, uts, user, cgroup) where they are not the container's own: `host`, `none`, `container:ID`, ...
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub namespaces: BTreeMap<String, String>,
    /// Kernel parameters of the container's namespaces.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
    /// How it finds other hosts.
    #[serde(skip_serializing_if = "is_default")]
    pub names: Names,
    /// A small first process that reaps what its command leaves (`--init`).
    #[serde(skip_serializing_if = "is_false")]
    pub init: bool,
    /// In place of the image's STOPSIGNAL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Seconds from the stop signal to SIGKILL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<u32>,
    /// Where the output of a run in the background is kept: how many bytes a file, and how many files.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub log: BTreeMap<String, String>,
    /// The second, third, ... container of these choices, where those before were renamed: so that each has its own id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub again: Option<u32>,
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
    /// Further groups, by name or number (`--group-add`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
}

/// A device of the host in a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Device {
    /// Its path on the host, or its name as the Container Device Interface has it (`vendor/class=name`).
    pub source: String,
    /// Its path in the container; none for one of CDI.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Some of `rwm`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permissions: Option<String>,
}

/// What a container's process may do, and what is hidden from it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Security {
    /// All capabilities and devices, nothing masked, no filter (`--privileged`).
    #[serde(skip_serializing_if = "is_false")]
    pub privileged: bool,
    /// Capabilities beyond the default ones, with CAP_, or ALL.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cap_add: Vec<String>,
    /// Capabilities that are taken away, with CAP_, or ALL.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cap_drop: Vec<String>,
    /// No more rights by set-user-ID programs.
    #[serde(skip_serializing_if = "is_false")]
    pub no_new_privileges: bool,
    /// In place of the default filter of system calls: `unconfined`, or a profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<serde_json::Value>,
    /// An AppArmor profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apparmor: Option<String>,
    /// Paths that are not masked and not read-only, or `ALL`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unmask: Vec<String>,
    /// Further paths that are masked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mask: Vec<String>,
}

/// How a container finds other hosts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Names {
    /// `HOST:ADDRESS` lines for /etc/hosts (`--add-host`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Name servers in place of the host's (`--dns`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<String>,
    /// Domains to search in (`--dns-search`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// resolv.conf(5) options (`--dns-option`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// The NIS domain name (`--domainname`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
}

/// Something mounted into a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Mount {
    /// bind, volume, tmpfs or image.
    pub kind: String,
    /// A path of the host, a volume's name, an image's digest.
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

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
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
