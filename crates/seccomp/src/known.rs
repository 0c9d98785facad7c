//! What this crate knows, in the specification's words, as `features` reports it.

/// The actions (config-linux.md, "Seccomp").
pub const ACTIONS: [&str; 9] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];

/// The operators of arguments.
pub const OPERATORS: [&str; 7] = [
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_LE",
    "SCMP_CMP_LT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NE",
];

/// The architectures with a table of system calls.
pub const ARCHITECTURES: [&str; 5] =
    ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"];

/// The flags.
pub const FLAGS: [&str; 4] = [
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

/// The bit of each of [`FLAGS`].
pub(crate) const FLAG_BITS: [u32; 4] =
    [sys::seccomp::LOG, sys::seccomp::SPEC_ALLOW, sys::seccomp::TSYNC, sys::seccomp::WAIT_KILLABLE_RECV];

/// Those of [`FLAGS`] that this kernel knows.
pub fn supported_flags() -> Vec<&'static str> {
    let known = FLAGS.iter().zip(FLAG_BITS).filter(|(_, bit)| sys::seccomp::knows_flags(*bit));
    known.map(|(name, _)| *name).collect()
}
