//! Device programs of cgroups: `bpf(2)` of type `BPF_PROG_TYPE_CGROUP_DEVICE` (Linux 4.15).

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use crate::{Error, Result};

const PROG_LOAD: i32 = 5;
const PROG_ATTACH: i32 = 8;
const PROG_DETACH: i32 = 9;
const PROG_GET_FD_BY_ID: i32 = 13;
const PROG_QUERY: i32 = 16;

const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
/// A device is reachable where every attached program of the group and of those above it says so.
const ALLOW_MULTI: u32 = 1 << 1;

/// The kernel takes no more programs than this on one group (`BPF_CGROUP_MAX_PROGS`).
const MAX_PROGRAMS: usize = 64;

/// Loading gives way to signals with `EAGAIN`: asked again this often, as libbpf does.
const LOAD_TRIES: usize = 5;

/// An instruction of the kernel's virtual machine (`struct bpf_insn`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// The operation.
    pub code: u8,
    /// The destination register in the low four bits, the source in the high ones.
    pub registers: u8,
    /// A jump's distance, or a load's offset.
    pub offset: i16,
    /// The constant operand.
    pub immediate: i32,
}

#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log: [u64; 2],
    version_and_flags: [u32; 2],
    name: [u8; 16],
}

#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

#[repr(C)]
struct Query {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    pad: u32,
}

#[repr(C)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

/// Loads a program that decides about devices.
///
/// # Errors
/// The errno of `bpf(2)`: `EPERM` without `CAP_BPF` or below a user namespace, `EINVAL` or `EACCES` for a program that the
/// kernel's verifier refuses.
pub fn load_device_program(program: &[Instruction]) -> Result<OwnedFd> {
    let mut name = [0; 16];
    name[..6].copy_from_slice(b"device");
    let count = u32::try_from(program.len())
        .map_err(|_| Error::new("bpf", "BPF_PROG_LOAD".to_string(), Errno::TOOBIG))?;
    let mut attributes = Load {
        kind: TYPE_CGROUP_DEVICE,
        count,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log: [0; 2],
        version_and_flags: [0; 2],
        name,
    };
    let mut tries = LOAD_TRIES;
    loop {
        tries -= 1;
        match bpf(PROG_LOAD, &mut attributes) {
            // SAFETY: the kernel just made this descriptor, close-on-exec, and nobody else has it.
            Ok(fd) => return Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
            Err(Errno::AGAIN) if tries > 0 => {}
            Err(errno) => {
                return Err(Error::new("bpf", format!("BPF_PROG_LOAD, {count} instructions"), errno));
            }
        }
    }
}

/// Lets a program decide for the cgroup `directory`, together with those that do already.
///
/// # Errors
/// The errno of `bpf(2)`.
pub fn attach_device_program(directory: impl AsFd, program: impl AsFd) -> Result<()> {
    change(PROG_ATTACH, directory, program).map_err(|errno| Error::new("bpf", "BPF_PROG_ATTACH", errno))
}

/// Takes a program from the cgroup `directory` again.
///
/// # Errors
/// The errno of `bpf(2)`.
pub fn detach_device_program(directory: impl AsFd, program: impl AsFd) -> Result<()> {
    change(PROG_DETACH, directory, program).map_err(|errno| Error::new("bpf", "BPF_PROG_DETACH", errno))
}

/// The programs that decide for the cgroup `directory` itself. One that goes meanwhile is left out.
///
/// # Errors
/// The errno of `bpf(2)`.
pub fn device_programs(directory: impl AsFd) -> Result<Vec<OwnedFd>> {
    let mut ids = [0_u32; MAX_PROGRAMS];
    let mut query = Query {
        target: number(&directory),
        kind: ATTACH_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: MAX_PROGRAMS as u32,
        pad: 0,
    };
    bpf(PROG_QUERY, &mut query).map_err(|errno| Error::new("bpf", "BPF_PROG_QUERY", errno))?;
    let mut programs = Vec::new();
    for id in ids.into_iter().take(query.count as usize) {
        match bpf(PROG_GET_FD_BY_ID, &mut ById { id, next: 0, flags: 0 }) {
            // SAFETY: the kernel just made this descriptor, close-on-exec, and nobody else has it.
            Ok(fd) => programs.push(unsafe { OwnedFd::from_raw_fd(fd) }),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(Error::new("bpf", format!("BPF_PROG_GET_FD_BY_ID, {id}"), errno)),
        }
    }
    Ok(programs)
}

fn change(command: i32, directory: impl AsFd, program: impl AsFd) -> std::result::Result<(), Errno> {
    let flags = if command == PROG_ATTACH { ALLOW_MULTI } else { 0 };
    let (target, program) = (number(&directory), number(&program));
    bpf(command, &mut Attach { target, program, kind: ATTACH_CGROUP_DEVICE, flags }).map(drop)
}

fn number(fd: &impl AsFd) -> u32 {
    fd.as_fd().as_raw_fd() as u32
}

/// `T` is the start of the kernel's `union bpf_attr` for this command; what it leaves out is zero.
fn bpf<T>(command: i32, attributes: &mut T) -> std::result::Result<i32, Errno> {
    let size = std::mem::size_of::<T>();
    // SAFETY: the kernel reads and writes `size` bytes, which are `T`'s, and what the pointers in it name, which the callers
    // keep alive and give the length of.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size) };
    if answer >= 0 {
        return Ok(answer as i32);
    }
    let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    Err(Errno::from_raw_os_error(errno))
}
