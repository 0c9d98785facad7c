//! The loopback interface of a network namespace.

use std::os::fd::AsRawFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::{Call, Error, Result};

/// Brings `lo` of this network namespace up; the kernel then gives it 127.0.0.1 and ::1.
///
/// # Errors
/// The errno of `socket(2)` or of `ioctl(2)`: `EPERM` without `CAP_NET_ADMIN` in the namespace.
pub fn loopback_up() -> Result<()> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .call("socket", || "AF_INET, SOCK_DGRAM".into())?;
    // SAFETY: all-zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, std::ptr::from_ref(&request)) };
    if answer == 0 {
        return Ok(());
    }
    let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    Err(Error::new("ioctl", "SIOCSIFFLAGS, lo, IFF_UP", Errno::from_raw_os_error(errno)))
}
