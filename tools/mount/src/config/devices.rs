//! Devices of the host in a container.

use cli::Failure;
use descriptor::Exit;
use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType};
use runtime::convert::Confinement;
use runtime::defaults;
use rustix::fs::{FileType, major, minor};
use rustix::io::Errno;
use serde_json::{Value, json};
use store::CreateDoc;

use super::cdi::Edits;

/// Directories of /dev that hold no devices of the host's, and names that are the container's own (docker's list).
const NOT_THE_HOSTS: [&str; 12] = [
    "pts",
    "shm",
    "fd",
    "mqueue",
    ".lxc",
    ".lxd-mounts",
    ".udev",
    "console",
    "ptmx",
    "stdin",
    "stdout",
    "stderr",
];
/// As deep as /dev nests anywhere; more is a loop.
const DEPTH: usize = 8;
/// As many devices as a container is given; a host has some hundreds.
const MOST: usize = 16_384;

/// A device and what may be done with it.
struct Given {
    device: LinuxDevice,
    permissions: String,
}

pub(super) fn fill(doc: &CreateDoc, edits: &Edits, confinement: &mut Confinement) -> Result<(), Failure> {
    if doc.security.privileged {
        let mut all = Vec::new();
        below("/dev", "/dev", "rwm", DEPTH, &mut all)?;
        confinement.devices = all.into_iter().map(|given| given.device).collect();
        confinement.resources.set_devices(Some(vec![rule(json!({"allow": true, "access": "rwm"}))?]));
    }
    let mut given = Vec::new();
    for device in &doc.devices {
        // The others are CDI's.
        if let Some(target) = &device.target {
            let permissions = device.permissions.as_deref().unwrap_or("rwm");
            of_host(&device.source, target, permissions, &mut given)?;
        }
    }
    for node in &edits.devices {
        given.push(of_cdi(node)?);
    }
    if !doc.security.privileged {
        let mut rules = confinement.resources.devices().clone().unwrap_or_default();
        if rules.is_empty() && !(given.is_empty() && doc.device_rules.is_empty()) {
            // A node alone is not enough: the control group of every container denies what no rule allows.
            rules = defaults::device_list();
        }
        for one in &given {
            rules.push(of_device(one)?);
        }
        for text in &doc.device_rules {
            rules.push(of_text(text)?);
        }
        confinement.resources.set_devices(Some(rules));
    }
    for Given { device, .. } in given {
        confinement.devices.retain(|other| other.path() != device.path());
        confinement.devices.push(device);
    }
    Ok(())
}

/// A device, or all that are below a directory.
fn of_host(source: &str, target: &str, permissions: &str, given: &mut Vec<Given>) -> Result<(), Failure> {
    let what = || format!("--device {source}");
    let stat = rustix::fs::stat(source).map_err(|e| match e {
        Errno::NOENT | Errno::NOTDIR => Failure::new(Exit::NotFound, what(), "no such device on this host"),
        e => Failure::new(Exit::Other, what(), e),
    })?;
    if !FileType::from_raw_mode(stat.st_mode).is_dir() {
        let device = node(target, &stat).ok_or_else(|| Failure::usage(what(), "not a device node"))?;
        given.push(Given { device, permissions: permissions.into() });
        return Ok(());
    }
    let before = given.len();
    below(source, target, permissions, DEPTH, given)?;
    if given.len() == before {
        return Err(Failure::usage(what(), "no device in it"));
    }
    Ok(())
}

/// The devices in a directory of the host and below; links are not followed.
#[allow(clippy::disallowed_methods, reason = "the host's /dev, or a directory that the caller names")]
fn below(
    source: &str,
    target: &str,
    permissions: &str,
    depth: usize,
    given: &mut Vec<Given>,
) -> Result<(), Failure> {
    let failed =
        |e: &dyn std::fmt::Display| Failure::new(Exit::Other, format!("--device {source}"), e.to_string());
    let mut names = Vec::new();
    for entry in std::fs::read_dir(source).map_err(|e| failed(&e))? {
        names.extend(entry.map_err(|e| failed(&e))?.file_name().into_string());
    }
    names.sort();
    for name in names.iter().filter(|name| !NOT_THE_HOSTS.contains(&name.as_str())) {
        let (source, target) = (format!("{source}/{name}"), format!("{target}/{name}"));
        // It may be gone since.
        let Ok(stat) = rustix::fs::lstat(&source) else { continue };
        if FileType::from_raw_mode(stat.st_mode).is_dir() {
            if depth > 0 {
                below(&source, &target, permissions, depth - 1, given)?;
            }
        } else if let Some(device) = node(&target, &stat) {
            if given.len() >= MOST {
                return Err(failed(&format!("more than {MOST} devices")));
            }
            given.push(Given { device, permissions: permissions.into() });
        }
    }
    Ok(())
}

/// A node with the numbers, mode and owner of the host's; none for another kind of file.
fn node(target: &str, stat: &rustix::fs::Stat) -> Option<LinuxDevice> {
    let typ = match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice => LinuxDeviceType::C,
        FileType::BlockDevice => LinuxDeviceType::B,
        _ => return None,
    };
    let mut device = LinuxDevice::default();
    device
        .set_path(target.into())
        .set_typ(typ)
        .set_major(major(stat.st_rdev).into())
        .set_minor(minor(stat.st_rdev).into())
        .set_file_mode(Some(stat.st_mode & 0o7777))
        .set_uid(Some(stat.st_uid))
        .set_gid(Some(stat.st_gid));
    Some(device)
}

/// A node as CDI describes it: what it leaves out is the host's.
fn of_cdi(edit: &super::cdi::Node) -> Result<Given, Failure> {
    let what = || format!("CDI device node {}", edit.path);
    let source = edit.host_path.as_deref().unwrap_or(&edit.path);
    let found = match rustix::fs::stat(source) {
        Ok(stat) => node(&edit.path, &stat),
        Err(_) => None,
    };
    let complete = edit.typ.is_some() && edit.major.is_some() && edit.minor.is_some();
    let mut device = match found {
        Some(device) => device,
        None if complete => LinuxDevice::default(),
        None => {
            return Err(Failure::new(
                Exit::NotFound,
                what(),
                format!("{source:?} is no device of this host"),
            ));
        }
    };
    device.set_path(edit.path.clone().into());
    if let Some(text) = &edit.typ {
        let typ = match text.as_str() {
            "b" => LinuxDeviceType::B,
            "c" | "u" => LinuxDeviceType::C,
            "p" => LinuxDeviceType::P,
            other => return Err(Failure::new(Exit::Content, what(), format!("type {other:?} is none"))),
        };
        device.set_typ(typ);
    }
    let (major, minor) = (edit.major.unwrap_or(device.major()), edit.minor.unwrap_or(device.minor()));
    let (uid, gid) = (edit.uid.or(device.uid()), edit.gid.or(device.gid()));
    device.set_major(major).set_minor(minor).set_uid(uid).set_gid(gid);
    if let Some(mode) = edit.file_mode {
        device.set_file_mode(Some(mode & 0o7777));
    }
    let permissions = edit.permissions.clone().unwrap_or_else(|| "rwm".into());
    Ok(Given { device, permissions })
}

fn of_device(given: &Given) -> Result<LinuxDeviceCgroup, Failure> {
    let device = &given.device;
    let typ = if device.typ() == LinuxDeviceType::B { "b" } else { "c" };
    rule(
        json!({"allow": true, "type": typ, "major": device.major(), "minor": device.minor(), "access": given.permissions}),
    )
}

/// `c 189:* rmw`.
fn of_text(text: &str) -> Result<LinuxDeviceCgroup, Failure> {
    let wrong = || Failure::new(Exit::Content, "create.json", format!("deviceRules: {text:?}"));
    let words: Vec<&str> = text.split_whitespace().collect();
    let [typ, numbers, access] = words[..] else { return Err(wrong()) };
    let (major, minor) = numbers.split_once(':').ok_or_else(wrong)?;
    let mut made = json!({"allow": true, "type": typ, "access": access});
    for (member, number) in [("major", major), ("minor", minor)] {
        if number != "*" {
            made[member] = number.parse::<u32>().map_err(|_| wrong())?.into();
        }
    }
    rule(made)
}

fn rule(value: Value) -> Result<LinuxDeviceCgroup, Failure> {
    serde_json::from_value(value).map_err(|e| Failure::new(Exit::Other, "a rule of devices", e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::Device;

    fn filled(device: Device) -> Result<Confinement, Failure> {
        let doc = CreateDoc { devices: vec![device], ..CreateDoc::default() };
        let mut confinement = Confinement::default();
        fill(&doc, &Edits::default(), &mut confinement)?;
        Ok(confinement)
    }

    fn device(source: &str, permissions: &str) -> Device {
        Device { source: source.into(), target: Some("/dev/x".into()), permissions: Some(permissions.into()) }
    }

    #[test]
    fn a_device_has_the_hosts_numbers_and_what_may_be_done_with_it() {
        let made = filled(device("/dev/null", "r")).expect("a device");
        let node = &made.devices[0];
        assert_eq!((node.major(), node.minor(), node.path().to_str()), (1, 3, Some("/dev/x")));
        let rules = made.resources.devices().clone().expect("rules");
        let last = rules.last().expect("a rule");
        assert_eq!((last.allow(), last.access().as_deref()), (true, Some("r")));
        assert!(!rules[0].allow(), "everything else is denied");
    }

    #[test]
    fn what_is_no_device_is_refused() {
        assert_eq!(filled(device("/etc/passwd", "rwm")).expect_err("a file").exit(), 2);
        assert_eq!(filled(device("/dev/no-such-device", "rwm")).expect_err("nothing").exit(), 3);
        assert_eq!(filled(device("/usr/lib/os-release", "rwm")).expect_err("a file").exit(), 2);
    }

    #[test]
    fn a_rule_is_read_as_it_was_written() {
        let made = of_text("c 189:* rmw").expect("a rule");
        assert_eq!((made.major(), made.minor(), made.access().as_deref()), (Some(189), None, Some("rmw")));
    }
}
