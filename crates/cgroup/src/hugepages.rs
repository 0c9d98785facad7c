//! Which huge pages the kernel has, and RDMA devices: what both versions count alike.

use std::collections::BTreeMap;

use crate::Result;
use crate::directory::Directory;
use crate::flat::{parse, text};
use crate::stats::Rdma;

/// The page sizes as the controller's files name them: `2MB`, `1GB`.
#[expect(clippy::disallowed_methods, reason = "the kernel's directory")]
pub(crate) fn sizes() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/sys/kernel/mm/hugepages") else { return Vec::new() };
    let mut sizes: Vec<String> =
        entries.flatten().filter_map(|entry| size(entry.file_name().to_str()?)).collect();
    sizes.sort();
    sizes
}

/// `hugepages-2048kB` as `2MB`.
fn size(directory: &str) -> Option<String> {
    let kib: u64 = directory.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    Some(match kib {
        kib if kib >= 1 << 20 => format!("{}GB", kib >> 20),
        kib if kib >= 1 << 10 => format!("{}MB", kib >> 10),
        kib => format!("{kib}KB"),
    })
}

/// `rdma.current` and `rdma.max`: `device hca_handle=2 hca_object=max`.
pub(crate) fn rdma(directory: &Directory) -> Result<BTreeMap<String, Rdma>> {
    let mut devices: BTreeMap<String, Rdma> = BTreeMap::new();
    for (file, is_limit) in [("rdma.current", false), ("rdma.max", true)] {
        let Some(text) = text(directory, file)? else { return Ok(devices) };
        for line in text.lines() {
            let mut fields = line.split_whitespace();
            let Some(name) = fields.next() else { continue };
            let device = devices.entry(name.into()).or_default();
            for (key, value) in fields.filter_map(|field| field.split_once('=')) {
                let value = parse(value).unwrap_or(0);
                match (key, is_limit) {
                    ("hca_handle", false) => device.hca_handles = value,
                    ("hca_object", false) => device.hca_objects = value,
                    ("hca_handle", true) => device.max_hca_handles = value,
                    ("hca_object", true) => device.max_hca_objects = value,
                    _ => {}
                }
            }
        }
    }
    Ok(devices)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_named_as_the_controllers_files_are() {
        for (directory, expected) in [
            ("hugepages-2048kB", Some("2MB")),
            ("hugepages-1048576kB", Some("1GB")),
            ("hugepages-64kB", Some("64KB")),
            ("other", None),
        ] {
            assert_eq!(size(directory).as_deref(), expected, "{directory}");
        }
    }
}
