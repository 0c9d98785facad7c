//! The recipes of docs/ci.md are run as they stand there, with a registry on loopback in place of the world: its image
//! `debian:12` is a busybox whose apt-get and make say what they would do.

use ocipipe_tests::Hub;
use testkit::tar::{archive, file};
use testkit::{Outcome, Packing, fixtures, needs, world};

/// Programs of the stand-in for a distribution.
const PROGRAMS: [(&str, &str); 3] = [
    ("usr/bin/apt-get", "#!/bin/sh\necho \"apt-get $*\" >>/log\n"),
    ("usr/bin/make", "#!/bin/sh\necho \"make $*\" >>/log; cat Makefile 2>/dev/null; cat /log\n"),
    ("usr/bin/postgres", "#!/bin/sh\nexec sleep 1000\n"),
];

/// The indented blocks of the page below a heading.
fn recipe(heading: &str) -> String {
    let page = std::fs::read_to_string(world::workspace().join("docs/ci.md")).expect("docs/ci.md");
    let (_, rest) = page.split_once(&format!("## {heading}")).unwrap_or_else(|| panic!("no {heading:?}"));
    let section = rest.split("\n## ").next().unwrap_or_default();
    let lines: Vec<&str> = section.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    assert!(!lines.is_empty(), "no recipe below {heading:?}");
    lines.join("\n")
}

/// A registry with the stand-in as all images that the page names, and a directory with sources.
fn ci() -> Hub {
    let programs: Vec<_> = PROGRAMS.iter().map(|(path, text)| file(*path, *text).mode(0o755)).collect();
    let image = fixtures::busybox().layer(archive(&programs), Packing::Gzip);
    let image = image.set("Cmd", serde_json::json!(["postgres"]));
    let hub = Hub::of(&image);
    for name in ["debian:12", "postgres:16", "app:1"] {
        let (name, tag) = name.split_once(':').expect("a tag");
        hub.registry.push(&hub.image, name, tag);
    }
    std::fs::create_dir(hub.world.path("src")).expect("a directory");
    std::fs::write(hub.world.path("src/Makefile"), "the sources\n").expect("a file");
    std::fs::write(hub.world.path("src/apt.list"), "gcc make\n").expect("a file");
    hub
}

/// Runs a recipe's text, where images are those of the registry here.
fn run(hub: &Hub, text: &str) -> Outcome {
    let here = hub.registry.address();
    let mut text = text.replace("registry.example", &here);
    for name in ["debian:12", "postgres:16"] {
        text = text.replace(name, &format!("{here}/{name}"));
    }
    let text = text.replace(" app:1", &format!(" {here}/app:1"));
    let scripts = world::workspace().join("scripts");
    hub.world.bash(&format!("PATH={}:$PATH; cd src\n{text}", scripts.display()))
}

#[test]
fn a_step_builds_and_pushes_and_leaves_nothing() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = ci();
    let built = run(&hub, &recipe("A step")).ok();
    assert!(built.stderr.contains("the sources\nmake \n"), "{built}");
    let pushed = run(&hub, "oci-run --rm registry.example/app:1 cat /log /src/Makefile").ok();
    assert_eq!(pushed.text(), "make \nthe sources\n");
    hub.world.assert_nothing_left();
}

#[test]
fn a_step_has_its_caches_and_secrets_and_its_image_nothing_of_them() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = ci();
    let text = recipe("Caches and secrets of a step");
    let missing = run(&hub, &text);
    assert_eq!(missing.code, 3, "{missing}");
    assert!(missing.stderr.contains("the secret \"TOKEN\""), "{missing}");
    hub.world.assert_nothing_left();
    let built = run(&hub, &format!("export TOKEN=hunter2-4f1c9a7e\n{text}")).ok();
    assert!(built.stderr.contains("make deps TOKEN_FILE=/run/secrets/TOKEN\n"), "{built}");
    let look = "find / -xdev | grep -e secrets -e TOKEN -e apt$; cat /log";
    let pushed = run(&hub, &format!("oci-run --rm registry.example/app:1 sh -c '{look}'")).ok();
    assert_eq!(pushed.text(), "apt-get install -y gcc\nmake deps TOKEN_FILE=/run/secrets/TOKEN\n");
    let caches = run(&hub, "oci-prune --caches").ok();
    assert_eq!(caches.text(), "cache /var/cache/apt\n");
    hub.world.assert_nothing_left();
}

#[test]
fn a_registry_remembers_a_step() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = ci();
    let text = recipe("A step that a registry remembers: `oci-cached`");
    let wanted = "the sources\napt-get update\napt-get install -y gcc make\nmake test\n";
    for again in [false, true] {
        let outcome = run(&hub, &text).ok();
        assert_eq!(outcome.text(), wanted, "{outcome}");
        let built = outcome.stderr.contains("one layer more") || outcome.stderr.contains("oci-commit");
        assert_ne!(built, again, "built once: {outcome}");
        std::fs::remove_dir_all(hub.world.store()).expect("another machine's store is empty");
    }
    hub.world.assert_nothing_left();
}

#[test]
fn a_step_that_fails_is_not_remembered_and_an_unreachable_registry_is_no_reason_to_build() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = ci();
    let failed = run(&hub, "oci-cached registry.example/cache:1 sh -c 'echo broken >&2; exit 7'");
    assert_eq!((failed.code, failed.text().as_str()), (7, ""), "{failed}");
    let again = run(&hub, "oci-cached registry.example/cache:1 sh -c 'exit 8'");
    assert_eq!(again.code, 8, "{again}");
    let away = run(&hub, "oci-cached 127.0.0.1:1/cache:1 touch built");
    assert_eq!(away.code, 5, "{away}");
    assert!(!hub.world.path("src/built").exists());
}

#[test]
fn a_scope_takes_its_containers_with_it() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = ci();
    let tested = run(&hub, &recipe("Containers that must not outlive the job: `oci-scope`")).ok();
    assert!(tested.text().ends_with("make integration-test\n"), "{tested}");
    hub.world.assert_nothing_left();
    let failed = run(&hub, "oci-scope sh -c 'oci-run -d registry.example/app:1 sleep 1000; exit 5'");
    assert_eq!(failed.code, 5, "{failed}");
    hub.world.assert_nothing_left();
}

#[test]
fn scopes_are_each_their_own() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = ci();
    let nested = run(
        &hub,
        "oci-scope sh -c 'oci-run -d --name outer registry.example/app:1 >&2
            oci-scope oci-run -d --name inner registry.example/app:1 >&2
            oci-ps --format \"{{.Names}}\"'",
    )
    .ok();
    assert_eq!(nested.text(), "outer\n");
    let two = run(
        &hub,
        "oci-scope sh -c 'oci-run -d --name long registry.example/app:1 >&2; touch made; until [ -e over ]; do sleep 0.1; done
            oci-ps --format \"{{.Names}}\"' &
        until [ -e made ]; do sleep 0.1; done
        oci-scope oci-run -d --name short registry.example/app:1 >&2
        touch over; wait",
    )
    .ok();
    assert_eq!(two.text(), "long\n");
    hub.world.assert_nothing_left();
}

#[test]
fn a_scope_that_was_killed_is_ended_by_the_next() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = ci();
    let killed = run(
        &hub,
        "oci-scope sh -c 'oci-run -d --name left registry.example/app:1 >&2; touch made; exec sleep 1000' &
        until [ -e made ]; do sleep 0.1; done
        kill -9 $!; wait $!
        oci-ps --format '{{.Names}}'
        oci-scope oci-ps -aq",
    )
    .ok();
    assert_eq!(killed.text(), "left\n");
    hub.world.assert_nothing_left();
}

#[test]
fn the_tour_shows_what_it_says() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = ci();
    let tour = world::workspace().join("scripts/tour");
    let shown = hub.world.tool(&tour.display().to_string(), &[&hub.reference]).ok();
    let text = shown.text();
    for line in [
        "== An image is a stack of layers and a configuration",
        "\nA /etc/motd\n",
        "\nnote\n",
        "\nhello\n",
        "can't open '/note'",
        "-> a container costs what it wrote",
        "{\"Status\":\"running\",\"Running\":true,",
    ] {
        assert!(text.contains(line) || shown.stderr.contains(line), "{line:?} is not in\n{shown}");
    }
    hub.world.assert_nothing_left();
}
