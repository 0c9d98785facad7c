//! On a plain directory that stands in for resctrl; what the kernel would put into a new directory is put there by
//! [`fill`], and taken out by [`empty`].

use serde_json::json;
use tempfile::TempDir;

use super::*;

const FILES: [&str; 2] = ["tasks", "schemata"];

/// What the kernel puts into a new class or monitoring group.
pub(super) fn fill(root: &Root, path: &Path) {
    let dir = root.open_dir(path).expect("made just now");
    let is_class = path.components().filter(|one| one.as_os_str() != ".").count() == 1;
    for name in FILES.iter().take(if is_class { 2 } else { 1 }) {
        drop(dir.open(name, OFlags::WRONLY | OFlags::CREATE, Mode::from_raw_mode(0o600)).expect("a file"));
    }
    if is_class {
        dir.create_dir_all(MONITORING, Mode::from_raw_mode(0o755)).expect("a directory");
    }
}

/// What the kernel takes away with a directory.
pub(super) fn empty(root: &Root, path: &Path) {
    let Ok(dir) = root.open_dir(path) else { return };
    for name in FILES {
        let _ = rustix::fs::unlinkat(&dir, name, AtFlags::empty());
    }
    let _ = rustix::fs::unlinkat(&dir, MONITORING, AtFlags::REMOVEDIR);
}

struct Tree(TempDir);

impl Tree {
    fn new() -> Self {
        let tree = Self(tempfile::tempdir().expect("a directory"));
        tree.put("info/last_cmd_status", "ok\n");
        tree.put("info/MB/bandwidth_gran", "10\n");
        tree.put("schemata", "    L3:0=7ff\n    MB:0=100\n");
        tree.put("tasks", "");
        tree.put("mon_groups/other/tasks", "");
        tree
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
        std::fs::write(path, text).expect("a file");
    }

    /// A class that somebody has made.
    fn class(&self, name: &str, schemata: &str) {
        self.put(&format!("{name}/schemata"), schemata);
        self.put(&format!("{name}/tasks"), "");
        std::fs::create_dir(self.path(name).join(MONITORING)).expect("mkdir");
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    fn plan(&self, config: &serde_json::Value) -> (Group, LinuxIntelRdt) {
        let config = crate::typed::<LinuxIntelRdt>(config).expect("a configuration");
        (Group::plan(&config, "c1", self.0.path().into()).expect("a plan"), config)
    }

    /// A container as `create` makes it, its record kept as on disk.
    fn make(&self, config: serde_json::Value) -> Result<Group> {
        let (mut group, config) = self.plan(&config);
        let locked = group.claim(&config)?;
        let recorded: Group =
            serde_json::from_value(serde_json::to_value(&group).expect("JSON")).expect("a record");
        assert_eq!(recorded, group);
        match group.make(locked, &config).and_then(|()| group.adopt(Pid::from_raw(42).expect("a pid"))) {
            Ok(()) => Ok(group),
            Err(error) => {
                group.remove().expect("undone");
                Err(error)
            }
        }
    }

    fn fails(&self, config: serde_json::Value) -> String {
        self.make(config).expect_err("refused").to_string()
    }
}

#[test]
fn resctrl_is_looked_for_in_the_mount_table() {
    let line = |root: &str, mount: &str, kind: &str| {
        format!("40 24 0:35 {root} {mount} rw shared:9 - {kind} x rw\n")
    };
    assert_eq!(find(&line("/", "/sys/fs/resctrl", "sysfs")), None);
    assert_eq!(find(&line("/part", "/r", "resctrl")), None);
    let two = line("/", "/a\\040b", "resctrl") + &line("/", "/x", "proc");
    assert_eq!(find(&two), Some("/a b".into()));
}

#[test]
fn what_can_be_no_class_is_refused_before_anything_is_made() {
    for (config, member) in [
        (json!({"closID": "."}), "closID"),
        (json!({"closID": ".."}), "closID"),
        (json!({"closID": "a/b"}), "closID"),
        (json!({"closID": "//"}), "closID"),
        (json!({"closID": "a\nb"}), "closID"),
        (json!({"closID": "info"}), "closID"),
        (json!({"memBwSchema": "L3:0=f"}), "memBwSchema"),
        (json!({"memBwSchema": "MB:0=10\nL3:0=f"}), "memBwSchema"),
        (json!({"schemata": ["L3:0=f\nMB:0=10"]}), "schemata"),
    ] {
        let typed = crate::typed::<LinuxIntelRdt>(&config).expect("a configuration");
        let refused = Group::plan(&typed, "c1", "/nowhere".into());
        let Err(crate::Error::Invalid { member: told, .. }) = refused else {
            panic!("{config}: {refused:?}")
        };
        assert_eq!(told, format!("linux.intelRdt.{member}"), "{config}");
    }
    let none = crate::typed::<LinuxIntelRdt>(&json!({})).expect("a configuration");
    assert!(Group::plan(&none, "mon_groups", "/nowhere".into()).is_err());
}

#[test]
fn without_a_name_the_class_is_the_containers_own_and_goes_with_it() {
    let tree = Tree::new();
    let mut group = tree.make(json!({})).expect("a class");
    group.settle();
    assert_eq!(tree.text("c1/tasks"), "42");
    assert_eq!(tree.text("c1/schemata"), "", "schemata is not written where none is asked for");
    assert_eq!(tree.text("tasks"), "");
    group.remove().expect("removed");
    assert!(!tree.has("c1"));
    group.remove().expect("a second time changes nothing");
}

#[test]
fn a_class_of_the_containers_name_that_is_there_already_is_left_alone() {
    let tree = Tree::new();
    tree.class("c1", "L3:0=7ff\n");
    let said = tree.fails(json!({"l3CacheSchema": "L3:0=f"}));
    assert!(said.contains("c1\" exists already"), "{said}");
    assert_eq!((tree.text("c1/schemata"), tree.text("c1/tasks")), ("L3:0=7ff\n".into(), String::new()));
}

#[test]
fn a_named_class_is_made_with_its_lines_in_order_and_stays() {
    let tree = Tree::new();
    let lines = json!({"closID": "gold", "memBwSchema": "MB:0=20", "l3CacheSchema": "L3:0=f"});
    let mut group = tree.make(lines.clone()).expect("a class");
    group.settle();
    assert_eq!(tree.text("gold/schemata"), "L3:0=f\nMB:0=20\n");
    assert_eq!(tree.text("gold/tasks"), "42");
    assert!(!tree.has("c1"));
    group.remove().expect("removed");
    assert!(tree.has("gold/tasks"), "a class with a name is not removed");
    tree.make(lines).expect("the next container finds it as it should be");
}

#[test]
fn whole_schemata_are_written_last_and_by_themselves() {
    let tree = Tree::new();
    let lines = json!({"closID": "gold", "l3CacheSchema": "L3:0=f", "schemata": ["L3:0=1f", "MB:0=30"]});
    tree.make(lines).expect("a class");
    // Each write takes the place of the one before in a plain file.
    assert_eq!(tree.text("gold/schemata"), "L3:0=1f\nMB:0=30\n");
}

#[test]
fn a_class_that_is_there_has_to_be_as_the_configuration_says() {
    let tree = Tree::new();
    tree.class("gold", "    L3:0=00f\n    MB:0=20\n");
    let said = tree.fails(json!({"closID": "gold", "l3CacheSchema": "L3:0=1f"}));
    assert!(said.contains("\"gold\" has L3:0=00f, not L3:0=1f"), "{said}");
    let said = tree.fails(json!({"closID": "gold", "memBwSchema": "MB:0=30"}));
    assert!(said.contains("has MB:0=20, not MB:0=30"), "{said}");
    assert_eq!(tree.text("gold/tasks"), "");
    assert_eq!(tree.text("gold/schemata"), "    L3:0=00f\n    MB:0=20\n");
    let group = tree.make(json!({"closID": "gold", "l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=15"}));
    assert!(!group.expect("the same in other words").owns_class);
}

#[test]
fn a_class_without_lines_has_to_be_there() {
    let tree = Tree::new();
    let said = tree.fails(json!({"closID": "gold"}));
    assert!(said.contains("\"gold\" does not exist"), "{said}");
    assert!(!tree.has("gold"));
    tree.class("gold", "L3:0=f\n");
    let mut group = tree.make(json!({"closID": "gold"})).expect("assigned");
    group.settle();
    assert_eq!((tree.text("gold/tasks"), tree.text("gold/schemata")), ("42".into(), "L3:0=f\n".into()));
    group.remove().expect("removed");
    assert!(tree.has("gold"));
}

#[test]
fn a_slash_is_the_default_class() {
    let tree = Tree::new();
    let mut group = tree.make(json!({"closID": "/", "enableMonitoring": true})).expect("assigned");
    group.settle();
    assert_eq!((tree.text("tasks"), tree.text("mon_groups/c1/tasks")), ("42".into(), "42".into()));
    group.remove().expect("removed");
    assert!(tree.has("tasks") && !tree.has("mon_groups/c1") && tree.has("mon_groups/other"));
}

#[test]
fn a_monitoring_group_is_made_in_the_class_and_goes_with_the_container() {
    let tree = Tree::new();
    tree.class("gold", "L3:0=f\n");
    let mut named = tree.make(json!({"closID": "gold", "enableMonitoring": true})).expect("a group");
    named.settle();
    assert_eq!(tree.text("gold/mon_groups/c1/tasks"), "42");
    let said = tree.fails(json!({"closID": "gold", "enableMonitoring": true}));
    assert!(said.contains("gold/mon_groups/c1\" exists already"), "{said}");
    assert!(tree.has("gold/mon_groups/c1"), "the other's stays");
    named.remove().expect("removed");
    assert!(!tree.has("gold/mon_groups/c1") && tree.has("gold"));

    let own = tree.make(json!({"enableMonitoring": true})).expect("a class and a group");
    assert_eq!((tree.text("c1/tasks"), tree.text("c1/mon_groups/c1/tasks")), ("42".into(), "42".into()));
    own.remove().expect("removed");
    assert!(!tree.has("c1"));
}

#[test]
fn a_processor_that_monitors_nothing_is_an_error_that_leaves_nothing() {
    let tree = Tree::new();
    tree.class("gold", "L3:0=f\n");
    std::fs::remove_dir(tree.path("gold/mon_groups")).expect("rmdir");
    let error = tree.make(json!({"closID": "gold", "enableMonitoring": true})).expect_err("refused");
    assert!(
        descriptor::Classify::hint(&error).is_some_and(|hint| hint.contains("does not monitor")),
        "{error}"
    );
    assert_eq!(tree.text("gold/tasks"), "");
}

#[test]
fn what_resctrl_says_of_a_failure_is_told_and_nothing_is_left() {
    let tree = Tree::new();
    let (mut group, config) = tree.plan(&json!({"closID": "gold", "l3CacheSchema": "L3:9=f"}));
    let locked = group.claim(&config).expect("claimed");
    tree.put("info/last_cmd_status", "Unknown domain 9\n");
    // A directory in its place: the file cannot be written.
    std::fs::create_dir_all(tree.path("gold")).expect("mkdir");
    let error = group.make(locked, &config).expect_err("refused");
    assert!(matches!(error, Error::Exists { .. }), "another's who takes no locks: {error}");
    group.remove().expect("undone");
    assert!(tree.has("gold"), "and not removed");
    std::fs::create_dir(tree.path("gold/schemata")).expect("mkdir");
    let (group, config) = tree.plan(&json!({"closID": "gold", "l3CacheSchema": "L3:9=f"}));
    let said = group.update(&config).expect_err("refused").to_string();
    assert!(said.starts_with("linux.intelRdt: ") && said.ends_with("(Unknown domain 9)"), "{said}");
}

#[test]
fn a_creation_that_was_killed_leaves_a_class_that_delete_removes_unless_others_came_into_it() {
    let tree = Tree::new();
    let config = json!({"closID": "gold", "schemata": ["L3:0=f"]});
    let killed = tree.make(config.clone()).expect("a class");
    assert_eq!(tree.text("gold/tasks"), "42");
    killed.remove().expect("left to those in it");
    assert!(tree.has("gold"));
    tree.put("gold/tasks", "");
    killed.remove().expect("removed");
    assert!(!tree.has("gold"));
    // Recorded, and killed before anything was made.
    let (mut group, config) = tree.plan(&config);
    drop(group.claim(&config).expect("claimed"));
    group.remove().expect("there is nothing");
}

#[test]
fn an_update_writes_the_lines_that_it_names_into_the_class() {
    let tree = Tree::new();
    let group = tree.make(json!({})).expect("a class");
    let lines = |value| crate::typed::<LinuxIntelRdt>(&value).expect("lines");
    group.update(&lines(json!({"l3CacheSchema": "L3:0=3", "memBwSchema": "MB:0=50"}))).expect("updated");
    assert_eq!(tree.text("c1/schemata"), "L3:0=3\nMB:0=50\n");
    let refused = group.update(&lines(json!({"memBwSchema": "nonsense"})));
    assert!(matches!(refused, Err(crate::Error::Invalid { .. })), "{refused:?}");
}

#[test]
fn a_mount_that_shows_no_resctrl_is_refused() {
    let tree = Tree::new();
    std::fs::remove_file(tree.path("tasks")).expect("rm");
    assert!(matches!(tree.make(json!({})), Err(Error::NotMounted)));
    assert!(!tree.has("c1"));
}

#[test]
fn the_older_words_for_monitoring_ask_for_it() {
    for (words, wanted) in [
        (json!({"enableCMT": true}), Some(true)),
        (json!({"enableMBM": true, "enableCMT": false}), Some(true)),
        (json!({"enableCMT": false}), None),
        (json!({"enableMonitoring": false}), Some(false)),
    ] {
        let config = json!({"ociVersion": "1.2.0", "linux": {"intelRdt": words}});
        let mut spec: Spec = crate::typed(&config).expect("a configuration");
        take_older_words(config.to_string().as_bytes(), &mut spec);
        let linux = spec.linux().as_ref().expect("linux");
        let class = linux.intel_rdt().as_ref().expect("intelRdt");
        assert_eq!(*class.enable_monitoring(), wanted, "{config}");
    }
}
