//! What version 2 alone has, and the guest that has it.

use crate::*;

/// Runs in the guest.
const WORK: &str = "\
export OCIPIPE_SKIPS=/tmp/skips
[ $(wc -l </proc/self/cgroup) = 1 ] && echo version 2 alone
/input/real --test-threads=4
";

/// Version 2 with all its controllers: this very program in a guest, booted once for all of its tests.
#[test]
fn all_of_it_holds_on_debians_kernel_with_version_2_alone() {
    needs!(Root, Program("qemu-system-x86_64"), Program("mke2fs"), Program("busybox"));
    needs!(Package("linux-image-cloud-amd64"));
    let dir = tempfile::tempdir().expect("a temporary directory");
    let input = dir.path().join("input");
    std::fs::create_dir(&input).expect("mkdir");
    std::fs::copy(std::env::current_exe().expect("this program"), input.join("real")).expect("a copy");
    let script = dir.path().join("work.sh");
    std::fs::write(&script, WORK).expect("a file");
    let guest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/guest");
    let run = Command::new(guest).args([&script, &input]).env("OCIPIPE_BIN", &input).output();
    let run = run.expect("scripts/guest");
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{out}\n{err}");
    let skipped: Vec<&str> = out.lines().filter(|line| line.contains("SKIP")).collect();
    assert_eq!(skipped.len(), 1, "only this one: {skipped:?}");
    assert!(out.contains("version 2 alone"), "{out}");
}

/// True on version 2; what cannot be tried on version 1 is tried in the guest.
fn unified(made: &Made) -> bool {
    !made.v1()
}

#[test]
fn version_2_is_recognised() {
    needs!(Root);
    let made = made("{}");
    let versions = std::fs::read_to_string("/proc/self/cgroup").expect("cgroups").lines().count();
    assert_eq!(unified(&made), versions == 1);
}

#[test]
fn throttles_weights_and_files_by_name_are_written_on_version_2() {
    needs!(Root);
    let made = made("{}");
    if !unified(&made) {
        let error = made.update(r#"{"unified":{"memory.high":"1"}}"#).expect_err("version 1");
        assert!(error.to_string().contains("unified"), "{error}");
        return;
    }
    // the guest's own disk
    let disk = std::fs::read_to_string("/sys/block/vda/dev").expect("a disk");
    let (major, minor) = disk.trim().split_once(':').expect("numbers");
    let device = |rate: u64| format!(r#"[{{"major":{major},"minor":{minor},"rate":{rate}}}]"#);
    made.update(&format!(
        r#"{{"blockIO":{{"throttleReadBpsDevice":{},"throttleWriteIOPSDevice":{}}}}}"#,
        device(1_048_576),
        device(77)
    ))
    .expect("throttled");
    assert_eq!(made.read("", "io.max"), format!("{major}:{minor} rbps=1048576 wbps=max riops=max wiops=77"));
    made.update(&format!(r#"{{"blockIO":{{"throttleReadBpsDevice":{}}}}}"#, device(0))).expect("taken away");
    assert_eq!(made.read("", "io.max"), format!("{major}:{minor} rbps=max wbps=max riops=max wiops=77"));
    made.update(r#"{"unified":{"memory.high":"33554432","pids.max":"31","cpu.weight":"7"}}"#)
        .expect("by name");
    assert_eq!(made.read("", "memory.high"), "33554432");
    assert_eq!(made.read("", "pids.max"), "31");
    assert_eq!(made.read("", "cpu.weight"), "7");
    made.update(r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}"#).expect("huge pages");
    assert_eq!(made.read("", "hugetlb.2MB.max"), "4194304");
    assert_eq!(made.read("", "hugetlb.2MB.rsvd.max"), "4194304");
    made.update(r#"{"cpu":{"idle":1}}"#).expect("idle");
    assert_eq!(made.read("", "cpu.idle"), "1");
    let unknown = made.update(r#"{"unified":{"nosuch.max":"1"}}"#).expect_err("no such controller");
    assert!(
        matches!(&unknown, Error::NoController { controller, .. } if controller == "nosuch"),
        "{unknown}"
    );
}

#[test]
fn a_group_below_one_with_processes_says_why_it_cannot_be_limited() {
    needs!(Root);
    let outer = made("{}");
    if !unified(&outer) {
        return;
    }
    let held = outer.start("exit 0");
    let inner = outer.name.join("inner");
    let error =
        plan(&inner).make(&resources(r#"{"memory":{"limit":33554432}}"#)).expect_err("no controllers");
    assert!(
        matches!(&error, Error::Kind { path, .. } if *path == outer.group.places()[0].directory()),
        "{error}"
    );
    let directory = outer.group.places()[0].directory();
    assert!(!directory.join("inner").exists(), "nothing is left");
    plan(&inner).make(&LinuxResources::default()).expect("without a limit it may be");
    assert_eq!(std::fs::read_to_string(directory.join("cgroup.type")).expect("a type"), "domain\n");
    assert_eq!(std::fs::read_to_string(directory.join("inner/cgroup.type")).expect("a type"), "domain\n");
    drop(held);
    let mut fine = plan(&inner);
    fine.make(&resources(r#"{"memory":{"limit":33554432}}"#)).expect("an empty parent gives controllers");
    let error = outer.group.adopt(Held(Command::new("sleep").arg("60").spawn().expect("sleep")).pid());
    let error = error.expect_err("it has given controllers away");
    assert!(matches!(error, Error::Kind { .. }), "{error}");
}

#[test]
fn a_threaded_group_is_refused_where_a_limit_needs_whole_processes() {
    needs!(Root);
    let outer = made("{}");
    if !unified(&outer) {
        return;
    }
    let directory = outer.group.places()[0].directory();
    let threaded = directory.join("threaded");
    std::fs::create_dir(&threaded).expect("mkdir");
    std::fs::write(threaded.join("cgroup.type"), "threaded").expect("threaded");
    let inner = outer.name.join("threaded/inner");
    let error = plan(&inner).make(&resources(r#"{"memory":{"limit":33554432}}"#)).expect_err("threaded");
    assert!(matches!(&error, Error::Kind { kind, .. } if kind == "domain invalid"), "{error}");
    plan(&inner).make(&resources(r#"{"pids":{"limit":3}}"#)).expect("a limit that threads can have");
    assert_eq!(std::fs::read_to_string(threaded.join("inner/pids.max")).expect("a limit").trim(), "3");
}

#[test]
fn a_process_is_born_in_its_group_on_version_2() {
    needs!(Root);
    let mut made = made("{}");
    let birthplace = made.group.birthplace().expect("a directory");
    assert_eq!(birthplace.is_some(), unified(&made));
    let Some(birthplace) = birthplace else { return };
    let path = std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&birthplace)));
    assert_eq!(path.expect("a link"), made.group.places()[0].directory());
    made.group.freeze().expect("what is needed later is opened again");
    made.group.thaw().expect("thawed");
}
