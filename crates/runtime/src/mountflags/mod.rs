//! Docker's flags for what is mounted, `-v`, `--mount` and `--tmpfs`: what their words mean, and the runtime's mounts of that.

mod fields;

use std::path::Path;

use cli::units;
use oci_spec::runtime;
use store::containers::Mount;

use crate::defaults;
pub use fields::Fields;

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
/// Docker's options of a tmpfs, and the words that take each back.
const TMPFS: [(&str, &str); 3] = [("noexec", "exec"), ("nosuid", "suid"), ("nodev", "dev")];

/// A mount point: absolute, without `..`, without what a path may have twice.
///
/// # Errors
/// What is wrong with it, in words.
pub fn clean(path: &str) -> Result<String, String> {
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

/// Docker's short form, `[SRC:]DST[:OPT,...]`.
///
/// # Errors
/// What is wrong with it, in words.
pub fn short(text: &str) -> Result<Mount, String> {
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
            "z" | "Z" if !labels_files() => {}
            word if EMPTY_WORDS.contains(&word) => {}
            // Docker's volumes are private.
            word if PROPAGATIONS.contains(&word) && mount.kind == "bind" => propagate(&mut mount, word),
            _ => return Err(format!("invalid mode {word:?} in {text:?}")),
        }
    }
    Ok(mount)
}

/// Whether the host has SELinux.
#[allow(clippy::disallowed_methods, reason = "the host's sysfs")]
fn labels_files() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// The default is not written down.
fn propagate(mount: &mut Mount, word: &str) {
    mount.options.retain(|option| !PROPAGATIONS.contains(&option.as_str()));
    if word != "rprivate" {
        mount.options.push(word.into());
    }
}

/// `--tmpfs DST[:OPT,...]`: options of mount(8).
///
/// # Errors
/// What is wrong with it, in words.
pub fn tmpfs(text: &str) -> Result<Mount, String> {
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

/// Docker's long form: fields of a line of comma-separated values; a volume unless `type` says otherwise.
///
/// # Errors
/// What is wrong with it, in words.
pub fn long(text: &str) -> Result<Mount, String> {
    let mut fields = Fields::parse(text)?;
    let kind = fields.text(&["type"])?.unwrap_or_else(|| "volume".into());
    of_fields(&kind, fields)
}

/// A mount of the type `kind` of what is left of the long form's fields.
///
/// # Errors
/// What is wrong with them, in words.
pub fn of_fields(kind: &str, mut fields: Fields) -> Result<Mount, String> {
    if !matches!(kind, "bind" | "volume" | "tmpfs" | "image") {
        return Err(format!("invalid mount type {kind:?}: it is bind, volume, tmpfs or image"));
    }
    let target = fields.target()?;
    let mut mount = Mount { target: clean(&target)?, kind: kind.into(), ..Mount::default() };
    mount.source = fields.text(&["source", "src"])?;
    mount.read_only = fields.truth(&["readonly", "ro"])?.unwrap_or(false);
    match fields.text(&["consistency"])? {
        Some(word) if !EMPTY_WORDS.contains(&word.as_str()) => {
            return Err(format!("invalid value for consistency: {word}"));
        }
        _ => {}
    }
    while let Some(key) = fields.first() {
        detail(&mut mount, &key, &mut fields)?;
    }
    finish(mount)
}

/// A field that only one type has.
fn detail(mount: &mut Mount, key: &str, fields: &mut Fields) -> Result<(), String> {
    let kind = key.split('-').next().unwrap_or_default();
    if matches!(kind, "bind" | "volume" | "tmpfs" | "image") && kind != mount.kind {
        return Err(format!("cannot mix '{kind}-*' options with mount type '{}'", mount.kind));
    }
    let truth = |fields: &mut Fields| Ok::<_, String>(fields.truth(&[key])?.unwrap_or(false));
    let given = |fields: &mut Fields| Ok::<_, String>(fields.text(&[key])?.unwrap_or_default());
    match key {
        "bind-propagation" => {
            let word = given(fields)?;
            if !PROPAGATIONS.contains(&word.as_str()) {
                return Err(format!("invalid propagation mode: {word}"));
            }
            propagate(mount, &word);
        }
        "bind-nonrecursive" => {
            if truth(fields)? {
                mount.options.push("bind".into());
            }
        }
        "bind-recursive" => match given(fields)?.as_str() {
            "enabled" => {}
            "disabled" => mount.options.push("bind".into()),
            "writable" => mount.options.push("writable".into()),
            "readonly" => mount.options.push("readonly".into()),
            other => return Err(format!("invalid value for {key}: {other}")),
        },
        "volume-nocopy" => {
            if truth(fields)? {
                mount.options.push("nocopy".into());
            }
        }
        "volume-subpath" | "image-subpath" => {
            let path = given(fields)?;
            if path.starts_with('/') || path.split('/').any(|name| name == "..") {
                return Err(format!("{key} must be a relative path within it: {path:?}"));
            }
            mount.options.push(format!("subpath={path}"));
        }
        "volume-driver" if given(fields)? == "local" => {}
        "volume-driver" => return Err("the only driver of volumes is local".into()),
        "volume-label" => mount.options.push(format!("label={}", given(fields)?)),
        "tmpfs-size" => tmpfs_option(mount, &format!("size={}", given(fields)?))?,
        "tmpfs-mode" => {
            let mode = given(fields)?;
            let number =
                u32::from_str_radix(&mode, 8).map_err(|_| format!("invalid value for {key}: {mode}"))?;
            mount.options.push(format!("mode={number:o}"));
        }
        _ => return Err(format!("unexpected key {key:?}")),
    }
    Ok(())
}

/// Sources by type.
fn finish(mut mount: Mount) -> Result<Mount, String> {
    match (mount.kind.as_str(), mount.source.clone()) {
        ("bind" | "image", None) => {
            return Err(format!("source is required for type {}", mount.kind));
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

/// A bind of the host's `source` with the options of a choice: how it propagates, and what of the tree it is.
pub fn bind_of(mount: &Mount, source: &Path) -> runtime::Mount {
    let mut bind = defaults::bind(source, Path::new(&mount.target), mount.read_only);
    let has = |word: &str| mount.options.iter().any(|option| option == word);
    let mut options = bind.options().clone().unwrap_or_default();
    if has("bind") {
        options.retain(|word| !matches!(word.as_str(), "rbind" | "rro"));
        options.push("bind".into());
    }
    if has("writable") {
        options.retain(|word| word != "rro");
    }
    let propagation = ["private", "shared", "rshared", "slave", "rslave"].into_iter().find(|word| has(word));
    if let Some(word) = propagation {
        options.retain(|option| option != "rprivate");
        options.push(word.into());
    }
    bind.set_options(Some(options));
    bind
}

/// A file system in memory: docker's options but for those taken back.
pub fn tmpfs_of(mount: &Mount) -> runtime::Mount {
    let has = |word: &str| mount.options.iter().any(|option| option == word);
    let kept = TMPFS.iter().filter(|(_, back)| !has(back)).map(|(word, _)| (*word).to_string());
    let mut options: Vec<String> = kept.chain(mount.options.iter().cloned()).collect();
    if !mount.options.iter().any(|word| word.starts_with("mode=")) {
        // The kernel's own, which docker leaves it.
        options.push("mode=1777".into());
    }
    if mount.read_only {
        options.push("ro".into());
    }
    let mut made = runtime::Mount::default();
    made.set_destination((&mount.target).into())
        .set_typ(Some("tmpfs".into()))
        .set_source(Some("tmpfs".into()))
        .set_options(Some(options));
    made
}

#[cfg(test)]
mod tests;
