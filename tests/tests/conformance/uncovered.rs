//! Demands that no test here can hold a runtime to.

/// Section, demand, and why it is not tested.
pub(crate) const UNCOVERED: &[(&str, &str, &str)] = &[
    (
        "config.md, all",
        "what is said of Windows, Solaris, FreeBSD, virtual machines and z/OS",
        "another platform",
    ),
    (
        "config.md, Annotations",
        "values of `org.opencontainers.image.*`",
        "duties of who writes the configuration",
    ),
    (
        "config-linux.md, Control groups",
        "without /sys/kernel/cgroup/delegate the runtime falls back to a list of files",
        "every kernel since 4.15 has the file; the list is tested in crates/cgroup",
    ),
    (
        "config-linux.md, Block IO",
        "a device's entry has `weight` or `leafWeight`",
        "no device of the machines for tests has a weight",
    ),
    (
        "config-linux.md, IntelRdt",
        "what is written to `schemata`, and what of a class that exists has to match",
        "needs a processor with RDT; tested in crates/runtime on a directory that stands in for resctrl",
    ),
    (
        "config-linux.md, Network Devices",
        "physical devices are moved back by the kernel",
        "the kernel's part",
    ),
    (
        "runtime.md, Delete",
        "delete of a container that was never started is an error",
        "not followed: it is killed and deleted, as runc does and containerd needs",
    ),
    (
        "config-linux.md, Personality",
        "unsupported flags are an error",
        "not followed: they are a warning, as with runc",
    ),
];
