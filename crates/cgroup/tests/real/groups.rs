//! Groups as directories: planned, made, refused, undone.

use crate::*;

#[test]
fn a_plan_makes_nothing_and_names_every_directory() {
    needs!(Root);
    let name = name();
    let group = plan(&name);
    assert!(!group.is_none() && !group.exists());
    for place in group.places() {
        assert_eq!(place.path, name.strip_prefix("/").expect("absolute"));
        assert!(!place.directory().exists());
    }
    let record = serde_json::to_string(&group).expect("a record");
    let read: Group = serde_json::from_str(&record).expect("a group");
    read.remove().expect("what was never made is gone");
    assert!(read.processes(true).expect("processes").is_empty());
    read.kill(9).expect("nobody to kill");
}

#[test]
fn paths_that_climb_stay_in_the_hierarchy() {
    needs!(Root);
    let name = name();
    let climbing = PathBuf::from(format!("/../../..{}", name.display()));
    let mut group = plan(&climbing);
    group.make(&LinuxResources::default()).expect("made");
    for place in group.places() {
        assert_eq!(place.directory(), place.mount.join(name.strip_prefix("/").expect("absolute")));
        assert!(place.directory().is_dir(), "{:?}", place.directory());
    }
    group.remove().expect("removed");
}

#[test]
fn a_group_with_processes_is_not_taken_for_a_new_container() {
    needs!(Root);
    let made = made("{}");
    let held = made.start("exit 0");
    let error = plan(&made.name).make(&LinuxResources::default()).expect_err("in use");
    assert!(matches!(error, Error::InUse { processes: 1, .. }), "{error}");
    drop(held);
    plan(&made.name).make(&LinuxResources::default()).expect("an empty one may be");
}

#[test]
fn a_unit_with_processes_is_not_stopped_for_a_new_container() {
    needs!(Root);
    // The top slice: nothing above the scope is made for it.
    let prefix = name().to_string_lossy().trim_start_matches('/').to_owned();
    let made = made_at(PathBuf::from(format!("/{prefix}-unit.scope")));
    let held = made.start("exit 0");
    let path = PathBuf::from(format!("-.slice:{prefix}:unit"));
    let request = Request { id: "unused", path: Some(&path), driver: Driver::Systemd, rootless: false };
    let mut group = Group::plan(&request).expect("a plan");
    assert_eq!(group.places()[0].directory(), made.group.places()[0].directory());
    let error = group.make(&LinuxResources::default()).expect_err("in use");
    assert!(matches!(error, Error::InUse { processes: 1, .. }), "{error}");
    drop(held);
    group.make(&LinuxResources::default()).expect("an empty one may be");
}

#[test]
fn what_fails_half_way_leaves_nothing() {
    needs!(Root);
    let name = name().join("a/b");
    let json = r#"{"pids":{"limit":5},"cpu":{"cpus":"9999"}}"#;
    let mut group = plan(&name);
    let error = group.make(&resources(json)).expect_err("no such processor");
    assert!(matches!(&error, Error::Limit { resource, .. } if resource == "cpu.cpus"), "{error}");
    for place in plan(&name).places() {
        let top = place.mount.join(place.path.iter().next().expect("a name"));
        assert!(!top.exists(), "{top:?} is left");
    }
}

#[test]
fn what_the_kernel_lacks_is_an_error_that_names_it() {
    needs!(Root);
    let made = made("{}");
    let cases = [
        (r#"{"hugepageLimits":[{"pageSize":"3MB","limit":1}]}"#, "hugetlb"),
        (r#"{"rdma":{"mlx5_9":{"hcaHandles":1}}}"#, "rdma"),
        (r#"{"blockIO":{"leafWeight":100}}"#, "leafWeight"),
        (r#"{"memory":{"swappiness":101}}"#, "memory.swappiness"),
        (r#"{"unified":{"memory/high":"1"}}"#, "unified"),
        (r#"{"unified":{"memory.nosuch":"1"}}"#, "unified"),
        (r#"{"cpu":{"mems":"99"}}"#, "cpuset.mems"),
    ];
    for (json, name) in cases {
        let error = made.update(json).expect_err(json).to_string();
        assert!(error.contains(name), "{json}: {error}");
    }
}

#[test]
fn groups_nested_deeper_than_files_may_be_open_are_removed() {
    needs!(Root);
    let made = made("{}");
    let mut path = PathBuf::new();
    for place in made.group.places().iter().filter(|place| place.controllers.iter().all(|one| one == "pids"))
    {
        path = place.directory();
        let mut at =
            rustix::fs::open(&path, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).expect("open");
        for _ in 0..1100 {
            rustix::fs::mkdirat(&at, "deeper", rustix::fs::Mode::RWXU).expect("mkdir");
            at = rustix::fs::openat(&at, "deeper", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty())
                .expect("open");
        }
    }
    let before = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let few = rustix::process::Rlimit { current: Some(256), ..before };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, few).expect("a limit");
    assert!(made.group.processes(true).expect("a walk").is_empty());
    made.group.remove().expect("removed");
    rustix::process::setrlimit(rustix::process::Resource::Nofile, before).expect("the limit of before");
    assert!(!path.exists());
}
