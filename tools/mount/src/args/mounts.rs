//! What is mounted into the container: `-v`, `--mount`, `--tmpfs`, `--volumes-from`.

use std::path::Path;

use cli::{During, Failure, units};
use store::containers::Mount;
use store::{CreateDoc, Store};

/// How mounts pass between the host and the container (docker's words).
const PROPAGATIONS: [&str; 6] = ["private", "rprivate", "shared", "rshared", "slave", "rslave"];
/// Words of `-v` that docker takes and that mean nothing on Linux.
const EMPTY_WORDS: [&str; 4] = ["consistent", "cached", "delegated", "default"];
/// Options of a tmpfs with a value, and those without.
const TMPFS_VALUES: [&str; 7] = ["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"];
const TMPFS_WORDS: [&str; 22] = [
    "async",
    "sync",
    "dirsync",
    "defaults",
    "nosuid",
    "suid",
    "nodev",
    "dev",
    "noexec",
    "exec",
    "relatime",
    "norelatime",
    "atime",
    "noatime",
    "strictatime",
    "nostrictatime",
    "diratime",
    "nodiratime",
    "remount",
    "private",
    "rprivate",
    "mand",
];

/// Mounts.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Mounts")]
pub(crate) struct Mounts {
    /// Mount the host's SRC, the volume of that name, or a new volume, at DST (ro, rw, nocopy, rshared, ...)
    #[arg(short, long, value_name = "[SRC:]DST[:OPT,...]", value_parser = volume)]
    volume: Vec<Mount>,

    /// Mount with all that can be said: type=bind|volume|tmpfs|image,source=SRC,target=DST,readonly,...
    #[arg(long, value_name = "KEY=VALUE,...", value_parser = mount)]
    mount: Vec<Mount>,

    /// Mount a file system in memory (size=64m,mode=1777,exec)
    #[arg(long, value_name = "DST[:OPT,...]", value_parser = tmpfs)]
    tmpfs: Vec<Mount>,

    /// Mount what another container mounts of volumes and of the host
    #[arg(long, value_name = "CONTAINER[:ro]")]
    volumes_from: Vec<String>,

    /// What a VOLUME of the image is: a volume without a name, a tmpfs, or a directory of the container's layer [default: a volume, with --rm a directory]
    #[arg(long, value_name = "KIND", value_enum)]
    pub(crate) image_volume: Option<ImageVolume>,
}

/// What becomes of an image's VOLUME.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ImageVolume {
    /// A volume that goes with the container, as docker has it.
    Volume,
    /// A file system in memory.
    Tmpfs,
    /// A directory of the writable layer, which a commit keeps.
    Layer,
}

impl Mounts {
    /// Writes the mounts down; `declared` are the image's own volumes.
    pub(crate) fn record(
        &self,
        doc: &mut CreateDoc,
        store: &Store,
        declared: &[std::path::PathBuf],
    ) -> Result<(), Failure> {
        let mut all: Vec<Mount> = Vec::new();
        for one in self.volume.iter().chain(&self.mount).chain(&self.tmpfs) {
            if all.iter().any(|other| other.target == one.target) {
                return Err(Failure::usage("command line", format!("duplicate mount point: {}", one.target)));
            }
            all.push(one.clone());
        }
        for word in &self.volumes_from {
            for one in of_container(store, word)? {
                // What is said of a place itself counts.
                if !all.iter().any(|other| other.target == one.target) {
                    all.push(one);
                }
            }
        }
        // With --rm docker's volume would go at the end, too; read-only, the directory could not be written.
        let usual = if doc.auto_remove && !doc.read_only { ImageVolume::Layer } else { ImageVolume::Volume };
        let kind = match self.image_volume.unwrap_or(usual) {
            ImageVolume::Layer => None,
            ImageVolume::Volume => Some("volume"),
            ImageVolume::Tmpfs => Some("tmpfs"),
        };
        for path in kind.map_or(&[][..], |_| declared) {
            // A place that cannot be written down is no better as a volume.
            let Some(target) = path.to_str().and_then(|path| clean(path).ok()) else { continue };
            if !all.iter().any(|other| other.target == target) {
                all.push(Mount { kind: kind.unwrap_or_default().into(), target, ..Mount::default() });
            }
        }
        all.sort_by(|a, b| a.target.cmp(&b.target));
        doc.mounts = all;
        Ok(())
    }
}

/// The volumes and binds of another container: nameless ones by the names they have there.
fn of_container(store: &Store, word: &str) -> Result<Vec<Mount>, Failure> {
    let what = || format!("--volumes-from {word}");
    let (name, read_only) = match word.split_once(':') {
        Some((name, "ro")) => (name, true),
        None | Some((_, "rw" | "z" | "Z")) => (word.split(':').next().unwrap_or(word), false),
        Some((_, mode)) => return Err(Failure::usage(what(), format!("invalid mode: {mode}"))),
    };
    let container = store.container(name).during(what)?;
    let doc = container.create().during(what)?;
    let mut found: Vec<Mount> =
        doc.mounts.into_iter().filter(|mount| matches!(mount.kind.as_str(), "bind" | "volume")).collect();
    let names = crate::config::volumes::names_in(&container).during(what)?;
    for mount in &mut found {
        mount.read_only |= read_only;
        if mount.kind == "volume" && mount.source.is_none() {
            mount.source = names.get(&mount.target).cloned();
        }
    }
    Ok(found)
}

/// A mount point: absolute, without `..`, without what a path may have twice.
fn clean(path: &str) -> Result<String, String> {
    let names: Vec<&str> = path.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
    if !path.starts_with('/') {
        return Err(format!("invalid mount path: {path:?} is no absolute path"));
    }
    if names.is_empty() {
        return Err(format!("invalid mount path: {path:?} is the root itself"));
    }
    if names.contains(&"..") || path.contains('\0') {
        return Err(format!("invalid mount path: {path:?} goes up"));
    }
    Ok(format!("/{}", names.join("/")))
}

/// A place of the host, absolute.
fn host_path(path: &str) -> Result<String, String> {
    let absolute = std::path::absolute(path).map_err(|e| format!("{path:?}: {e}"))?;
    absolute.to_str().map(String::from).ok_or_else(|| format!("{path:?} is not UTF-8"))
}

fn volume_name(name: &str) -> Result<String, String> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if first && name.len() <= 255 && name.bytes().all(legal) {
        return Ok(name.into());
    }
    Err(format!(
        "{name:?} includes invalid characters for a volume name, only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed; a directory of the host begins with / or ./"
    ))
}

/// Docker's short form.
fn volume(text: &str) -> Result<Mount, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, words) = match parts[..] {
        [target] => (None, target, ""),
        [source, target] => (Some(source), target, ""),
        [source, target, words] => (Some(source), target, words),
        _ => return Err(format!("invalid volume specification: {text:?}")),
    };
    let mut mount = Mount { kind: "volume".into(), target: clean(target)?, ..Mount::default() };
    match source {
        Some("") => return Err(format!("invalid volume specification: {text:?}")),
        Some(path) if path.starts_with(['/', '.']) => {
            mount.kind = "bind".into();
            mount.source = Some(host_path(path)?);
        }
        Some(name) => mount.source = Some(volume_name(name)?),
        None => {}
    }
    for word in words.split(',').filter(|word| !word.is_empty()) {
        match word {
            "ro" => mount.read_only = true,
            "rw" => mount.read_only = false,
            "nocopy" if mount.kind == "volume" => mount.options.push("nocopy".into()),
            // They label files for SELinux, of which there is none to be told here.
            "z" | "Z" if !Path::new("/sys/fs/selinux/enforce").exists() => {}
            word if EMPTY_WORDS.contains(&word) => {}
            // Docker's volumes are private.
            word if PROPAGATIONS.contains(&word) && mount.kind == "bind" => propagate(&mut mount, word),
            _ => return Err(format!("invalid mode {word:?} in {text:?}")),
        }
    }
    Ok(mount)
}

/// The default is not written down.
fn propagate(mount: &mut Mount, word: &str) {
    mount.options.retain(|option| !PROPAGATIONS.contains(&option.as_str()));
    if word != "rprivate" {
        mount.options.push(word.into());
    }
}

/// `--tmpfs`: options of mount(8).
fn tmpfs(text: &str) -> Result<Mount, String> {
    let (target, words) = text.split_once(':').unwrap_or((text, ""));
    let mut mount = Mount { kind: "tmpfs".into(), target: clean(target)?, ..Mount::default() };
    for word in words.split(',').filter(|word| !word.is_empty()) {
        tmpfs_option(&mut mount, word)?;
    }
    mount.options.sort();
    mount.options.dedup();
    Ok(mount)
}

fn tmpfs_option(mount: &mut Mount, word: &str) -> Result<(), String> {
    let wrong = || format!("invalid tmpfs option {word:?}");
    match word.split_once('=') {
        Some(("size", value)) if !value.ends_with('%') => {
            mount.options.push(format!("size={}", units::bytes(value)?));
        }
        Some((key, value)) if TMPFS_VALUES.contains(&key) && !value.is_empty() => {
            mount.options.push(word.into())
        }
        None if word == "ro" => mount.read_only = true,
        None if word == "rw" => mount.read_only = false,
        // So it is anyway.
        None if matches!(
            word,
            "nosuid" | "nodev" | "noexec" | "defaults" | "private" | "rprivate" | "async"
        ) => {}
        None if TMPFS_WORDS.contains(&word) => mount.options.push(word.into()),
        _ => return Err(wrong()),
    }
    Ok(())
}

/// Docker's long form: fields of a line of comma-separated values.
fn mount(text: &str) -> Result<Mount, String> {
    let fields = fields(text)?;
    let field = |keys: &[&str]| {
        fields.iter().rev().find(|(key, _)| keys.contains(&key.as_str())).and_then(|(_, value)| value.clone())
    };
    let kind = field(&["type"]).unwrap_or_else(|| "volume".into());
    if !matches!(kind.as_str(), "bind" | "volume" | "tmpfs" | "image") {
        return Err(format!("invalid mount type {kind:?}: it is bind, volume, tmpfs or image"));
    }
    let target = field(&["target", "dst", "destination"]).ok_or("target is required")?;
    let mut mount = Mount { target: clean(&target)?, kind, ..Mount::default() };
    for (key, value) in &fields {
        let truth = || match value.as_deref() {
            None | Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => Err(format!("invalid value for {key}: {other}")),
        };
        let given = || {
            value
                .clone()
                .filter(|v| !v.is_empty())
                .ok_or_else(|| format!("invalid field {key:?} must be a key=value pair"))
        };
        match key.as_str() {
            "type" | "target" | "dst" | "destination" => {}
            "source" | "src" => mount.source = Some(given()?),
            "readonly" | "ro" => mount.read_only = truth()?,
            "consistency" if EMPTY_WORDS.contains(&given()?.as_str()) => {}
            key => detail(&mut mount, key, &given, &truth)?,
        }
    }
    finish(mount, text)
}

/// A field that only one type has.
fn detail(
    mount: &mut Mount,
    key: &str,
    given: &dyn Fn() -> Result<String, String>,
    truth: &dyn Fn() -> Result<bool, String>,
) -> Result<(), String> {
    let kind = key.split('-').next().unwrap_or_default();
    if matches!(kind, "bind" | "volume" | "tmpfs" | "image") && kind != mount.kind {
        return Err(format!("cannot mix '{kind}-*' options with mount type '{}'", mount.kind));
    }
    match key {
        "bind-propagation" => {
            let word = given()?;
            if !PROPAGATIONS.contains(&word.as_str()) {
                return Err(format!("invalid propagation mode: {word}"));
            }
            propagate(mount, &word);
        }
        "bind-nonrecursive" => {
            if truth()? {
                mount.options.push("bind".into());
            }
        }
        "bind-recursive" => match given()?.as_str() {
            "enabled" => {}
            "disabled" => mount.options.push("bind".into()),
            "writable" => mount.options.push("writable".into()),
            "readonly" => mount.options.push("readonly".into()),
            other => return Err(format!("invalid value for {key}: {other}")),
        },
        "volume-nocopy" => {
            if truth()? {
                mount.options.push("nocopy".into());
            }
        }
        "volume-subpath" | "image-subpath" => {
            let path = given()?;
            if path.starts_with('/') || path.split('/').any(|name| name == "..") {
                return Err(format!("{key} must be a relative path within it: {path:?}"));
            }
            mount.options.push(format!("subpath={path}"));
        }
        "volume-driver" if given()? == "local" => {}
        "volume-driver" => return Err("the only driver of volumes is local".into()),
        "volume-label" => mount.options.push(format!("label={}", given()?)),
        "tmpfs-size" => tmpfs_option(mount, &format!("size={}", given()?))?,
        "tmpfs-mode" => {
            let mode = given()?;
            let number =
                u32::from_str_radix(&mode, 8).map_err(|_| format!("invalid value for {key}: {mode}"))?;
            mount.options.push(format!("mode={number:o}"));
        }
        _ => return Err(format!("unexpected key {key:?}")),
    }
    Ok(())
}

/// Sources by type.
fn finish(mut mount: Mount, text: &str) -> Result<Mount, String> {
    match (mount.kind.as_str(), mount.source.clone()) {
        ("bind" | "image", None) => {
            return Err(format!("source is required for type {}: {text:?}", mount.kind));
        }
        ("bind", Some(path)) => mount.source = Some(host_path(&path)?),
        ("volume", Some(name)) => mount.source = Some(volume_name(&name)?),
        ("tmpfs", Some(_)) => return Err("source must not be specified for type tmpfs".into()),
        _ => {}
    }
    if mount.kind == "image" {
        // An image cannot be written to.
        mount.read_only = true;
    }
    let has = |word: &str| mount.options.iter().any(|option| option == word);
    if has("readonly") && !mount.read_only {
        return Err("bind-recursive=readonly requires readonly".into());
    }
    // A read-only bind is so with all below it.
    mount.options.retain(|option| option != "readonly");
    mount.options.sort();
    mount.options.dedup();
    Ok(mount)
}

/// Keys and values; a field in double quotes may have commas in it, and a quote twice for one.
fn fields(text: &str) -> Result<Vec<(String, Option<String>)>, String> {
    let mut list = vec![String::new()];
    let mut quoted = false;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let Some(field) = list.last_mut() else { break };
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            ',' if !quoted => list.push(String::new()),
            letter => field.push(letter),
        }
    }
    if quoted {
        return Err(format!("a quote is not closed: {text:?}"));
    }
    let pair = |field: String| match field.split_once('=') {
        Some((key, value)) => (key.trim().to_ascii_lowercase(), Some(value.to_string())),
        None => (field.trim().to_ascii_lowercase(), None),
    };
    Ok(list.into_iter().map(pair).collect())
}

#[cfg(test)]
mod tests;
