//! Processes: entered, listed, frozen, signalled.

use crate::*;

#[test]
fn a_process_enters_and_is_listed_with_those_below() {
    needs!(Root);
    let made = made("{}");
    let held = made.start("exit 0");
    assert_eq!(made.group.processes(false).expect("processes"), [held.pid()]);
    let place = &made.group.places()[0];
    let devices = |place: &&cgroup::Place| place.controllers.iter().any(|one| one == "devices");
    let place = made.group.places().iter().find(devices).unwrap_or(place);
    let below = place.directory().join("below");
    std::fs::create_dir(&below).expect("mkdir");
    std::fs::write(below.join("cgroup.procs"), held.pid().to_string()).expect("moved");
    assert!(made.group.processes(false).expect("processes").is_empty());
    assert_eq!(made.group.processes(true).expect("processes"), [held.pid()]);
}

#[test]
fn a_frozen_group_stands_still_until_it_is_thawed() {
    needs!(Root);
    let made = made("{}");
    let mut held = made.start("exit 7");
    assert!(!made.group.is_frozen().expect("state"));
    made.group.freeze().expect("frozen");
    assert!(made.group.is_frozen().expect("state"));
    held.go();
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert!(held.0.try_wait().expect("wait").is_none(), "it stands still");
    made.group.thaw().expect("thawed");
    assert!(!made.group.is_frozen().expect("state"));
    assert_eq!(held.0.wait().expect("wait").code(), Some(7));
}

#[test]
fn a_signal_reaches_every_process_of_a_group_frozen_or_not() {
    needs!(Root);
    for frozen in [false, true] {
        let made = made("{}");
        let mut held = made.start("sleep 60 & sleep 60 & wait");
        held.go();
        while made.group.processes(true).expect("processes").len() < 3 {
            std::thread::yield_now();
        }
        if frozen {
            made.group.freeze().expect("frozen");
        }
        made.group.kill(9).expect("killed");
        let status = held.0.wait().expect("wait");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    }
    let made = made("{}");
    let mut held = made.start("exit 0");
    made.group.kill(15).expect("signalled");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&held.0.wait().expect("wait")), Some(15));
}

#[test]
fn a_further_process_goes_into_the_group_or_below_it() {
    needs!(Root);
    let made = made("{}");
    for place in made.group.places() {
        std::fs::create_dir(place.directory().join("below")).expect("mkdir");
    }
    let cpuset = made.group.places().iter().find(|place| place.controllers.iter().any(|one| one == "cpuset"));
    for file in cpuset.iter().flat_map(|_| ["cpuset.cpus", "cpuset.mems"]) {
        std::fs::write(cpuset.expect("one").directory().join("below").join(file), "0").expect("a cpuset");
    }
    let child = Command::new("sleep").arg("60").spawn().expect("sleep");
    let held = Held(child);
    made.group.adopt_at(held.pid(), &Inside::parse(&["below"]).expect("a path")).expect("adopted");
    let cgroup = std::fs::read_to_string(format!("/proc/{}/cgroup", held.0.id())).expect("its groups");
    let name = made.name.display();
    assert!(
        cgroup.lines().all(|line| line.ends_with(&format!("{name}/below")) || line.ends_with(":/")),
        "{cgroup}"
    );
    let beside = made.group.birthplace_beside(held.pid()).expect("a directory");
    assert_eq!(beside.is_some(), !made.v1());
    made.group.adopt_at(held.pid(), &Inside::default()).expect("adopted");
    assert_eq!(made.group.processes(false).expect("processes"), [held.pid()]);
    let nowhere = Inside::parse(&["nosuch:below"]).expect("a path");
    made.group.adopt_at(held.pid(), &nowhere).expect_err("no such controller");
    made.group
        .adopt_at(held.pid(), &Inside::parse(&["missing"]).expect("a path"))
        .expect_err("no such group");
}
