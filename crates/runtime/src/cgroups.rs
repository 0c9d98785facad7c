//! Which cgroup hierarchies this host has.

use crate::step::Hierarchy;

/// The version-2 hierarchy's directory on a host that has both versions (systemd's hybrid layout).
const UNIFIED: &str = "unified";

impl Hierarchy {
    /// The one hierarchy of a version-2 host.
    pub(crate) fn version_2() -> Self {
        Self { directory: String::new(), controllers: Vec::new() }
    }
}

/// The hierarchies that a container is shown: as this process's own cgroup file lists them.
#[allow(clippy::disallowed_methods, reason = "the kernel's file about this process")]
pub(crate) fn hierarchies() -> Vec<Hierarchy> {
    let text = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    parse(&text)
}

/// Lines are `number:controllers:path` (cgroups(7)); version 2 has number 0 and no controllers.
fn parse(text: &str) -> Vec<Hierarchy> {
    let fields = |line: &str| line.split(':').nth(1).map(str::to_string);
    let names: Vec<String> = text.lines().filter_map(fields).collect();
    if names.iter().all(String::is_empty) {
        return vec![Hierarchy::version_2()];
    }
    let hierarchy = |names: &String| match names.strip_prefix("name=") {
        Some(name) => Hierarchy { directory: name.into(), controllers: vec![names.clone()] },
        None if names.is_empty() => Hierarchy { directory: UNIFIED.into(), controllers: Vec::new() },
        None => Hierarchy {
            directory: names.clone(),
            controllers: names.split(',').map(str::to_string).collect(),
        },
    };
    names.iter().map(hierarchy).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_of_version_2_has_one_hierarchy_at_the_top() {
        assert_eq!(parse("0::/user.slice\n"), [Hierarchy::version_2()]);
    }

    #[test]
    fn a_hybrid_host_has_a_directory_for_each() {
        let found = parse("5:cpu,cpuacct:/\n1:name=systemd:/\n0::/\n");
        let directories: Vec<_> = found.iter().map(|one| one.directory.as_str()).collect();
        assert_eq!(directories, ["cpu,cpuacct", "systemd", "unified"]);
        assert_eq!(found[0].controllers, ["cpu", "cpuacct"]);
    }
}
