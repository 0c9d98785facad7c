//! A profile made into a program, and the program given to the kernel.

use std::os::fd::OwnedFd;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompFilterFlag};
use rustix::io::Errno;
use sys::seccomp::{self, Instruction};

use crate::abi::{Abi, Machine, X32_BIT};
use crate::assemble::{Code, Compare, Label};
use crate::error::{Error, Result, invalid};
use crate::known;
use crate::rules::{KILL_PROCESS, Rules};
use crate::{profile, search};

/// Where the call's number lies in `seccomp_data` (linux/seccomp.h).
const NUMBER: u32 = 0;
/// Where the ABI lies.
const AUDIT: u32 = 4;

/// A filter that the kernel can be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    instructions: Vec<Instruction>,
    flags: u32,
    unknown: Vec<String>,
}

/// Makes the program of a profile for this machine.
///
/// # Errors
/// [`Error::Invalid`] with the member of the profile that is wrong, [`Error::TooLong`], [`Error::Machine`].
pub fn compile(profile: &LinuxSeccomp) -> Result<Program> {
    compile_for(profile, Machine::native()?)
}

/// Makes the program of a profile for a machine.
///
/// # Errors
/// As [`compile`].
pub fn compile_for(profile: &LinuxSeccomp, machine: Machine) -> Result<Program> {
    let (rules, unknown) = profile::read(profile)?;
    let abis = machine.listed(profile.architectures().as_deref().unwrap_or_default());
    Ok(Program { instructions: write(&rules, &abis)?, flags: flags(profile)?, unknown })
}

impl Program {
    /// Filters this thread's calls from now on, and those of what it executes. Answers the listener where a supervisor is
    /// to answer ([`Program::wants_listener`]).
    ///
    /// # Errors
    /// [`Error::Flag`] with a flag that this kernel does not know, [`Error::Load`] with what it said otherwise: `EACCES` without
    /// `CAP_SYS_ADMIN` and without no_new_privs.
    pub fn load(&self) -> Result<Option<OwnedFd>> {
        seccomp::set_filter(self.flags, &self.instructions).map_err(|error| self.explain(error))
    }

    /// Whether a supervisor is to answer some calls.
    pub fn wants_listener(&self) -> bool {
        self.flags & seccomp::NEW_LISTENER != 0
    }

    /// The names in the profile that are no system call on any architecture known here; they mean nothing.
    pub fn unknown(&self) -> &[String] {
        &self.unknown
    }

    /// The program itself.
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    fn explain(&self, error: sys::Error) -> Error {
        let flags = known::FLAGS.iter().zip(known::FLAG_BITS);
        let mut asked = flags.filter(|(_, bit)| error.errno == Errno::INVAL && self.flags & bit != 0);
        match asked.find(|(_, bit)| !seccomp::knows_flags(*bit)) {
            Some((name, _)) => Error::Flag(name),
            None => Error::Load(error),
        }
    }
}

fn flags(profile: &LinuxSeccomp) -> Result<u32> {
    use LinuxSeccompFilterFlag as Flag;
    let bit = |flag: &Flag| match flag {
        Flag::SeccompFilterFlagLog => seccomp::LOG,
        Flag::SeccompFilterFlagSpecAllow => seccomp::SPEC_ALLOW,
        Flag::SeccompFilterFlagTsync => seccomp::TSYNC,
        Flag::SeccompFilterFlagWaitKillableRecv => seccomp::WAIT_KILLABLE_RECV,
    };
    let listener = if profile::notifies(profile) { seccomp::NEW_LISTENER } else { 0 };
    let flags = profile.flags().iter().flatten().map(bit).fold(listener, |all, bit| all | bit);
    let both = seccomp::NEW_LISTENER | seccomp::TSYNC;
    match flags {
        // seccomp(2): the two answers of the call would be the same number.
        _ if flags & both == both => Ok(flags | seccomp::TSYNC_ESRCH),
        _ if listener == 0 && flags & seccomp::WAIT_KILLABLE_RECV != 0 => {
            Err(invalid("flags", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV without SCMP_ACT_NOTIFY"))
        }
        _ => Ok(flags),
    }
}

/// Writes the whole program: the ABI is told first, then the number is searched among its own.
fn write(rules: &Rules, abis: &[Abi]) -> Result<Vec<Instruction>> {
    let mut code = Code::default();
    let foreign = code.verdict(KILL_PROCESS);
    let mut next = foreign;
    for abi in abis.iter().rev().filter(|abi| **abi != Abi::X32) {
        let search = match abi {
            Abi::X86_64 => write_x86_64(&mut code, rules, abis.contains(&Abi::X32)),
            _ => search::write(&mut code, rules, *abi).0,
        };
        let numbered = code.load(NUMBER, search);
        next = code.branch(Compare::Equal, abi.audit(), numbered, next);
    }
    code.load(AUDIT, next);
    code.finish()
}

/// The kernel calls x86-64 and x32 by one name; a bit of the number tells them apart.
fn write_x86_64(code: &mut Code, rules: &Rules, with_x32: bool) -> Label {
    let x32 = with_x32.then(|| search::write(code, rules, Abi::X32).0);
    let (own, newer) = search::write(code, rules, Abi::X86_64);
    let beyond = x32.unwrap_or_else(|| {
        let (newer, foreign) = (code.verdict(newer), code.verdict(KILL_PROCESS));
        // No x32 call: syscall(-1), which the kernel answers with ENOSYS.
        code.branch(Compare::Equal, u32::MAX, newer, foreign)
    });
    code.branch(Compare::GreaterOrEqual, X32_BIT, beyond, own)
}
