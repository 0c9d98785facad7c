//! Labels of security modules, for the command that is executed (apparmor.d(5), selinux(8)).

use sys::Result;

use crate::error::{Error, Result as Checked};
use crate::procfs::Procfs;

/// `SELINUX_MAGIC` of linux/magic.h.
const SELINUX_MAGIC: u64 = 0xf97c_ff8c;

/// Whose label it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Module {
    /// AppArmor.
    Apparmor,
    /// SELinux.
    Selinux,
}

/// Refuses a label of a module that this kernel does not run: the container would not be confined as it is to be.
pub(crate) fn check(member: &str, module: Module) -> Checked<()> {
    let (runs, name) = match module {
        Module::Apparmor => (runs_apparmor(), "AppArmor"),
        Module::Selinux => (runs_selinux(), "SELinux"),
    };
    if runs { Ok(()) } else { Err(Error::Unsupported(format!("{member} (this kernel does not run {name})"))) }
}

/// Gives the label to the next program that this thread executes.
pub(crate) fn at_exec(procfs: &Procfs, module: Module, label: &str) -> Result<()> {
    if module == Module::Selinux {
        return procfs.write("thread-self/attr/exec", label);
    }
    let text = format!("exec {label}");
    match procfs.write("thread-self/attr/apparmor/exec", &text) {
        // Before Linux 5.8 modules had no directories of their own.
        Err(error) if error.is_not_found() => procfs.write("thread-self/attr/exec", &text),
        answer => answer,
    }
}

#[allow(clippy::disallowed_methods, reason = "the kernel's own file")]
fn runs_apparmor() -> bool {
    std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y"))
}

fn runs_selinux() -> bool {
    rustix::fs::statfs("/sys/fs/selinux").is_ok_and(|found| found.f_type.cast_unsigned() == SELINUX_MAGIC)
}
