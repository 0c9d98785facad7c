//! The ways into a kernel: which numbers its system calls have, and how the kernel names the way (linux/audit.h).

use oci_spec::runtime::Arch;

use crate::error::{Error, Result};

/// The bit that tells an x32 call from one of x86-64, whose audit value it shares (arch/x86, `__X32_SYSCALL_BIT`).
pub(crate) const X32_BIT: u32 = 0x4000_0000;

/// A processor family whose system calls are known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    /// x86-64, whose kernel may also take calls of x86 and x32.
    X86_64,
    /// AArch64, whose kernel may also take calls of 32-bit ARM.
    Aarch64,
}

impl Machine {
    /// The machine that this program was built for.
    ///
    /// # Errors
    /// [`Error::Machine`] where its system calls are not known here.
    pub fn native() -> Result<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Ok(Self::X86_64),
            "aarch64" => Ok(Self::Aarch64),
            other => Err(Error::Machine(other)),
        }
    }

    fn abis(self) -> &'static [Abi] {
        match self {
            Self::X86_64 => &[Abi::X86_64, Abi::X86, Abi::X32],
            Self::Aarch64 => &[Abi::Aarch64, Abi::Arm],
        }
    }

    /// The ABIs that a filter lets through: the machine's own always, and of its others those that are listed.
    ///
    /// No call reaches this kernel through any other that a profile lists.
    pub(crate) fn listed(self, listed: &[Arch]) -> Vec<Abi> {
        let abis = self.abis().iter().enumerate();
        let chosen = abis.filter(|(place, abi)| *place == 0 || listed.contains(&abi.arch()));
        chosen.map(|(_, abi)| *abi).collect()
    }
}

/// One way into the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Abi {
    X86_64,
    X86,
    X32,
    Arm,
    Aarch64,
}

impl Abi {
    /// `AUDIT_ARCH_*`.
    pub(crate) fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Arm => 0x4000_0028,
            Self::Aarch64 => 0xc000_00b7,
        }
    }

    /// What is added to the numbers of the table.
    pub(crate) fn base(self) -> u32 {
        if self == Self::X32 { X32_BIT } else { 0 }
    }

    /// Whether the kernel reads 32 bits of each register at most.
    ///
    /// A 64-bit process can make such calls too (int 0x80), and the filter then sees all 64 bits of its registers.
    pub(crate) fn is_32_bit(self) -> bool {
        matches!(self, Self::X86 | Self::Arm)
    }

    fn arch(self) -> Arch {
        match self {
            Self::X86_64 => Arch::ScmpArchX86_64,
            Self::X86 => Arch::ScmpArchX86,
            Self::X32 => Arch::ScmpArchX32,
            Self::Arm => Arch::ScmpArchArm,
            Self::Aarch64 => Arch::ScmpArchAarch64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_own_abi_is_always_let_through_and_a_foreign_one_never() {
        let x86_64 = |arches: &[Arch]| Machine::X86_64.listed(arches);
        assert_eq!(x86_64(&[]), [Abi::X86_64]);
        assert_eq!(x86_64(&[Arch::ScmpArchNative]), [Abi::X86_64]);
        assert_eq!(x86_64(&[Arch::ScmpArchX86]), [Abi::X86_64, Abi::X86]);
        assert_eq!(x86_64(&[Arch::ScmpArchX32, Arch::ScmpArchAarch64]), [Abi::X86_64, Abi::X32]);
        assert_eq!(Machine::Aarch64.listed(&[Arch::ScmpArchArm]), [Abi::Aarch64, Abi::Arm]);
    }
}
