//! Devices as the Container Device Interface describes them (specification 1.1, JSON).
//!
//! A file that cannot be read keeps nobody from a device of another one, as the specification asks; the reason is told where the
//! device is not found.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use cli::Failure;
use descriptor::Exit;
use serde::Deserialize;
use store::CreateDoc;

/// Where specifications are, the later directory wins.
const DIRECTORIES: [&str; 2] = ["/etc/cdi", "/run/cdi"];
/// No specification is longer.
const FILE_BYTES: u64 = 1 << 20;
/// No more are read from a directory.
const FILES: usize = 1024;
/// The versions that are understood: those before 0.3 had other words.
const VERSIONS: [&str; 8] = ["0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Specification {
    cdi_version: String,
    kind: String,
    #[serde(default)]
    devices: Vec<Device>,
    #[serde(default)]
    container_edits: RawEdits,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Device {
    name: String,
    #[serde(default)]
    container_edits: RawEdits,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawEdits {
    env: Vec<String>,
    device_nodes: Vec<Node>,
    mounts: Vec<CdiMount>,
    hooks: Vec<serde_json::Value>,
    #[serde(rename = "additionalGids")]
    additional_gids: Vec<u32>,
    intel_rdt: Option<serde_json::Value>,
    net_devices: Vec<serde_json::Value>,
}

/// A device node.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Node {
    pub(crate) path: String,
    pub(crate) host_path: Option<String>,
    #[serde(rename = "type")]
    pub(crate) typ: Option<String>,
    pub(crate) major: Option<i64>,
    pub(crate) minor: Option<i64>,
    pub(crate) file_mode: Option<u32>,
    pub(crate) permissions: Option<String>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
}

/// A mount of the host's.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CdiMount {
    pub(crate) host_path: String,
    pub(crate) container_path: String,
    #[serde(default)]
    pub(crate) options: Vec<String>,
    #[serde(rename = "type")]
    pub(crate) typ: Option<String>,
}

/// What devices change in a container.
#[derive(Debug, Default)]
pub(crate) struct Edits {
    pub(crate) env: Vec<String>,
    pub(crate) devices: Vec<Node>,
    pub(crate) mounts: Vec<CdiMount>,
    pub(crate) groups: Vec<u32>,
}

/// True for `vendor/class=name`.
pub(crate) fn is_name(text: &str) -> bool {
    let Some((kind, name)) = text.split_once('=') else { return false };
    let legal = |text: &str, marks: &str| {
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        edge(text.chars().next())
            && edge(text.chars().last())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || marks.contains(c))
    };
    kind.split_once('/').is_some_and(|(vendor, class)| legal(vendor, "_-.") && legal(class, "_-"))
        && legal(name, "_-.:")
}

/// What the named devices of a container change in it; `dirs` in place of the usual directories.
pub(crate) fn edits(doc: &CreateDoc, dirs: &[PathBuf]) -> Result<Edits, Failure> {
    let names: Vec<&str> =
        doc.devices.iter().filter(|device| device.target.is_none()).map(|device| &*device.source).collect();
    let mut edits = Edits::default();
    if names.is_empty() {
        return Ok(edits);
    }
    let usual = DIRECTORIES.map(PathBuf::from);
    let known = Known::read(if dirs.is_empty() { &usual } else { dirs });
    // A specification's own edits come once, whichever of its devices are given.
    let mut files: Vec<usize> = Vec::new();
    for name in names {
        let (file, device) = known.find(name)?;
        if !files.contains(&file) {
            files.push(file);
            edits.add(name, &known.specifications[file].container_edits)?;
        }
        edits.add(name, &device.container_edits)?;
    }
    Ok(edits)
}

impl Edits {
    fn add(&mut self, name: &str, raw: &RawEdits) -> Result<(), Failure> {
        let refused = [
            (!raw.hooks.is_empty(), "hooks"),
            (raw.intel_rdt.is_some(), "intelRdt"),
            (!raw.net_devices.is_empty(), "netDevices"),
        ];
        if let Some((_, member)) = refused.iter().find(|(asked, _)| *asked) {
            let why = format!("its {member} are not supported in a pipeline's container");
            return Err(Failure::new(Exit::Privilege, format!("--device {name}"), why));
        }
        let wrong = |why: String| Failure::new(Exit::Content, format!("--device {name}"), why);
        if let Some(word) = raw.env.iter().find(|word| !word.contains('=') || word.starts_with('=')) {
            return Err(wrong(format!("{word:?} is no KEY=VALUE")));
        }
        let paths = raw
            .device_nodes
            .iter()
            .map(|node| &node.path)
            .chain(raw.mounts.iter().map(|m| &m.container_path));
        for path in paths {
            if !path.starts_with('/') || path.split('/').any(|part| part == "..") {
                return Err(wrong(format!("{path:?} is no absolute path")));
            }
        }
        self.env.extend(raw.env.iter().cloned());
        self.devices.extend(raw.device_nodes.iter().cloned());
        self.mounts.extend(raw.mounts.iter().cloned());
        self.groups.extend(&raw.additional_gids);
        Ok(())
    }
}

/// All that directories say.
#[derive(Debug, Default)]
struct Known {
    specifications: Vec<Specification>,
    /// Full names: the directory's place, the file, the device's place in it; and whether another file of the directory has it, too.
    devices: BTreeMap<String, (usize, usize, usize, bool)>,
    /// Why files were left out.
    troubles: Vec<(String, Exit)>,
}

impl Known {
    fn read(dirs: &[PathBuf]) -> Self {
        let mut known = Self::default();
        for (place, dir) in dirs.iter().enumerate() {
            for path in files(dir) {
                match specification(&path) {
                    Ok(one) => known.add(place, one),
                    Err((why, exit)) => known.troubles.push((format!("{}: {why}", path.display()), exit)),
                }
            }
        }
        known
    }

    fn add(&mut self, place: usize, one: Specification) {
        let file = self.specifications.len();
        for (at, device) in one.devices.iter().enumerate() {
            let name = format!("{}={}", one.kind, device.name);
            let twice = self.devices.get(&name).is_some_and(|(other, ..)| *other == place);
            self.devices.insert(name, (place, file, at, twice));
        }
        self.specifications.push(one);
    }

    fn find(&self, name: &str) -> Result<(usize, &Device), Failure> {
        let what = || format!("--device {name}");
        match self.devices.get(name) {
            Some((_, _, _, true)) => {
                Err(Failure::new(Exit::Conflict, what(), "two specifications of one directory have it"))
            }
            Some((_, file, at, false)) => Ok((*file, &self.specifications[*file].devices[*at])),
            None => Err(match self.troubles.first() {
                Some((why, exit)) => {
                    Failure::new(*exit, what(), format!("no specification that can be read has it; {why}"))
                }
                None => Failure::new(Exit::NotFound, what(), "no CDI specification has this device"),
            }),
        }
    }
}

/// The specifications of a directory, by name; none of one that is not there.
#[allow(clippy::disallowed_methods, reason = "directories of the host, or of the caller's choice")]
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().take(FILES);
    let is_one =
        |path: &PathBuf| path.extension().is_some_and(|ext| ext == "json" || ext == "yaml" || ext == "yml");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_one).collect();
    files.sort();
    files
}

/// Reads a regular file of bounded size.
fn specification(path: &Path) -> Result<Specification, (String, Exit)> {
    use rustix::fs::{FileType, Mode, OFlags};
    let wrong = |why: String| (why, Exit::Content);
    if path.extension().is_none_or(|ext| ext != "json") {
        return Err(("YAML is not supported, only JSON".into(), Exit::Privilege));
    }
    let opened = rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty());
    let file = opened.map_err(|e| (e.to_string(), Exit::Other))?;
    let stat = rustix::fs::fstat(&file).map_err(|e| (e.to_string(), Exit::Other))?;
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(wrong("it is no regular file".into()));
    }
    let mut bytes = Vec::new();
    let read = std::fs::File::from(file).take(FILE_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|e| (e.to_string(), Exit::Other))?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(wrong(format!("more than {FILE_BYTES} bytes")));
    }
    let one: Specification = serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string()))?;
    if !VERSIONS.contains(&one.cdi_version.trim_start_matches('v')) {
        let why = format!("cdiVersion {:?} is none of {}", one.cdi_version, VERSIONS.join(", "));
        return Err((why, Exit::Privilege));
    }
    match one.devices.iter().find(|device| !is_name(&format!("{}={}", one.kind, device.name))) {
        Some(device) => Err(wrong(format!("{}={} is no name of a device", one.kind, device.name))),
        None => Ok(one),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(files: &[(&str, String)], name: &str) -> Result<Edits, Failure> {
        let dir = tempfile::tempdir().expect("a directory");
        for (file, text) in files {
            std::fs::write(dir.path().join(file), text).expect("write");
        }
        let device = store::Device { source: name.into(), ..store::Device::default() };
        let doc = CreateDoc { devices: vec![device], ..CreateDoc::default() };
        edits(&doc, &[dir.path().to_path_buf()])
    }

    fn specification(kind: &str, edits: serde_json::Value) -> String {
        json!({"cdiVersion": "0.6.0", "kind": kind, "containerEdits": {"env": ["ALL=1"]},
            "devices": [{"name": "one", "containerEdits": edits}]})
        .to_string()
    }

    #[test]
    fn names_are_a_vendor_a_class_and_a_device() {
        for name in ["vendor.com/class=name", "nvidia.com/gpu=0", "a/b=c", "vendor.com/net=eth0:1"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["/dev/null", "vendor.com/class", "vendor/=x", "/class=x", "v/c=", "-v/c=x", "/dev/a=b"] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn a_device_brings_its_edits_and_those_of_its_specification() {
        let edits = json!({"env": ["X=1"], "deviceNodes": [{"path": "/dev/x", "hostPath": "/dev/null"}],
            "mounts": [{"hostPath": "/a", "containerPath": "/b", "options": ["ro"]}], "additionalGids": [7]});
        let files =
            [("a.json", specification("v.com/c", edits)), ("b.json", specification("v.com/d", json!({})))];
        let made = of(&files, "v.com/c=one").expect("a device");
        assert_eq!((made.env, made.groups), (vec!["ALL=1".to_string(), "X=1".into()], vec![7]));
        assert_eq!((made.devices[0].path.as_str(), made.mounts[0].container_path.as_str()), ("/dev/x", "/b"));
    }

    #[test]
    fn what_cannot_be_given_is_refused_by_name() {
        let hooks =
            specification("v.com/c", json!({"hooks": [{"hookName": "createContainer", "path": "/x"}]}));
        let twice = specification("v.com/c", json!({}));
        let old = twice.replace("0.6.0", "9.0.0");
        for (files, exit) in [
            (vec![("a.json", hooks)], 7),
            (vec![("a.yaml", "cdiVersion: 1.0.0".to_string())], 7),
            (vec![("a.json", old)], 7),
            (vec![("a.json", twice.clone()), ("b.json", twice)], 9),
            (vec![("a.json", "{".to_string())], 6),
            (vec![("a.json", format!("{{{}", " ".repeat(2 << 20)))], 6),
            (vec![("a.json", specification("v.com/c", json!({"env": ["no"]})))], 6),
            (vec![("a.json", specification("v.com/c", json!({"deviceNodes": [{"path": "/dev/../x"}]})))], 6),
            (vec![], 3),
        ] {
            let failure = of(&files, "v.com/c=one").expect_err("refused");
            assert_eq!(failure.exit(), exit, "{failure:?}");
        }
    }

    #[test]
    fn a_file_that_is_wrong_hides_no_other() {
        let files = [("a.json", "{".to_string()), ("b.json", specification("v.com/c", json!({})))];
        assert_eq!(of(&files, "v.com/c=one").expect("a device").env, ["ALL=1"]);
    }
}
