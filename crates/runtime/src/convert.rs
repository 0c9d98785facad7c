//! An image's configuration and the user's choices to a runtime configuration, the way docker converts them.
//!
//! Follows image-spec v1.1, conversion.md, and runtime-spec v1.0.2, config.md.
//!
//! Invariants
//! - Labels and annotations of an image change nothing but annotations under [`LABEL_PREFIX`].
//! - The same image and choices give the same bytes on the same host ([`to_bytes`]).
//! - Nothing of the caller's environment enters: not proxies, not `TERM`, not `HOME`. Those are the run's.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use oci_spec::image::ImageConfiguration;
use oci_spec::runtime::{
    Capability, Linux, LinuxDevice, LinuxNamespace, LinuxResources, LinuxSeccomp, Mount, PosixRlimit,
    Process, Root, Spec, User,
};
use serde_json::Value;

use crate::defaults;
use crate::environment::override_env;
use crate::users::Identity;

/// The version of the runtime specification that all peers in use accept.
const OCI_VERSION: &str = "1.0.2";
/// Labels become annotations below this prefix, so that none can be one that a runtime acts upon.
pub const LABEL_PREFIX: &str = "org.ocipipe.label.";
/// Holds the user as it was given, a name or number, for a later run to resolve again.
const USER_ANNOTATION: &str = "org.ocipipe.user";
/// The image's stop signal (image-spec, conversion.md).
pub const STOP_SIGNAL_ANNOTATION: &str = "org.opencontainers.image.stopSignal";

/// Which network a container sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// A namespace of its own with nothing but the loopback interface.
    None,
    /// A namespace of its own, with the loopback interface only.
    Private,
    /// The host's.
    Host,
}

impl Network {
    /// The word that the command line and the documents use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Private => "private",
            Self::Host => "host",
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "private" => Ok(Self::Private),
            "host" => Ok(Self::Host),
            other => Err(format!("no network {other:?}: it is none, private or host")),
        }
    }
}

/// What is converted: the image's own configuration and the choices over it.
#[derive(Debug)]
pub struct Creation<'a> {
    /// The image's configuration.
    pub image: &'a ImageConfiguration,
    /// `K=V`, over the image's.
    pub env: &'a [String],
    /// In place of the image's working directory.
    pub cwd: Option<&'a str>,
    /// In place of the image's entrypoint; then the image's command does not apply either.
    pub entrypoint: Option<&'a [String]>,
    /// In place of the image's command.
    pub command: Option<&'a [String]>,
    /// Labels over the image's.
    pub labels: &'a [(String, String)],
    /// The container's host name, where it has one of its own.
    pub hostname: Option<&'a str>,
    /// The host name that programs are told of.
    pub shown_name: &'a str,
    /// The NIS domain name.
    pub domainname: Option<&'a str>,
    /// The mounts of the kernel's file systems, before all others.
    pub kernel: Vec<Mount>,
    /// In place of the image's stop signal.
    pub stop_signal: Option<&'a str>,
    /// What it may do and use.
    pub confinement: Confinement,
    /// No writes to the root file system.
    pub read_only: bool,
    /// Mounts after the kernel's own, those of files for `/etc` among them.
    pub mounts: Vec<Mount>,
    /// The user as it was given, and who that is in this container.
    pub user: (&'a str, &'a Identity),
}

/// What a container may do, see and use; docker's defaults where nothing is said.
#[derive(Debug, Clone)]
pub struct Confinement {
    /// The capabilities that bound it.
    pub capabilities: HashSet<Capability>,
    /// No more rights by set-user-ID programs.
    pub no_new_privileges: bool,
    /// An AppArmor profile.
    pub apparmor: Option<String>,
    /// The filter of its system calls.
    pub seccomp: Option<LinuxSeccomp>,
    /// Paths that show nothing.
    pub masked: Vec<String>,
    /// Paths that cannot be written.
    pub read_only: Vec<String>,
    /// Limits of its control group, the rules of devices among them.
    pub resources: LinuxResources,
    /// Limits of each process.
    pub rlimits: Vec<PosixRlimit>,
    /// How readily it is killed where memory is out.
    pub oom_score_adj: Option<i32>,
    /// Devices beside the default ones.
    pub devices: Vec<LinuxDevice>,
    /// Its namespaces.
    pub namespaces: Vec<LinuxNamespace>,
    /// Parameters of those.
    pub sysctls: HashMap<String, String>,
}

impl Default for Confinement {
    fn default() -> Self {
        let mut resources = LinuxResources::default();
        resources.set_devices(Some(defaults::device_rules()));
        Self {
            capabilities: HashSet::from(defaults::CAPABILITIES),
            no_new_privileges: false,
            apparmor: None,
            seccomp: Some(defaults::seccomp()),
            masked: defaults::masked_paths(),
            read_only: defaults::readonly_paths(),
            resources,
            rlimits: Vec::new(),
            oom_score_adj: None,
            devices: Vec::new(),
            namespaces: defaults::namespaces(true),
            sysctls: HashMap::new(),
        }
    }
}

/// The runtime configuration of a bundle whose root is `rootfs`.
pub fn spec(creation: &Creation<'_>) -> Spec {
    let mut root = Root::default();
    root.set_path("rootfs".into()).set_readonly(Some(creation.read_only));
    let mut mounts = creation.kernel.clone();
    mounts.extend(creation.mounts.iter().cloned());
    let mut spec = Spec::default();
    spec.set_version(OCI_VERSION.into())
        .set_root(Some(root))
        .set_hostname(creation.hostname.map(String::from))
        .set_domainname(creation.domainname.map(String::from))
        .set_process(Some(process(creation)))
        .set_mounts(Some(mounts))
        .set_annotations(Some(annotations(creation)))
        .set_linux(Some(linux(&creation.confinement)));
    spec
}

fn process(creation: &Creation<'_>) -> Process {
    let confinement = &creation.confinement;
    let mut process = Process::default();
    process
        .set_terminal(Some(false))
        .set_user(user(creation.user.1))
        .set_args(Some(words(creation.image, creation.entrypoint, creation.command)))
        .set_env(Some(environment(creation.image, creation.shown_name, creation.env)))
        .set_cwd(working_directory(creation.image, creation.cwd))
        .set_capabilities(Some(defaults::held(&confinement.capabilities, creation.user.1.uid)))
        .set_rlimits(Some(confinement.rlimits.clone()).filter(|limits| !limits.is_empty()))
        .set_apparmor_profile(confinement.apparmor.clone())
        .set_oom_score_adj(confinement.oom_score_adj)
        .set_no_new_privileges(Some(confinement.no_new_privileges));
    process
}

/// The runtime's form of an identity.
pub fn user(identity: &Identity) -> User {
    let mut user = User::default();
    user.set_uid(identity.uid).set_gid(identity.gid).set_additional_gids(Some(identity.groups.clone()));
    user
}

/// ENTRYPOINT and CMD by docker's rule: a given entrypoint also puts the image's command away.
/// Empty where neither has a word; then each run must bring its own.
pub fn words(
    image: &ImageConfiguration,
    entrypoint: Option<&[String]>,
    command: Option<&[String]>,
) -> Vec<String> {
    let config = image.config().as_ref();
    let own_entrypoint = config.and_then(|c| c.entrypoint().as_deref()).unwrap_or_default();
    let own_command = config.and_then(|c| c.cmd().as_deref()).unwrap_or_default();
    let command = match (command, entrypoint) {
        (Some(given), _) => given,
        (None, Some(_)) => &[],
        (None, None) => own_command,
    };
    entrypoint.unwrap_or(own_entrypoint).iter().chain(command).cloned().collect()
}

/// The environment: docker's search path and the host name, the image's over those, `given` over all.
pub fn environment(image: &ImageConfiguration, hostname: &str, given: &[String]) -> Vec<String> {
    let mut env = vec![defaults::PATH.to_string(), format!("HOSTNAME={hostname}")];
    let own = image.config().as_ref().and_then(|c| c.env().as_deref()).unwrap_or_default();
    override_env(&mut env, own);
    override_env(&mut env, given);
    env
}

/// The working directory, absolute.
pub fn working_directory(image: &ImageConfiguration, given: Option<&str>) -> PathBuf {
    let own = image.config().as_ref().and_then(|c| c.working_dir().as_deref());
    Path::new("/").join(given.or(own).unwrap_or_default())
}

/// The image's user as it stands in its configuration; root where there is none.
pub fn image_user(image: &ImageConfiguration) -> &str {
    image.config().as_ref().and_then(|c| c.user().as_deref()).unwrap_or_default()
}

/// The image's volumes, in order.
pub fn volumes(image: &ImageConfiguration) -> Vec<PathBuf> {
    let own = image.config().as_ref().and_then(|c| c.volumes().as_deref()).unwrap_or_default();
    let mut paths: Vec<PathBuf> = own.iter().map(|path| Path::new("/").join(path)).collect();
    paths.sort();
    paths
}

fn linux(confinement: &Confinement) -> Linux {
    let some = |list: &Vec<String>| Some(list.clone());
    let mut linux = Linux::default();
    linux
        .set_namespaces(Some(confinement.namespaces.clone()))
        .set_resources(Some(confinement.resources.clone()))
        .set_seccomp(confinement.seccomp.clone())
        .set_masked_paths(some(&confinement.masked))
        .set_readonly_paths(some(&confinement.read_only));
    if !confinement.devices.is_empty() {
        linux.set_devices(Some(confinement.devices.clone()));
    }
    if !confinement.sysctls.is_empty() {
        linux.set_sysctl(Some(confinement.sysctls.clone()));
    }
    linux
}

fn annotations(creation: &Creation<'_>) -> HashMap<String, String> {
    let mut all = HashMap::new();
    let config = creation.image.config().as_ref();
    for (key, value) in config.and_then(|c| c.labels().as_ref()).into_iter().flatten() {
        all.insert(format!("{LABEL_PREFIX}{key}"), value.clone());
    }
    for (key, value) in creation.labels {
        all.insert(format!("{LABEL_PREFIX}{key}"), value.clone());
    }
    all.insert("org.opencontainers.image.os".into(), creation.image.os().to_string());
    all.insert("org.opencontainers.image.architecture".into(), creation.image.architecture().to_string());
    let own = config.and_then(|c| c.stop_signal().as_deref());
    if let Some(signal) = creation.stop_signal.or(own) {
        all.insert(STOP_SIGNAL_ANNOTATION.into(), signal.into());
    }
    if let Some(ports) = config.and_then(|c| c.exposed_ports().as_ref()).filter(|ports| !ports.is_empty()) {
        let mut ports = ports.clone();
        ports.sort();
        all.insert("org.opencontainers.image.exposedPorts".into(), ports.join(","));
    }
    if !creation.user.0.is_empty() {
        all.insert(USER_ANNOTATION.into(), creation.user.0.into());
    }
    all
}

/// The bytes of `config.json`: members and sets in a fixed order, whatever order they were hashed in.
///
/// # Errors
/// What serde makes of a path that is not UTF-8.
pub fn to_bytes(spec: &Spec) -> Result<Vec<u8>, serde_json::Error> {
    let mut value = serde_json::to_value(spec)?;
    if let Some(Value::Object(sets)) = value.pointer_mut("/process/capabilities") {
        for set in sets.values_mut() {
            if let Value::Array(names) = set {
                names.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
            }
        }
    }
    for sorted in ["/annotations", "/linux/sysctl"] {
        if let Some(Value::Object(members)) = value.pointer_mut(sorted) {
            members.sort_keys();
        }
    }
    let mut bytes = serde_json::to_vec_pretty(&value)?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(config: &str) -> ImageConfiguration {
        let text = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{config},"rootfs":{{"type":"layers","diff_ids":[]}}}}"#
        );
        serde_json::from_str(&text).expect("an image configuration")
    }

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(ToString::to_string).collect()
    }

    fn root() -> Identity {
        Identity { uid: 0, gid: 0, groups: vec![0], name: None, home: None }
    }

    fn bytes(image: &ImageConfiguration, identity: &Identity) -> String {
        let creation = Creation {
            image,
            env: &[],
            cwd: None,
            entrypoint: None,
            command: None,
            labels: &[],
            hostname: Some("h"),
            shown_name: "h",
            domainname: None,
            kernel: defaults::mounts(),
            stop_signal: None,
            confinement: Confinement::default(),
            read_only: false,
            mounts: Vec::new(),
            user: ("", identity),
        };
        String::from_utf8(to_bytes(&spec(&creation)).expect("JSON")).expect("UTF-8")
    }

    #[test]
    fn entrypoint_and_command_follow_dockers_table() {
        let both = image(r#"{"Entrypoint":["/e","x"],"Cmd":["c"]}"#);
        let none = image("{}");
        let (p, q) = (strings(&["p"]), strings(&["q", "r"]));
        for (image, entrypoint, command, want) in [
            (&both, None, None, &["/e", "x", "c"][..]),
            (&both, None, Some(&q[..]), &["/e", "x", "q", "r"]),
            (&both, Some(&p[..]), None, &["p"]),
            (&both, Some(&p[..]), Some(&q[..]), &["p", "q", "r"]),
            (&both, Some(&[][..]), Some(&q[..]), &["q", "r"]),
            (&none, None, None, &[]),
            (&none, None, Some(&q[..]), &["q", "r"]),
        ] {
            assert_eq!(words(image, entrypoint, command), strings(want));
        }
    }

    #[test]
    fn the_environment_is_overridden_in_place() {
        let image = image(r#"{"Env":["A=1","PATH=/p","=x","B","C=a=b"]}"#);
        let env = environment(&image, "box", &strings(&["A=2", "D=", "HOSTNAME=other"]));
        assert_eq!(env, strings(&["PATH=/p", "HOSTNAME=other", "A=2", "C=a=b", "D="]));
        assert_eq!(environment(&self::image("{}"), "box", &[])[0], defaults::PATH);
    }

    #[test]
    fn a_relative_working_directory_starts_at_the_root() {
        let image = image(r#"{"WorkingDir":"srv/app"}"#);
        assert_eq!(working_directory(&image, None), Path::new("/srv/app"));
        assert_eq!(working_directory(&image, Some("/w")), Path::new("/w"));
        assert_eq!(working_directory(&self::image("{}"), None), Path::new("/"));
    }

    #[test]
    fn labels_change_nothing_but_namespaced_annotations() {
        let hostile = image(
            r#"{"Labels":{"run.oci.handler":"krun","org.systemd.property.User":"'x'","io.containers.seccomp.profile":"/x",
            "cdi.k8s.io/a":"b","io.podman.annotations.privileged":"TRUE"}}"#,
        );
        let strip = |text: String| {
            let mut value: Value = serde_json::from_str(&text).expect("JSON");
            let annotations = value["annotations"].as_object_mut().expect("annotations");
            annotations.retain(|key, _| !key.starts_with(LABEL_PREFIX));
            value
        };
        let plain = bytes(&image("{}"), &root());
        assert!(bytes(&hostile, &root()).contains("org.ocipipe.label.run.oci.handler"));
        assert_eq!(strip(bytes(&hostile, &root())), strip(plain));
    }

    #[test]
    fn the_same_choices_give_the_same_bytes() {
        let image = image(r#"{"Labels":{"a":"1","b":"2","c":"3","d":"4","e":"5"}}"#);
        let first = bytes(&image, &root());
        for _ in 0..20 {
            assert_eq!(bytes(&image, &root()), first);
        }
    }

    #[test]
    fn capabilities_are_dockers_and_held_by_root_only() {
        let as_root: Value = serde_json::from_str(&bytes(&image("{}"), &root())).expect("JSON");
        let sets = &as_root["process"]["capabilities"];
        assert_eq!(sets["bounding"].as_array().map(Vec::len), Some(14));
        assert_eq!(sets["effective"], sets["bounding"]);
        assert!(sets.get("inheritable").is_none() && sets.get("ambient").is_none(), "{sets}");
        let other = Identity { uid: 1000, ..root() };
        let as_other: Value = serde_json::from_str(&bytes(&image("{}"), &other)).expect("JSON");
        let sets = &as_other["process"]["capabilities"];
        assert_eq!(sets["bounding"].as_array().map(Vec::len), Some(14));
        assert_eq!(sets["effective"].as_array().map(Vec::len), Some(0));
        assert_eq!(sets["permitted"].as_array().map(Vec::len), Some(0));
    }
}
