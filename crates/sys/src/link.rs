//! Network interfaces by rtnetlink(7): what one has, handing it to another network namespace, and giving it back what it had.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socket_with};

use crate::{Call, Error, Result};

const HEADER_BYTES: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CREATE_NEW: u16 = 0x600;
/// `struct ifinfomsg`: family, padding, type, index, flags, which flags.
const LINK_BYTES: usize = 16;
/// `struct ifaddrmsg`: family, length of the prefix, flags, scope, index.
const ADDRESS_BYTES: usize = 8;
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_PID: u16 = 19;
const IFLA_NET_NS_FD: u16 = 28;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_F_PERMANENT: u8 = 0x80;
const IFF_UP: u32 = 1;
/// An answer of the kernel fits; a dump comes in several.
const ANSWER_BYTES: usize = 32_768;

/// An interface of this network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in the namespace.
    pub index: u32,
    /// Its addresses that last and are not its link's own, as the kernel writes them.
    pub addresses: Vec<Vec<u8>>,
}

/// The namespace that an interface goes to.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// That of a process.
    Process(u32),
    /// The one that a descriptor is open on.
    Namespace(BorrowedFd<'a>),
}

/// Finds an interface by its name.
///
/// # Errors
/// `ENODEV` where there is none.
pub fn find(name: &str) -> Result<Link> {
    let socket = open()?;
    let mut request = vec![0; LINK_BYTES];
    attribute(&mut request, IFLA_IFNAME, &zero_ended(name));
    let text = || format!("RTM_GETLINK, {name:?}");
    let mut index = None;
    ask(&socket, RTM_GETLINK, NLM_F_REQUEST, &request, |kind, body| {
        if kind == RTM_NEWLINK {
            index = number(body, 4);
        }
    })
    .map_err(|errno| Error::new("sendto", text(), errno))?;
    let index = index.ok_or_else(|| Error::new("sendto", text(), Errno::NODEV))?;
    let mut addresses = Vec::new();
    ask(&socket, RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, &[0; ADDRESS_BYTES], |kind, body| {
        let lasts = body.get(2).is_some_and(|flags| flags & IFA_F_PERMANENT != 0) && body.get(3) == Some(&0);
        if kind == RTM_NEWADDR && lasts && number(body, 4) == Some(index) {
            addresses.push(body.to_vec());
        }
    })
    .map_err(|errno| Error::new("sendto", "RTM_GETADDR".to_string(), errno))?;
    Ok(Link { index, addresses })
}

/// Hands an interface to another network namespace, under a name there.
///
/// # Errors
/// `EEXIST` where the name is taken there, `EPERM` without `CAP_NET_ADMIN` in both, `EINVAL` for one that cannot leave.
pub fn hand_over(index: u32, target: Target<'_>, name: &str) -> Result<()> {
    let mut request = link(index, 0);
    match target {
        Target::Process(pid) => attribute(&mut request, IFLA_NET_NS_PID, &pid.to_ne_bytes()),
        Target::Namespace(fd) => attribute(&mut request, IFLA_NET_NS_FD, &fd.as_raw_fd().to_ne_bytes()),
    }
    attribute(&mut request, IFLA_IFNAME, &zero_ended(name));
    ask(&open()?, RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, &request, |_, _| {})
        .map_err(|errno| Error::new("sendto", format!("RTM_NEWLINK, {index} as {name:?}"), errno))
}

/// Gives an interface of this namespace addresses, as [`find`] told them, and brings it up.
///
/// # Errors
/// What the kernel says.
pub fn set_up(name: &str, addresses: &[Vec<u8>]) -> Result<()> {
    let socket = open()?;
    let index = find(name)?.index;
    for address in addresses {
        let Some(request) = address_of(index, address) else { continue };
        let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE_NEW;
        ask(&socket, RTM_NEWADDR, flags, &request, |_, _| {})
            .map_err(|errno| Error::new("sendto", format!("RTM_NEWADDR, {name:?}"), errno))?;
    }
    ask(&socket, RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, &link(index, IFF_UP), |_, _| {})
        .map_err(|errno| Error::new("sendto", format!("RTM_NEWLINK, {name:?}, IFF_UP"), errno))
}

fn open() -> Result<OwnedFd> {
    socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)
        .call("socket", || "AF_NETLINK, NETLINK_ROUTE".into())
}

fn link(index: u32, flags: u32) -> Vec<u8> {
    let mut message = vec![0; 4];
    for word in [index, flags, flags] {
        message.extend(word.to_ne_bytes());
    }
    message
}

/// The same address for another index, without what belongs to the interface's name and the moment.
fn address_of(index: u32, told: &[u8]) -> Option<Vec<u8>> {
    let mut message = told.get(..4)?.to_vec();
    // Told flags, that it lasts say, are the kernel's to set.
    message[2] = 0;
    message.extend(index.to_ne_bytes());
    let mut rest = told.get(ADDRESS_BYTES..)?;
    while let (Some(length), Some(kind)) = (short(rest, 0), short(rest, 2)) {
        let length = usize::from(length);
        let value = rest.get(4..length)?;
        if matches!(kind, IFA_ADDRESS | IFA_LOCAL | IFA_BROADCAST) {
            attribute(&mut message, kind, value);
        }
        rest = rest.get(aligned(length)..).unwrap_or_default();
    }
    Some(message)
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    // Values here are names and addresses: no length overflows.
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(value);
    message.resize(aligned(message.len()), 0);
}

fn zero_ended(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map(u32::from_ne_bytes)
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2).and_then(|two| two.try_into().ok()).map(u16::from_ne_bytes)
}

/// Sends one request and hears all that the kernel answers: messages to `each`, until an acknowledgement, the end of a dump,
/// or the one message of a request that asks for neither.
fn ask(
    socket: &OwnedFd,
    kind: u16,
    flags: u16,
    body: &[u8],
    mut each: impl FnMut(u16, &[u8]),
) -> std::result::Result<(), Errno> {
    let mut message = Vec::with_capacity(HEADER_BYTES + body.len());
    let length = u32::try_from(HEADER_BYTES + body.len()).map_err(|_| Errno::MSGSIZE)?;
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    rustix::net::send(socket, &message, SendFlags::empty())?;
    let mut answer = vec![0; ANSWER_BYTES];
    loop {
        let (length, _) = rustix::net::recv(socket, &mut *answer, RecvFlags::empty())?;
        let mut rest = &answer[..length];
        while let (Some(length), Some(kind)) = (number(rest, 0), short(rest, 4)) {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let body = rest.get(HEADER_BYTES..length).ok_or(Errno::BADMSG)?;
            match kind {
                NLMSG_ERROR => {
                    let errno = number(body, 0).unwrap_or(0).cast_signed();
                    return if errno == 0 { Ok(()) } else { Err(Errno::from_raw_os_error(-errno)) };
                }
                NLMSG_DONE => return Ok(()),
                kind => each(kind, body),
            }
            rest = rest.get(aligned(length)..).unwrap_or_default();
        }
        if flags & (NLM_F_ACK | NLM_F_DUMP) == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_found_and_one_that_is_not_there_is_not() {
        assert_eq!(find("lo").expect("lo").index, 1);
        assert_eq!(find("no-such").expect_err("none").errno, Errno::NODEV);
    }

    #[test]
    fn an_address_keeps_what_is_its_own() {
        let mut told = vec![2, 24, IFA_F_PERMANENT, 0];
        told.extend(7_u32.to_ne_bytes());
        attribute(&mut told, IFA_ADDRESS, &[10, 0, 0, 1]);
        attribute(&mut told, 3, b"eth0\0");
        let mut want = vec![2, 24, 0, 0];
        want.extend(9_u32.to_ne_bytes());
        attribute(&mut want, IFA_ADDRESS, &[10, 0, 0, 1]);
        assert_eq!(address_of(9, &told), Some(want));
        assert_eq!(address_of(9, &told[..6]), None);
    }
}
