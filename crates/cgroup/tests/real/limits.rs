//! Limits that read back, and that bite; what was used.

use crate::*;

#[test]
fn limits_read_back_as_they_were_given() {
    needs!(Root);
    let made = made(
        r#"{"memory":{"limit":33554432,"reservation":16777216,"swap":67108864},"pids":{"limit":17},
            "cpu":{"shares":2048,"quota":50000,"period":200000,"burst":1000,"cpus":"0","mems":"0"}}"#,
    );
    assert_eq!(made.read("memory.limit_in_bytes", "memory.max"), "33554432");
    assert_eq!(made.read("memory.soft_limit_in_bytes", "memory.low"), "16777216");
    let swap = if made.v1() { "67108864" } else { "33554432" };
    assert_eq!(made.read("memory.memsw.limit_in_bytes", "memory.swap.max"), swap);
    assert_eq!(made.read("pids.max", "pids.max"), "17");
    assert_eq!(made.read("cpu.shares", "cpu.weight"), if made.v1() { "2048" } else { "174" });
    assert_eq!(made.read("cpu.cfs_quota_us", "cpu.max"), if made.v1() { "50000" } else { "50000 200000" });
    assert_eq!(made.read("cpu.cfs_burst_us", "cpu.max.burst"), "1000");
    assert_eq!(made.read("cpuset.cpus", "cpuset.cpus"), "0");
    assert_eq!(made.read("cpuset.mems", "cpuset.mems"), "0");
}

#[test]
fn memory_limits_are_raised_and_lowered_together_and_taken_away() {
    needs!(Root);
    let made = made(r#"{"memory":{"limit":33554432,"swap":33554432}}"#);
    for limit in [64 * MIB, 16 * MIB, 128 * MIB] {
        made.update(&format!(r#"{{"memory":{{"limit":{limit},"swap":{}}}}}"#, limit * 2)).expect("updated");
        assert_eq!(made.read("memory.limit_in_bytes", "memory.max"), limit.to_string());
        let swap = if made.v1() { limit * 2 } else { limit };
        assert_eq!(made.read("memory.memsw.limit_in_bytes", "memory.swap.max"), swap.to_string());
    }
    made.update(&format!(r#"{{"memory":{{"swap":{}}}}}"#, 192 * MIB)).expect("swap alone");
    let swap = if made.v1() { 192 * MIB } else { 64 * MIB };
    assert_eq!(made.read("memory.memsw.limit_in_bytes", "memory.swap.max"), swap.to_string());
    made.update(r#"{"memory":{"limit":-1}}"#).expect("taken away");
    let most = if made.v1() { "9223372036854771712" } else { "max" };
    assert_eq!(made.read("memory.limit_in_bytes", "memory.max"), most);
    assert_eq!(made.read("memory.memsw.limit_in_bytes", "memory.swap.max"), most);
}

#[test]
fn bandwidth_is_changed_where_old_and_new_values_exclude_each_other() {
    needs!(Root);
    let made = made(r#"{"cpu":{"quota":10000,"period":10000}}"#);
    made.update(r#"{"cpu":{"quota":900000,"period":900000,"burst":900000}}"#).expect("raised");
    made.update(r#"{"cpu":{"quota":5000,"period":5000,"burst":0}}"#).expect("lowered");
    assert_eq!(made.read("cpu.cfs_quota_us", "cpu.max"), if made.v1() { "5000" } else { "5000 5000" });
    made.update(r#"{"cpu":{"period":8000}}"#).expect("the period alone");
    assert_eq!(made.read("cpu.cfs_quota_us", "cpu.max"), if made.v1() { "5000" } else { "5000 8000" });
    made.update(r#"{"cpu":{"quota":4000}}"#).expect("the quota alone");
    assert_eq!(made.read("cpu.cfs_quota_us", "cpu.max"), if made.v1() { "4000" } else { "4000 8000" });
    made.update(r#"{"cpu":{"quota":-1}}"#).expect("taken away");
    assert_eq!(made.read("cpu.cfs_quota_us", "cpu.max"), if made.v1() { "-1" } else { "max 8000" });
}

#[test]
fn values_that_no_order_makes_right_are_refused() {
    needs!(Root);
    let made = made(r#"{"cpu":{"quota":10000,"period":10000}}"#);
    let error = made.update(r#"{"cpu":{"quota":1,"period":1}}"#).expect_err("below the least period");
    assert!(matches!(&error, Error::Limit { resource, .. } if resource.starts_with("cpu.")), "{error}");
}

#[test]
fn the_memory_limit_kills_what_goes_beyond_it() {
    needs!(Root);
    let made = made(r#"{"memory":{"limit":16777216,"swap":16777216}}"#);
    let status = made.run("dd if=/dev/zero of=/dev/null bs=60M count=1");
    let code = status.code().unwrap_or(128 + 9);
    assert_eq!(code, 128 + 9, "{status}");
}

#[test]
fn the_process_limit_stops_forks() {
    needs!(Root);
    let made = made(r#"{"pids":{"limit":2}}"#);
    assert!(made.run("(exit 0) && exit 0").success(), "one more fits");
    assert!(!made.run("sleep 9 & sleep 9 & sleep 9 & wait; exit 0").success(), "three more do not");
}

#[test]
fn devices_are_denied_but_for_those_given_and_the_defaults() {
    needs!(Root);
    let made = made(
        r#"{"devices":[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":1,"minor":11,"access":"w"}]}"#,
    );
    let opens = |redirect: &str| made.run(&format!("exec 3{redirect}")).success();
    assert!(opens("</dev/null") && opens(">/dev/zero"), "the defaults");
    assert!(opens(">/dev/kmsg"), "the one given");
    assert!(!opens("</dev/kmsg"), "not for reading");
    made.update(r#"{"devices":[{"allow":true,"type":"c","major":1,"minor":11,"access":"r"}]}"#)
        .expect("updated");
    assert!(opens("</dev/kmsg"), "given now");
    assert!(!opens(">/dev/kmsg"), "taken away");
    made.update(r#"{"devices":[{"allow":true,"access":"rwm"}]}"#).expect("updated");
    assert!(opens("<>/dev/kmsg"), "everything");
    made.update(r#"{"devices":[]}"#).expect("updated");
    assert!(!opens("</dev/kmsg") && opens("</dev/null"), "the defaults alone");
}

#[test]
fn a_container_without_rules_has_the_default_devices_only() {
    needs!(Root);
    let made = made("{}");
    assert!(made.run("exec 3</dev/null").success());
    assert!(!made.run("exec 3</dev/kmsg").success());
}

#[test]
fn a_limit_below_what_is_in_use_is_refused_when_asked_to_check() {
    needs!(Root);
    let made = made(r#"{"memory":{"limit":67108864}}"#);
    let mut held = made.start("dd if=/dev/zero of=/dev/null bs=30M");
    held.go();
    while made.read("memory.usage_in_bytes", "memory.current").parse::<i64>().expect("a number") < 20 * MIB {
        std::thread::yield_now();
    }
    let error = made.update(r#"{"memory":{"limit":8388608,"checkBeforeUpdate":true}}"#).expect_err("refused");
    assert!(matches!(&error, Error::Value { resource, .. } if resource == "memory.limit"), "{error}");
}

#[test]
fn what_was_used_is_counted_in_runcs_shape() {
    needs!(Root);
    let made = made(r#"{"memory":{"limit":67108864},"pids":{"limit":9},"cpu":{"cpus":"0"}}"#);
    let mut held = made.start("dd if=/dev/zero of=/dev/null bs=30M");
    held.go();
    while made.read("memory.usage_in_bytes", "memory.current").parse::<i64>().expect("a number") < 20 * MIB {
        std::thread::yield_now();
    }
    let stats = serde_json::to_value(made.group.stats().expect("stats")).expect("json");
    let number = |pointer: &str| stats.pointer(pointer).and_then(serde_json::Value::as_u64).unwrap_or(0);
    assert!(number("/memory/usage/usage") >= 20 * MIB as u64, "{stats}");
    assert_eq!(number("/memory/usage/limit"), 64 * MIB as u64, "{stats}");
    assert!((1..=2).contains(&number("/pids/current")), "a shell may have become dd: {stats}");
    assert_eq!(number("/pids/limit"), 9, "{stats}");
    assert!(number("/cpu/usage/total") > 0, "{stats}");
    if made.v1() {
        assert_eq!(stats.pointer("/cpuset/cpus"), Some(&serde_json::json!([0])), "{stats}");
    }
    assert!(stats["memory"]["raw"].as_object().is_some_and(|raw| raw.len() > 10), "{stats}");
}

#[test]
fn whoever_watches_is_told_of_a_kill_for_want_of_memory() {
    needs!(Root);
    let made = made(r#"{"memory":{"limit":16777216,"swap":16777216}}"#);
    let mut watch = made.group.watch().expect("a watch");
    let short = Some(std::time::Duration::from_millis(50));
    let mut held = made.start("dd if=/dev/zero of=/dev/null bs=60M count=1; sleep 60");
    while watch.wait(short).expect("quiet") != Notice::Nothing {}
    held.go();
    let long = Some(std::time::Duration::from_secs(20));
    assert_eq!(watch.wait(long).expect("a notice"), Notice::Oom);
    drop(held);
    drop(made);
    let end = std::iter::repeat_with(|| watch.wait(long).expect("a notice")).find(|one| *one != Notice::Oom);
    assert_eq!(end, Some(Notice::Ended));
}
