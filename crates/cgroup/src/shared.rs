//! What both versions have alike.

use oci_spec::runtime::{LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxPids, LinuxResources};

use crate::setting::{Missing, Setting};
use crate::{Error, Result};

/// A number that was given: runc and the engines write 0 for "not set".
pub(crate) fn some<T: Default + PartialEq>(value: Option<T>) -> Option<T> {
    value.filter(|value| *value != T::default())
}

pub(crate) fn cpuset(cpu: &LinuxCpu, list: &mut Vec<Setting>) {
    if let Some(cpus) = cpu.cpus().as_ref().filter(|text| !text.is_empty()) {
        list.push(Setting::new("cpu.cpus", "cpuset.cpus", cpus));
    }
    if let Some(mems) = cpu.mems().as_ref().filter(|text| !text.is_empty()) {
        list.push(Setting::new("cpu.mems", "cpuset.mems", mems));
    }
}

/// Negative is no limit. 0 is written as 1, as systemd knows no 0 either: a container with no process cannot be.
pub(crate) fn pids(pids: &LinuxPids) -> Setting {
    let value = match pids.limit() {
        ..0 => "max".to_string(),
        limit => limit.max(1).to_string(),
    };
    Setting::new("pids.limit", "pids.max", value)
}

/// The limit of pages in use, and of those reserved where the kernel has that one (Linux 5.7).
pub(crate) fn hugepages(limit: &LinuxHugepageLimit, suffix: &str, list: &mut Vec<Setting>) -> Result<()> {
    let size = limit.page_size();
    let resource = format!("hugepageLimits ({size:?})");
    if size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(Error::Value { resource, why: "no page size of the form 2MB".into() });
    }
    // u64 in the specification: what does not fit an i64 is no limit
    let value = match limit.limit() {
        ..0 => "max".to_string(),
        bytes => bytes.to_string(),
    };
    list.push(Setting::new(resource.clone(), format!("hugetlb.{size}{suffix}"), &value));
    let reserved = Setting::new(resource, format!("hugetlb.{size}.rsvd{suffix}"), value);
    list.push(reserved.missing(Missing::Fine));
    Ok(())
}

/// A line for each device, in the order of their names.
pub(crate) fn rdma(resources: &LinuxResources, list: &mut Vec<Setting>) -> Result<()> {
    let mut devices: Vec<_> = resources.rdma().iter().flatten().collect();
    devices.sort_by_key(|(name, _)| *name);
    for (name, limit) in devices {
        if name.is_empty() || name.contains(char::is_whitespace) {
            let why = format!("{name:?} is no device name");
            return Err(Error::Value { resource: "rdma".into(), why });
        }
        let mut value = name.clone();
        if let Some(handles) = limit.hca_handles() {
            value.push_str(&format!(" hca_handle={handles}"));
        }
        if let Some(objects) = limit.hca_objects() {
            value.push_str(&format!(" hca_object={objects}"));
        }
        list.push(Setting::new(format!("rdma ({name:?})"), "rdma.max", value));
    }
    Ok(())
}

/// 0 to 100; -1 is "not set" (docker, podman), which reads as the greatest number.
pub(crate) fn swappiness(memory: &LinuxMemory) -> Result<Option<u64>> {
    match memory.swappiness() {
        None | Some(u64::MAX) => Ok(None),
        Some(value) if value <= 100 => Ok(Some(value)),
        Some(value) => {
            let why = format!("{value} is not in 0 to 100");
            Err(Error::Value { resource: "memory.swappiness".into(), why })
        }
    }
}
