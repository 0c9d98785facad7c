//! config-linux.md, "IntelRdt", on a stand-in for resctrl: a named hierarchy of control groups of version 1, which the runtime
//! finds in its mount table under the other name. The kernel fills and empties its directories as it does those of resctrl, and
//! tells of each process where it is. It has no `schemata`: those rules are tested in crates/runtime on a plain directory.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use testkit::Bundle;

use crate::{cases, refuses};

/// The hierarchy that stands for resctrl, mounted for one test.
struct Tree {
    dir: tempfile::TempDir,
    name: String,
}

impl Tree {
    /// None, and the test skipped, where the kernel has no control groups of version 1.
    fn new() -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let name = format!("rdt{}", dir.path().display().to_string().replace(['/', '.'], ""));
        std::fs::create_dir(dir.path().join("tree")).expect("mkdir");
        let options = format!("none,name={name}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "cgroup", "-o", &options, "cgroup"]).arg(dir.path().join("tree"));
        if !mount.output().is_ok_and(|output| output.status.success()) {
            testkit::skip("this kernel has no control groups of version 1");
            return None;
        }
        Some(Self { dir, name })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("tree").join(name)
    }

    fn make(&self, name: &str) {
        std::fs::create_dir(self.path(name)).expect("mkdir");
    }

    /// A bundle whose runtime finds the tree as resctrl.
    fn bundle(&self) -> Option<Bundle> {
        let dir = self.dir.path().display();
        let script = format!(
            "#!/bin/sh\nexec unshare -m sh -ec '\
             grep -v \" - resctrl \" /proc/$$/mountinfo >{dir}/$$\n\
             echo \"1 1 0:1 / {dir}/tree rw - resctrl resctrl rw\" >>{dir}/$$\n\
             mount --bind {dir}/$$ /proc/$$/mountinfo\n\
             exec oci-spawn \"$@\"' sh \"$@\"\n"
        );
        let (text, program) = (self.dir.path().join("text"), self.dir.path().join("runtime"));
        std::fs::write(&text, script).expect("a script");
        // By a child: who executes a file that this process has open for writing, in whatever thread, is refused.
        let installed = Command::new("install").args(["-m", "755"]).args([&text, &program]).status();
        assert!(installed.expect("install").success());
        let mut bundle = Bundle::of(&program.display().to_string())?;
        bundle.args(&["sleep", "100"]);
        Some(bundle)
    }

    /// Where a process is.
    fn place(&self, pid: u32) -> String {
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("cgroup");
        let own = format!("name={}:", self.name);
        text.lines()
            .find_map(|line| line.split_once(&own))
            .map(|(_, path)| path.to_string())
            .expect("its line")
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path("")).status();
    }
}

/// With this `intelRdt`, on a tree that has these directories.
fn with(
    made: &'static [&'static str],
    config: Value,
    check: impl FnOnce(&mut Bundle, &Tree),
) -> impl FnOnce(Bundle) {
    move |_| {
        let Some(tree) = Tree::new() else { return };
        let Some(mut bundle) = tree.bundle() else { return };
        made.iter().for_each(|name| tree.make(name));
        bundle.config["linux"]["intelRdt"] = config;
        check(&mut bundle, &tree);
        bundle.verb(&["delete", "--force", bundle.id()]);
        made.iter().rev().for_each(|name| drop(std::fs::remove_dir(tree.path(name))));
    }
}

cases! {
    "config-linux.md, IntelRdt" {
        rdt_without_resctrl_is_refused: "`intelRdt` without a mounted resctrl is an error" => |mut bundle| {
            if Path::new("/sys/fs/resctrl/tasks").exists() {
                testkit::skip("resctrl is mounted");
                return;
            }
            bundle.config["linux"]["intelRdt"] = json!({"closID": "x", "l3CacheSchema": "L3:0=f"});
            refuses(&bundle, "mount -t resctrl resctrl /sys/fs/resctrl");
        };
        the_process_is_in_its_class: "the container process is in the `tasks` of the class that `closID` names" => with(
            &["gold"], json!({"closID": "gold"}), |bundle, tree| {
                bundle.create().ok();
                assert_eq!(tree.place(bundle.pid()), "/gold");
                bundle.start().ok();
                bundle.verb(&["exec", "-d", "--pid-file", &bundle.path("pid").display().to_string(), bundle.id(), "sleep", "50"]).ok();
                let pid = std::fs::read_to_string(bundle.path("pid")).expect("a pid");
                assert_eq!(tree.place(pid.trim().parse().expect("a pid")), "/gold", "a further process");
            });
        a_slash_is_the_default_class: "`closID` `/` is the default class" => with(
            &[], json!({"closID": "/"}), |bundle, tree| {
                bundle.create().ok();
                assert_eq!(tree.place(bundle.pid()), "/");
            });
        without_intel_rdt_nothing_is_manipulated: "without `intelRdt` no resctrl is manipulated" => with(
            &[], Value::Null, |bundle, tree| {
                bundle.config["linux"].as_object_mut().expect("linux").remove("intelRdt");
                bundle.create().ok();
                assert_eq!(tree.place(bundle.pid()), "/");
                let said = bundle.verb(&["update", "--l3-cache-schema", "L3:0=f", bundle.id()]).fails(1);
                assert!(said.stderr.contains("intelRdt"), "{said}");
                assert!(!tree.path(bundle.id()).exists());
            });
        without_a_name_the_class_is_the_containers: "without `closID` the class has the container's id, and is removed with it" => with(
            &[], json!({}), |bundle, tree| {
                bundle.create().ok();
                assert_eq!(tree.place(bundle.pid()), format!("/{}", bundle.id()));
                bundle.verb(&["delete", "--force", bundle.id()]).ok();
                assert!(!tree.path(bundle.id()).exists());
                bundle.assert_nothing_left();
            });
        a_class_with_a_name_stays: "with `closID` the class is not removed with the container" => with(
            &["gold"], json!({"closID": "gold"}), |bundle, tree| {
                bundle.create().ok();
                bundle.verb(&["delete", "--force", bundle.id()]).ok();
                assert!(tree.path("gold").exists());
            });
        a_class_that_is_to_be_there_is: "a `closID` without any schema has to exist" => with(
            &[], json!({"closID": "gold"}), |bundle, tree| {
                refuses(bundle, "\"gold\" does not exist");
                assert!(!tree.path("gold").exists());
            });
        monitoring_has_a_group_of_its_own: "with `enableMonitoring` a monitoring group of the container's id is made in the class, and removed after the container" => with(
            &["gold", "gold/mon_groups"], json!({"closID": "gold", "enableMonitoring": true}), |bundle, tree| {
                bundle.create().ok();
                let group = format!("gold/mon_groups/{}", bundle.id());
                assert_eq!(tree.place(bundle.pid()), format!("/{group}"));
                bundle.verb(&["delete", "--force", bundle.id()]).ok();
                assert!(!tree.path(&group).exists() && tree.path("gold/mon_groups").exists());
            });
        monitoring_that_cannot_be_is_an_error: "a monitoring group that cannot be made is an error" => with(
            &["gold"], json!({"closID": "gold", "enableMonitoring": true}), |bundle, tree| {
                refuses(bundle, "mon_groups");
                assert!(tree.path("gold").exists());
            });
        a_schema_that_cannot_be_written_is_an_error: "a create that fails at its schema leaves no class" => with(
            &[], json!({"closID": "gold", "schemata": ["L3:0=f"]}), |bundle, tree| {
                refuses(bundle, "schemata");
                assert!(!tree.path("gold").exists());
            });
    }
}
