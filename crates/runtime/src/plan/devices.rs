//! Which device nodes there are, and which work.

use std::path::{Component, Path};

use oci_spec::runtime::{Linux, LinuxDevice, LinuxDeviceType};
use rustix::fs::{FileType, makedev};

use super::invalid;
use crate::devices;
use crate::error::Result;
use crate::step::DeviceNode;

/// True for a container that may use any device, a privileged one: its first rule allows all.
///
/// Others get the devices that are listed, and no node elsewhere works (`nodev`). This needs no device cgroup, whose place
/// it takes: a container of root that may make nodes could otherwise read the host's disks.
pub(super) fn all_devices(linux: &Linux) -> bool {
    let rules = linux.resources().as_ref().and_then(|resources| resources.devices().as_ref());
    rules.and_then(|rules| rules.first()).is_some_and(|first| {
        let any = first.typ().is_none_or(|kind| kind == LinuxDeviceType::A);
        first.allow() && any && first.major().is_none() && first.minor().is_none()
    })
}

pub(super) fn device_nodes(linux: &Linux) -> Result<Vec<DeviceNode>> {
    let character = FileType::CharacterDevice;
    let mut nodes: Vec<DeviceNode> = devices::DEFAULT
        .iter()
        .map(|&(name, major, minor)| DeviceNode {
            path: Path::new("/dev").join(name),
            kind: character,
            device: makedev(major, minor),
            mode: 0o666,
            uid: 0,
            gid: 0,
        })
        .collect();
    // The multiplexer is always that of the container's own terminals.
    let listed = linux.devices().iter().flatten().filter(|device| device.path() != Path::new("/dev/ptmx"));
    for device in listed {
        let node = device_node(device)?;
        nodes.retain(|one| one.path != node.path);
        nodes.push(node);
    }
    Ok(nodes)
}

pub(super) fn device_node(device: &LinuxDevice) -> Result<DeviceNode> {
    let path = device.path();
    let kind = match device.typ() {
        LinuxDeviceType::B => FileType::BlockDevice,
        LinuxDeviceType::C | LinuxDeviceType::U => FileType::CharacterDevice,
        LinuxDeviceType::P => FileType::Fifo,
        LinuxDeviceType::A => {
            return Err(invalid("linux.devices", format!("{path:?} has no type of its own")));
        }
    };
    let plain = path.components().all(|part| !matches!(part, Component::ParentDir | Component::CurDir));
    if path.is_relative() || !plain || path.file_name().is_none() {
        return Err(invalid("linux.devices", format!("{path:?} is no absolute path of a file")));
    }
    let number = |n: i64| {
        u32::try_from(n).map_err(|_| invalid("linux.devices", format!("{path:?}: {n} is no device number")))
    };
    Ok(DeviceNode {
        path: path.clone(),
        kind,
        device: makedev(number(device.major())?, number(device.minor())?),
        mode: device.file_mode().unwrap_or(0o666) & 0o7777,
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
    })
}
