//! Device rules written: into `devices.allow` and `devices.deny` of version 1, attached as a program on version 2.

use oci_spec::runtime::LinuxResources;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::directory::{Directory, write_once};
use crate::error::About;
use crate::filter::{Exceptions, Line, Rule, rules};
use crate::group::{Group, Version};
use crate::program::compile;
use crate::{Error, Result};

impl Group {
    /// Applies the rules for devices: to a new group always, as every container is denied what it is not given (runc's
    /// default), later only where some are given.
    ///
    /// A rootless container cannot make device nodes; where it may not set rules, it does without, as runc: false.
    pub(crate) fn devices(&self, resources: &LinuxResources, new: bool) -> Result<bool> {
        let given = resources.devices().as_deref();
        if given.is_none() && !new {
            return Ok(false);
        }
        let rules = rules(given.unwrap_or_default())?;
        let place = match self.place("devices") {
            Some(place) => place,
            None if self.rootless => return Ok(false),
            None => {
                return Err(Error::NoController {
                    resource: "devices".into(),
                    controller: "devices".into(),
                    why: "no version-1 hierarchy of this host has".into(),
                });
            }
        };
        let directory = place.open()?;
        let applied = match self.version {
            Version::Unified => attach(directory, &rules),
            Version::Legacy => write(directory, &rules, new),
        };
        match applied {
            Err(error) if self.rootless && error.is_permission() => Ok(false),
            applied => applied.map(|()| true),
        }
    }
}

/// The new program comes before the old ones go, so that no device is open to the group meanwhile: each of them must agree.
fn attach(directory: &Directory, rules: &[Rule]) -> Result<()> {
    let what = "restricting the devices of a cgroup";
    // bpf(2) takes no O_PATH descriptor
    let open = directory.open_file(".", OFlags::RDONLY | OFlags::DIRECTORY).about(what)?;
    let old = match sys::bpf::device_programs(&open) {
        // the query needs Linux 4.15 as the program does; without CONFIG_CGROUP_BPF all of it is refused
        Err(error) if error.errno == Errno::INVAL => {
            return Err(Error::NoController {
                resource: "devices".into(),
                controller: "devices".into(),
                why: "this kernel has not (CONFIG_CGROUP_BPF)".into(),
            });
        }
        old => old.about(what)?,
    };
    let program = sys::bpf::load_device_program(&compile(rules)).about(what)?;
    sys::bpf::attach_device_program(&open, &program).about(what)?;
    for old in old {
        sys::bpf::detach_device_program(&open, old).about(what)?;
    }
    Ok(())
}

fn write(directory: &Directory, rules: &[Rule], new: bool) -> Result<()> {
    let wanted = Exceptions::of(rules)?;
    let had = if new { None } else { current(directory)? };
    let (had, reset) = match had {
        // an allowing group does not show its exceptions
        Some(had) if !had.allow && !wanted.allow => (had, false),
        _ => (Exceptions::default(), true),
    };
    let writer = |allow| Writer::open(directory, allow);
    let except = writer(!wanted.allow)?;
    if reset {
        // all devices at once; the exceptions of before are forgotten with it
        writer(wanted.allow)?.line("a")?;
    }
    for (pattern, access) in &wanted.list {
        let missing = access & !had.access(*pattern);
        if missing != 0 {
            except.line(&Line(*pattern, missing).to_string())?;
        }
    }
    let gone = had.list.iter().map(|(pattern, access)| (*pattern, access & !wanted.access(*pattern)));
    let gone: Vec<_> = gone.filter(|(_, access)| *access != 0).collect();
    if !gone.is_empty() {
        let back = writer(wanted.allow)?;
        gone.into_iter().try_for_each(|(pattern, access)| back.line(&Line(pattern, access).to_string()))?;
    }
    Ok(())
}

fn current(directory: &Directory) -> Result<Option<Exceptions>> {
    let list = directory.read("devices.list").about("reading a cgroup's device rules")?;
    Ok(Exceptions::parse(&list))
}

/// `devices.allow` or `devices.deny`, held open: each rule is one `write(2)`.
struct Writer<'a> {
    directory: &'a Directory,
    name: &'static str,
    file: std::os::fd::OwnedFd,
}

impl<'a> Writer<'a> {
    fn open(directory: &'a Directory, allow: bool) -> Result<Self> {
        let name = if allow { "devices.allow" } else { "devices.deny" };
        let file = directory.open_file(name, OFlags::WRONLY).about("restricting the devices of a cgroup")?;
        Ok(Self { directory, name, file })
    }

    fn line(&self, rule: &str) -> Result<()> {
        write_once(&self.file, rule).map_err(|errno| {
            let path = self.directory.path().join(self.name);
            let source = sys::Error::new("write", format!("{path:?}, {rule:?}"), errno);
            Error::Limit { resource: "devices".into(), value: rule.into(), path, source }
        })
    }
}
