//! The failure of each stage, under a shell without pipefail and one with it: the origin's status and message arrive.

use ocipipe_tests::Hub;
use serde_json::Value;
use testkit::{Image, Outcome, Packing, World, needs, tar};

/// One stage of the chain replaced by something that fails.
struct Case {
    stage: usize,
    command: &'static str,
    tool: &'static str,
    /// The status, where docs/lines.md names it.
    exit: i32,
    /// Part of the message.
    says: &'static str,
    /// Whether there is a container when the failure happens: the one-off's journey ends with the commit.
    container: bool,
}

const CHAIN: [&str; 8] = [
    "oci-pull $R",
    "oci-unpack",
    "oci-mount MODE",
    "oci-cp ./src :/src",
    "oci-spawn --pass -- true",
    "oci-spawn --pass -w /src -- true",
    "oci-commit --layer --tag app:1",
    "oci-push $REGISTRY/app:1",
];

const fn case(
    stage: usize,
    command: &'static str,
    tool: &'static str,
    exit: i32,
    says: &'static str,
) -> Case {
    Case { stage, command, tool, exit, says, container: stage > 2 && stage < 7 }
}

const CASES: [Case; 10] = [
    case(0, "oci-pull $REGISTRY/test/image:unknown", "oci-pull", 3, "unknown"),
    case(0, "oci-pull 127.0.0.1:1/test/image:1", "oci-pull", 5, "127.0.0.1:1"),
    case(1, "oci-unpack", "oci-unpack", 6, "sha256:"),
    case(2, "oci-mount MODE --name taken", "oci-mount", 9, "taken"),
    case(3, "oci-cp ./absent :/src", "oci-cp", 3, "absent"),
    case(4, "oci-spawn --pass -- sh -c 'exit 7'", "oci-spawn", 7, "7"),
    case(4, "oci-spawn --pass -- no-such-command", "oci-spawn", 127, "no-such-command"),
    case(5, "oci-spawn --pass -w /src -- sh -c 'kill -9 $$; sleep 1; exit 41'", "oci-spawn", 41, "41"),
    case(6, "oci-commit --layer --tag bad//name", "oci-commit", 2, "bad//name"),
    case(7, "oci-push 127.0.0.1:1/app:1", "oci-push", 5, "127.0.0.1:1"),
];

fn chain(case: &Case, mode: &str) -> String {
    let stages =
        CHAIN.iter().enumerate().map(|(at, stage)| if at == case.stage { case.command } else { stage });
    stages.collect::<Vec<_>>().join(" | ").replace("MODE", mode)
}

/// A hub with a source folder, a container that holds the name `taken`, and (for unpack) a layer that lies.
fn hub_for(case: &Case) -> Hub {
    let hub = if case.tool == "oci-unpack" {
        let lie = vec![testkit::digest(b"something else")];
        Hub::of(&Image::new().layer(tar::archive(&[tar::file("a", "b")]), Packing::Gzip).diff_ids(lie))
    } else {
        Hub::busybox()
    };
    std::fs::create_dir(hub.world.path("src")).expect("a folder");
    if case.says == "taken" {
        hub.container(&["--name", "taken"]);
    }
    hub
}

/// The origin's status and, once, its message; nothing on stdout but its error line, if anything.
fn check(case: &Case, outcome: Outcome) {
    let outcome = outcome.fails(case.exit).says(case.says);
    let speakers: Vec<&str> =
        outcome.stderr.lines().filter_map(|line| line.split_once(": ")).map(|(who, _)| who).collect();
    assert!(speakers.contains(&case.tool), "the origin speaks: {outcome}");
    let later: Vec<&str> =
        CHAIN[case.stage + 1..].iter().filter_map(|stage| stage.split(' ').next()).collect();
    let others = speakers.iter().filter(|who| later.contains(who) && **who != case.tool);
    assert_eq!(others.count(), 0, "the later stages are silent: {outcome}");
    assert_eq!(outcome.error_line()["tool"], case.tool, "{outcome}");
    assert_eq!(outcome.lines().len(), 1, "{outcome}");
}

fn each_case(mode: &str, after: impl Fn(&Case, &Hub, &Outcome)) {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    for case in &CASES {
        let hub = hub_for(case);
        let script = chain(case, mode);
        for shell in [World::sh, World::bash] {
            let outcome = shell(&hub.world, &script);
            check(case, outcome.clone());
            after(case, &hub, &outcome);
            assert!(hub.registry.manifest("app", "1").is_none(), "nothing was pushed: {outcome}");
        }
        if case.says == "taken" {
            hub.world.tool("oci-mount", &["--remove", "taken"]).ok();
        }
        if mode == "--rm" {
            hub.world.assert_nothing_left();
        }
        hub.world.assert_store_is_sound();
    }
}

#[test]
fn each_failure_travels_and_a_one_off_leaves_nothing() {
    each_case("--rm", |_, _, _| ());
}

#[test]
fn each_failure_travels_and_a_kept_container_is_there_and_named() {
    each_case("--rm --keep-on-failure", |case, hub, outcome| {
        let kept: Vec<String> = hub.world.containers().into_iter().filter(|name| name != "taken").collect();
        if !case.container {
            assert!(kept.is_empty(), "{kept:?} {outcome}");
            return;
        }
        assert_eq!(kept.len(), 1, "{outcome}");
        assert!(outcome.stderr.contains(&kept[0]), "its name is printed: {outcome}");
        let line = hub.world.tool("oci-inspect", &[&kept[0]]).ok();
        assert_eq!(hub.output(&line, "echo entered"), "entered\n", "it can be entered");
        let left = hub.world.containers();
        assert!(
            !left.contains(&kept[0]),
            "a one-off that was entered and left without failure is gone: {left:?}"
        );
    });
}

#[test]
fn a_last_spawn_that_reads_a_failure_exits_with_125_and_names_the_origin() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let script =
        "oci-pull $REGISTRY/test/image:unknown | oci-unpack | oci-mount --rm | oci-spawn -- echo ran";
    let outcome = hub.world.sh(script).fails(125).says("oci-pull");
    assert_eq!(outcome.text(), "", "{outcome}");
}

#[test]
fn a_killed_or_foreign_stage_before_is_upstreams_failure() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    for (tool, args) in [
        ("oci-unpack", ["--platform", "linux/amd64"].as_slice()),
        ("oci-mount", &[]),
        ("oci-cp", &["/etc/hostname", ":/x"]),
        ("oci-commit", &[]),
        ("oci-push", &["127.0.0.1:1/x"]),
    ] {
        let args = if tool == "oci-unpack" { &[][..] } else { args };
        let outcome = hub.world.feed(tool, args, b"").fails(10).says("no line on stdin");
        outcome.error_line();
    }
    hub.world.feed("oci-spawn", &["--pass", "--", "true"], b"").fails(10);
    let last = hub.world.feed("oci-spawn", &["--", "true"], b"");
    assert!(matches!(last.code, 10 | 125), "{last}");
    last.clone().fails(last.code).says("no line on stdin");
    hub.world.assert_nothing_left();
}

#[test]
fn a_stage_whose_reader_is_gone_takes_its_one_off_away() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let line = hub.rootfs();
    std::fs::write(hub.world.path("line"), &line.stdout).expect("a file");
    let made = hub.world.feed("oci-mount", &["--rm"], &line.stdout).ok();
    assert_eq!(hub.world.containers(), [made.member("name")]);
    hub.world.feed("oci-mount", &["--remove"], &made.stdout).ok();
    hub.world.bash("oci-mount --rm <line | true; true").ok();
    hub.world.assert_nothing_left();
    hub.world.bash("oci-mount --rm <line | oci-spawn --pass -- sleep 0.3 | true; true").ok();
    hub.world.assert_nothing_left();
}

#[test]
fn the_same_failure_is_one_json_object_with_log_format_json() {
    needs!(Root, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let unknown = hub.registry.reference("test/image:unknown");
    let outcome = hub.world.tool("oci-pull", &["--log-format", "json", &unknown]).fails(3);
    let last = outcome.stderr.trim().lines().last().expect("fails() saw a message");
    let object: Value = serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {outcome}"));
    assert_eq!(object["tool"], "oci-pull");
}

#[test]
fn many_lines_are_independent_and_the_first_failure_is_the_status() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let unknown = hub.registry.reference("test/image:unknown");
    let outcome = hub.world.tool("oci-pull", &[&unknown, &hub.reference]);
    assert_eq!(outcome.code, 3, "{outcome}");
    let lines = outcome.lines();
    assert_eq!(lines.len(), 2, "{outcome}");
    assert_eq!(lines[1]["digest"], hub.image.manifest);
    let next = hub.world.feed("oci-unpack", &[], &outcome.stdout);
    assert_eq!(next.code, 3, "{next}");
    assert_eq!(next.lines()[1]["layers"], 1);
    let stopped = hub.world.tool("oci-pull", &["--fail-fast", &unknown, &hub.reference]);
    assert_eq!((stopped.code, stopped.lines().len()), (3, 1), "{stopped}");
    let rootfs = hub.rootfs().stdout;
    let twice = [rootfs.as_slice(), &rootfs].concat();
    hub.world.feed("oci-mount", &["--name", "one"], &twice).fails(2);
    hub.world.assert_nothing_left();
}
