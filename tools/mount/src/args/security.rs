//! What the container's process may do, and what it sees of the host.

use std::io::Read;
use std::path::{Path, PathBuf};

use cli::{During, Failure};
use descriptor::Exit;
use serde_json::Value;
use store::{CreateDoc, Device, Security, Store};

use super::spaces::{Kind, Space};

/// A profile of system calls is not longer than this (docker's default one has 18 KB).
const PROFILE_BYTES: u64 = 1 << 20;
/// Parameters of an IPC namespace (docker's list).
const IPC_SYSCTLS: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Rights, namespaces and devices.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Isolation")]
pub(crate) struct Isolation {
    /// Give a capability beyond docker's fourteen, or ALL
    #[arg(long, value_name = "CAP", value_parser = capability)]
    cap_add: Vec<String>,

    /// Take a capability away, or ALL
    #[arg(long, value_name = "CAP", value_parser = capability)]
    cap_drop: Vec<String>,

    /// seccomp=FILE|unconfined, no-new-privileges, apparmor=PROFILE, unmask=PATHS|ALL, mask=PATHS, systempaths=unconfined, label=disable
    #[arg(long, value_name = "OPT", value_parser = SecurityOption::parse)]
    security_opt: Vec<SecurityOption>,

    /// All capabilities and devices, nothing masked, no filter of system calls
    #[arg(long)]
    privileged: bool,

    /// The user namespace: host
    #[arg(long, value_name = "MODE", value_parser = |text: &str| Space::parse(Kind::User, text))]
    userns: Option<Space>,

    /// The IPC namespace: private, shareable, none, host, container:NAME
    #[arg(long, value_name = "MODE", value_parser = |text: &str| Space::parse(Kind::Ipc, text))]
    ipc: Option<Space>,

    /// The process namespace: private, host, container:NAME
    #[arg(long, value_name = "MODE", value_parser = |text: &str| Space::parse(Kind::Pid, text))]
    pid: Option<Space>,

    /// The namespace of the host name: private, host
    #[arg(long, value_name = "MODE", value_parser = |text: &str| Space::parse(Kind::Uts, text))]
    uts: Option<Space>,

    /// The namespace of control groups: private, host
    #[arg(long, value_name = "MODE", value_parser = |text: &str| Space::parse(Kind::Cgroup, text))]
    cgroupns: Option<Space>,

    /// Set a kernel parameter of the container's namespaces
    #[arg(long, value_name = "NAME=VALUE", value_parser = sysctl)]
    sysctl: Vec<(String, String)>,

    /// Give a device of the host, or one that a CDI specification names (vendor/class=name)
    #[arg(long, value_name = "PATH[:PATH][:rwm]", value_parser = device)]
    device: Vec<Device>,

    /// Let devices be used by their numbers ("c 189:* rmw")
    #[arg(long, value_name = "RULE", value_parser = rule)]
    device_cgroup_rule: Vec<String>,

    /// Where CDI specifications are, in place of /etc/cdi and /run/cdi
    #[arg(long, value_name = "DIR")]
    pub(crate) cdi_spec_dir: Vec<PathBuf>,

    /// Further groups of the process
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
}

impl Isolation {
    /// True where the host's names are the container's.
    pub(super) fn shares_names(&self) -> bool {
        self.uts == Some(Space::Host)
    }

    /// Writes the choices down; other containers by their ids, profiles whole.
    pub(crate) fn record(&self, doc: &mut CreateDoc, store: &Store) -> Result<(), Failure> {
        doc.security = self.security()?;
        for (kind, space) in [
            (Kind::User, &self.userns),
            (Kind::Ipc, &self.ipc),
            (Kind::Pid, &self.pid),
            (Kind::Uts, &self.uts),
            (Kind::Cgroup, &self.cgroupns),
        ] {
            if let Some(text) = space.as_ref().and_then(|space| space.recorded(kind, store).transpose()) {
                doc.namespaces.insert(kind.name().into(), text?);
            }
        }
        doc.sysctls.extend(self.sysctl.iter().cloned());
        self.sysctls_are_the_containers(doc)?;
        doc.devices.clone_from(&self.device);
        // Privileged it may use all of them.
        if !self.privileged {
            doc.device_rules.clone_from(&self.device_cgroup_rule);
        }
        doc.process.groups = sorted(&self.group_add);
        Ok(())
    }

    fn security(&self) -> Result<Security, Failure> {
        let mut security = Security {
            privileged: self.privileged,
            cap_add: sorted(&self.cap_add),
            cap_drop: sorted(&self.cap_drop),
            ..Security::default()
        };
        let all = |list: &[String]| list.iter().any(|name| name == "ALL");
        if all(&security.cap_add) {
            security.cap_add = vec!["ALL".into()];
        }
        if all(&security.cap_drop) {
            security.cap_drop = vec!["ALL".into()];
        }
        for option in &self.security_opt {
            option.record(&mut security)?;
        }
        security.unmask = sorted(&security.unmask);
        if security.unmask.iter().any(|path| path == "ALL") {
            security.unmask = vec!["ALL".into()];
        }
        security.mask = sorted(&security.mask);
        Ok(security)
    }

    /// A parameter of a namespace that is not the container's own would be another's.
    fn sysctls_are_the_containers(&self, doc: &CreateDoc) -> Result<(), Failure> {
        let shared = |mode: &str| mode == "host" || mode.starts_with("container:");
        for name in doc.sysctls.keys() {
            let (flag, mode) = if name.starts_with("net.") {
                ("--net", doc.network.as_str())
            } else {
                ("--ipc", doc.namespaces.get("ipc").map_or("", String::as_str))
            };
            if shared(mode) {
                let why = format!("{name} would be changed for others, too, with {flag} {mode}");
                return Err(Failure::usage("--sysctl", why));
            }
        }
        Ok(())
    }
}

fn sorted(list: &[String]) -> Vec<String> {
    let mut list = list.to_vec();
    list.sort();
    list.dedup();
    list
}

/// A word of `--security-opt`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum SecurityOption {
    NoNewPrivileges(bool),
    /// `unconfined`, `builtin` or a file.
    Seccomp(String),
    Apparmor(String),
    Label(String),
    Unmask(Vec<String>),
    Mask(Vec<String>),
}

impl SecurityOption {
    fn parse(text: &str) -> Result<Self, String> {
        // Docker's older form has a colon.
        let (name, value) =
            text.split_once(['=', ':']).map_or((text, None), |(name, value)| (name, Some(value)));
        let given = || {
            value.filter(|value| !value.is_empty()).ok_or_else(|| format!("invalid --security-opt: {text:?}"))
        };
        let paths = || {
            let list: Vec<String> = given()?.split(':').map(String::from).collect();
            match list.iter().find(|path| !path.starts_with('/')) {
                Some(path) => Err(format!("{path:?} is no absolute path")),
                None => Ok(list),
            }
        };
        match name {
            "no-new-privileges" => match value {
                None | Some("true") => Ok(Self::NoNewPrivileges(true)),
                Some("false") => Ok(Self::NoNewPrivileges(false)),
                Some(_) => Err(format!("invalid --security-opt: {text:?}")),
            },
            "seccomp" => Ok(Self::Seccomp(given()?.into())),
            "apparmor" => Ok(Self::Apparmor(given()?.into())),
            "label" => Ok(Self::Label(given()?.into())),
            "systempaths" if value == Some("unconfined") => Ok(Self::Unmask(vec!["ALL".into()])),
            "unmask" if value.is_some_and(|value| value.eq_ignore_ascii_case("all")) => {
                Ok(Self::Unmask(vec!["ALL".into()]))
            }
            "unmask" => paths().map(Self::Unmask),
            "mask" => paths().map(Self::Mask),
            _ => Err(format!("invalid --security-opt: {text:?}")),
        }
    }

    fn record(&self, security: &mut Security) -> Result<(), Failure> {
        match self {
            Self::NoNewPrivileges(on) => security.no_new_privileges = *on,
            Self::Seccomp(word) if word == "builtin" => security.seccomp = None,
            Self::Seccomp(word) if word == "unconfined" => security.seccomp = Some(word.clone().into()),
            Self::Seccomp(file) => security.seccomp = Some(profile(Path::new(file))?),
            // Without a word there is none.
            Self::Apparmor(profile) => {
                security.apparmor = Some(profile.clone()).filter(|name| name != "unconfined")
            }
            Self::Label(word) if word == "disable" => {}
            Self::Label(word) => {
                let why = format!("label={word}: labels of SELinux are not supported");
                return Err(Failure::new(Exit::Privilege, "--security-opt", why));
            }
            Self::Unmask(paths) => security.unmask.extend(paths.iter().cloned()),
            Self::Mask(paths) => security.mask.extend(paths.iter().cloned()),
        }
        Ok(())
    }
}

/// A profile of the caller's.
fn profile(path: &Path) -> Result<Value, Failure> {
    let what = || format!("--security-opt seccomp={}", path.display());
    let mut text = String::new();
    let read =
        std::fs::File::open(path).and_then(|file| file.take(PROFILE_BYTES + 1).read_to_string(&mut text));
    read.map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Failure::new(Exit::NotFound, what(), e),
        _ => Failure::new(Exit::Other, what(), e),
    })?;
    if text.len() as u64 > PROFILE_BYTES {
        return Err(Failure::new(Exit::Content, what(), format!("more than {PROFILE_BYTES} bytes")));
    }
    let profile: Value = serde_json::from_str(&text).map_err(|e| Failure::new(Exit::Content, what(), e))?;
    seccomp::check_profile(&profile).during(what)?;
    Ok(profile)
}

/// With `CAP_` and in capitals, as the kernel's header has it.
fn capability(text: &str) -> Result<String, String> {
    let upper = text.to_ascii_uppercase();
    if upper == "ALL" {
        return Ok(upper);
    }
    let name = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
    if runtime::defaults::is_capability(&name) {
        Ok(name)
    } else {
        Err(format!("unknown capability {text:?}"))
    }
}

/// With dots, as docker writes them.
fn sysctl(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is no NAME=VALUE"))?;
    let name = name.trim();
    let dotted = name.find(['.', '/']).is_some_and(|at| name[at..].starts_with('.'));
    let plain = name.split(['.', '/']).all(|part| !part.is_empty() && !part.contains('\0'));
    let known = IPC_SYSCTLS.contains(&name) || name.starts_with("net.") || name.starts_with("fs.mqueue.");
    if dotted && plain && known {
        return Ok((name.into(), value.into()));
    }
    Err(format!(
        "{name:?} is not a parameter of a container's namespaces (net.*, fs.mqueue.*, kernel.msg*, kernel.sem, kernel.shm*)"
    ))
}

/// `PATH[:PATH][:rwm]`, or a name of CDI.
fn device(text: &str) -> Result<Device, String> {
    if crate::config::cdi::is_name(text) {
        return Ok(Device { source: text.into(), ..Device::default() });
    }
    let mut parts: Vec<&str> = text.split(':').collect();
    let permissions = match parts[..] {
        [_, last] if is_mode(last) => parts.pop(),
        [_, _, last] if is_mode(last) => parts.pop(),
        [_, _, last] => return Err(format!("invalid device mode: {last:?}")),
        _ => None,
    };
    let [source, target] = match parts[..] {
        [source] => [source, source],
        [source, target] => [source, target],
        _ => return Err(format!("invalid device specification: {text:?}")),
    };
    for path in [source, target] {
        let plain = path.split('/').all(|name| !matches!(name, "." | ".."));
        if !path.starts_with('/') || !plain || path.ends_with('/') {
            return Err(format!("{path:?} is no absolute path"));
        }
    }
    let mut letters: Vec<char> = permissions.unwrap_or("rwm").chars().collect();
    letters.sort_by_key(|c| "rwm".find(*c));
    let permissions = Some(letters.into_iter().collect());
    Ok(Device { source: source.into(), target: Some(target.into()), permissions })
}

/// Some of `rwm`, each once.
fn is_mode(text: &str) -> bool {
    let count = |letter| text.matches(letter).count();
    !text.is_empty()
        && text.chars().all(|c| "rwm".contains(c))
        && ['r', 'w', 'm'].map(count).iter().all(|&n| n < 2)
}

/// Docker's form: a letter, two numbers or stars, some of `rwm`.
fn rule(text: &str) -> Result<String, String> {
    let wrong = || {
        format!(
            "invalid device cgroup format {text:?}: TYPE MAJOR:MINOR MODE is wanted, as in \"c 189:* rmw\""
        )
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    let [kind, numbers, mode] = words[..] else { return Err(wrong()) };
    let (major, minor) = numbers.split_once(':').ok_or_else(wrong)?;
    let number = |text: &str| text == "*" || text.parse::<u32>().is_ok();
    if !matches!(kind, "a" | "b" | "c") || !number(major) || !number(minor) || !is_mode(mode) {
        return Err(wrong());
    }
    Ok(words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_known_in_any_spelling() {
        for text in ["net_admin", "NET_ADMIN", "CAP_NET_ADMIN", "cap_net_admin"] {
            assert_eq!(capability(text).as_deref(), Ok("CAP_NET_ADMIN"), "{text}");
        }
        assert_eq!(capability("all").as_deref(), Ok("ALL"));
        capability("NET_ADMINS").expect_err("no capability");
    }

    #[test]
    fn security_options_are_dockers() {
        use SecurityOption as Is;
        let parsed = |text| SecurityOption::parse(text);
        for text in ["no-new-privileges", "no-new-privileges:true", "no-new-privileges=true"] {
            assert_eq!(parsed(text), Ok(Is::NoNewPrivileges(true)), "{text}");
        }
        for text in ["seccomp=unconfined", "seccomp:unconfined"] {
            assert_eq!(parsed(text), Ok(Is::Seccomp("unconfined".into())), "{text}");
        }
        for text in ["systempaths=unconfined", "unmask=ALL", "unmask=all"] {
            assert_eq!(parsed(text), Ok(Is::Unmask(vec!["ALL".into()])), "{text}");
        }
        assert_eq!(parsed("mask=/a:/b"), Ok(Is::Mask(vec!["/a".into(), "/b".into()])));
        for text in
            ["seccomp", "seccomp=", "unmask=a", "no-new-privileges=maybe", "systempaths=x", "other=1", ""]
        {
            parsed(text).expect_err(text);
        }
    }

    #[test]
    fn devices_are_dockers() {
        let made = |source: &str, target: &str, mode: &str| Device {
            source: source.into(),
            target: Some(target.into()),
            permissions: Some(mode.into()),
        };
        for (text, want) in [
            ("/dev/sda", made("/dev/sda", "/dev/sda", "rwm")),
            ("/dev/sda:/dev/xvdc", made("/dev/sda", "/dev/xvdc", "rwm")),
            ("/dev/sda:/dev/xvdc:r", made("/dev/sda", "/dev/xvdc", "r")),
            ("/dev/sda:/dev/xvdc:mw", made("/dev/sda", "/dev/xvdc", "wm")),
            ("/dev/sda:rw", made("/dev/sda", "/dev/sda", "rw")),
        ] {
            assert_eq!(device(text), Ok(want), "{text}");
        }
        for text in [
            "",
            "sda",
            "/dev/sda:xvdc",
            "/dev/sda:/dev/x:rwx",
            "/dev/sda:/dev/x:rr",
            "/dev/../x",
            "/a:/b:r:w",
        ] {
            device(text).expect_err(text);
        }
    }

    #[test]
    fn parameters_are_those_of_namespaces() {
        assert_eq!(sysctl("net.core.somaxconn=1"), Ok(("net.core.somaxconn".into(), "1".into())));
        sysctl("kernel.shmmax=1").expect("ipc");
        for text in [
            "kernel.panic=1",
            "net",
            "vm.swappiness=1",
            "net..x=1",
            "net/x=1",
            "kernel.hostname=x",
            "net./../x=1",
        ] {
            sysctl(text).expect_err(text);
        }
    }

    #[test]
    fn rules_of_devices_are_dockers() {
        assert_eq!(rule("c  1:3   rmw").as_deref(), Ok("c 1:3 rmw"));
        rule("a *:* rwm").expect("all");
        for text in ["c 1 rwm", "x 1:3 r", "c 1:3 x", "c 1:3", "c -1:3 r", "c 1:3 r r"] {
            rule(text).expect_err(text);
        }
    }
}
