//! The main job from end to end: registry, layers, container, steps, new image, registry.

use ocipipe_tests::{Hub, config, diff_ids};
use std::path::{Path, PathBuf};
use testkit::http::{Response, Server};
use testkit::tree::{self, Ignore};
use testkit::{Registry, World, fixtures, needs, probe};

/// What the container's own lower layer adds to the view of an image.
const OURS: [&str; 6] = ["proc", "sys", "dev", "etc/resolv.conf", "etc/hosts", "etc/hostname"];

/// umoci's flat tree of an image in a registry, fetched by skopeo.
fn umoci_tree(world: &World, reference: &str, name: &str) -> PathBuf {
    let layout = world.name(&format!("{name}.layout"));
    let bundle = world.path(&format!("{name}.bundle"));
    let script = format!(
        "skopeo copy -q --src-tls-verify=false docker://{reference} oci:{layout}:it \
         && umoci unpack --image {layout}:it {} >/dev/null",
        bundle.display()
    );
    world.sh(&script).ok();
    bundle.join("rootfs")
}

/// Compares the flat tree and the mounted tree that we make of an image with the tree that umoci makes of a peer.
fn compare_with_umoci(world: &World, reference: &str, peer: &str, implied: &[&str]) {
    let wanted = umoci_tree(world, peer, "peer");
    let flat = world.name("flat");
    world.stages(&["oci-pull", reference], &[&["oci-unpack", "--to", &flat]]).ok();
    tree::assert_same(&wanted, Path::new(&flat), &Ignore::nothing().mtimes(implied));

    let container = world.stages(&["oci-pull", reference], &[&["oci-unpack"], &["oci-mount"]]).ok();
    let parents = [implied, &["", "etc"]].concat();
    // an image without /etc gets one of ours for the files below it
    let ours = if wanted.join("etc").exists() { OURS.to_vec() } else { [&OURS, ["etc"].as_slice()].concat() };
    let ignore = Ignore::nothing().mtimes(&parents).subtrees(&ours);
    tree::assert_same(&wanted, Path::new(&container.member("rootfs")), &ignore);
    world.feed("oci-mount", &["--remove"], &container.stdout).ok();
    world.assert_nothing_left();
    world.assert_store_is_sound();
}

#[test]
fn the_published_images_equal_umocis_unpack_and_pass_the_whole_pipeline() {
    needs!(Root, Overlay, Program("docker-registry"), Program("skopeo"), Program("umoci"));
    needs!(Shared("busybox-glibc"), Shared("busybox-musl"));
    let registry = Registry::start();
    for name in ["busybox-glibc", "busybox-musl"] {
        let mut world = World::new();
        let layout = probe::image(name).expect("needed above");
        let reference = registry.push_layout(&layout, name, "1");
        compare_with_umoci(&world, &reference, &reference, &[""]);
        world.set("R", &reference);
        world.set("NEW", &registry.reference(&format!("{name}:2")));
        let script = "oci-pull $R | oci-unpack | oci-mount --rm | oci-spawn --pass -- sh -c 'echo more >/more' \
                      | oci-commit --layer --tag $NEW | oci-push";
        let pushed = world.bash(script).ok().line();
        assert_eq!(pushed["digest"], testkit::digest(&registry.manifest(name, "2").expect("it was pushed")));
        let tree = umoci_tree(&world, &registry.reference(&format!("{name}:2")), "result");
        assert_eq!(std::fs::read_to_string(tree.join("more")).expect("the new file"), "more\n");
        world.assert_nothing_left();
    }
}

/// The stack once more without zstd, which umoci does not know.
fn in_gzip(hub: &Hub) -> String {
    let twin = fixtures::stack_in_gzip().write(&hub.world.path("twin"), "1");
    assert_eq!(twin.diff_ids, hub.image.diff_ids);
    hub.registry.push(&twin, "test/gzip", "1")
}

#[test]
fn six_layers_with_every_mark_equal_umocis_unpack() {
    needs!(
        Root,
        Overlay,
        Program("docker-registry"),
        Program("skopeo"),
        Program("umoci"),
        Program("busybox")
    );
    let hub = Hub::of(&fixtures::stack());
    // umoci gives /opt the time of the unpacking; ours keeps the time of the layer that names it
    let implied = ["", "opt", "opt/made", "opt/made/of", "srv", "srv/also"];
    compare_with_umoci(&hub.world, &hub.reference, &in_gzip(&hub), &implied);
    let flat = tree::read(&hub.world.path("flat"));
    assert_eq!(flat[Path::new("opt")].mtime, (1_050_000_000, 0));
    assert_eq!(flat[Path::new("var/nanoseconds")].mtime, (1_234_567_890, 123_456_789));
    assert_eq!(flat[Path::new("usr/bin/setuid")].mode, 0o4755);
    assert_eq!(flat[Path::new("usr/bin/ping")].xattrs["security.capability"], testkit::tar::CAP_NET_RAW);
    assert_eq!(flat[Path::new("new/two")].link.as_deref(), Some(Path::new("new/one")));
}

#[test]
fn six_layers_survive_a_step_a_flattening_commit_and_a_push() {
    needs!(
        Root,
        Overlay,
        Program("docker-registry"),
        Program("skopeo"),
        Program("umoci"),
        Program("busybox")
    );
    let hub = Hub::of(&fixtures::stack());
    let script = "oci-pull $R | oci-unpack | oci-mount --rm | oci-spawn --pass -- true \
                  | oci-commit --tag $REGISTRY/flat:1 | oci-push";
    hub.world.bash(script).ok();
    let wanted = umoci_tree(&hub.world, &in_gzip(&hub), "before");
    let found = umoci_tree(&hub.world, &hub.registry.reference("flat:1"), "after");
    let implied = ["", "etc", "opt", "opt/made", "opt/made/of", "srv", "srv/also"];
    tree::assert_same(&wanted, &found, &Ignore::nothing().mtimes(&implied));
    hub.world.assert_nothing_left();
}

#[test]
fn an_image_made_by_umoci_equals_its_own_unpack() {
    needs!(
        Root,
        Overlay,
        Program("docker-registry"),
        Program("skopeo"),
        Program("umoci"),
        Program("busybox")
    );
    let hub = Hub::of(&fixtures::busybox());
    let script = "set -e; umoci init --layout u; umoci new --image u:it
        for step in 1 2 3 4 5; do
            umoci unpack --image u:it b$step >/dev/null
            cd b$step/rootfs
            case $step in
                1) mkdir -p a/b; echo 1 >a/b/f; echo 2 >a/g; chmod 4755 a/g; chown 3:4 a/b ;;
                2) ln a/g a/h; ln -s /a/g s; setfattr -n user.k -v v a/b/f ;;
                3) rm a/h; mkdir opaque; echo x >opaque/x ;;
                4) rm -r opaque; mkdir opaque; echo y >opaque/y; cp a/g cap; setcap cap_net_raw+ep cap ;;
                5) rm -r a/b; mknod null c 1 3; touch -d '2001-02-03 04:05:06.789 UTC' cap ;;
            esac
            cd ../..
            umoci repack --image u:it b$step >/dev/null
        done";
    hub.world.sh(script).ok();
    let reference = hub.registry.push_layout(&hub.world.path("u"), "by/umoci", "1");
    compare_with_umoci(&hub.world, &reference, &reference, &[""]);
}

#[test]
fn cat_prints_the_file_and_nothing_else_and_leaves_no_container() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let outcome =
        hub.world.sh("oci-pull $R | oci-unpack | oci-mount --rm | oci-spawn -- cat /etc/os-release").ok();
    assert_eq!(outcome.text(), fixtures::OS_RELEASE);
    hub.world.assert_nothing_left();
}

#[test]
fn the_exit_status_is_the_commands_own() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let cases = [
        ("sh -c 'exit 7'", 7),
        ("sh -c 'kill -KILL $$; exit 3'", 3), // PID 1 cannot kill itself
        ("no-such-command", 127),
        ("/etc/os-release", 126),
        ("true", 0),
    ];
    for (command, code) in cases {
        let script = format!("oci-pull $R | oci-unpack | oci-mount --rm | oci-spawn -- {command}");
        let outcome = hub.world.sh(&script);
        assert_eq!(outcome.code, code, "{outcome}");
        assert!(outcome.stdout.is_empty(), "{outcome}");
        hub.world.assert_nothing_left();
    }
}

#[test]
fn a_container_killed_with_sigkill_ends_with_137() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let script = "oci-pull $R | oci-unpack | oci-mount --rm | oci-spawn -- sh -c 'echo up; exec sleep 4242' &
        job=$!
        for try in $(seq 200); do
            pid=$(ps -eo pid,args | sed -n 's/^ *\\([0-9]*\\) sleep 4242$/\\1/p' | head -1)
            [ -n \"$pid\" ] && break; sleep 0.05
        done
        kill -KILL $pid; wait $job; echo \"status $?\"";
    let text = hub.world.sh(script).ok().text();
    assert!(text.ends_with("status 137\n"), "{text}");
    hub.world.assert_nothing_left();
}

/// A server with a "package" and, for the proxy, the name that only the proxy knows.
fn package_server() -> Server {
    Server::start(|request| match request.target.as_str() {
        "/make" => Response::ok("text/plain", "#!/bin/sh\nsed -n 's/^\\t//p' Makefile | sh -ex\n"),
        _ => Response::status(404),
    })
}

#[test]
fn the_first_pipeline_of_the_readme_works_twice_in_a_row() {
    needs!(
        Root,
        Overlay,
        Program("docker-registry"),
        Program("skopeo"),
        Program("umoci"),
        Program("busybox")
    );
    let mut hub = Hub::busybox();
    let server = package_server();
    hub.world.set("PORT", &server.port().to_string());
    std::fs::create_dir(hub.world.path("src")).expect("a source folder");
    let makefile = "install:\n\tmkdir -p /usr/local/bin\n\tcp app /usr/local/bin/app\n";
    std::fs::write(hub.world.path("src/Makefile"), makefile).expect("a file");
    std::fs::write(hub.world.path("src/app"), "#!/bin/sh\necho the app\n").expect("a file");
    let script = "oci-pull $R | oci-unpack | oci-mount --rm --net host \
          | oci-cp ./src :/src \
          | oci-spawn --pass -- sh -ec \"wget -q -O /usr/bin/make http://localhost:$PORT/make; chmod +x /usr/bin/make\" \
          | oci-spawn --pass -w /src -- make install \
          | oci-commit --layer --tag app:1 | oci-push $REGISTRY/app:1";
    for round in 1..=2 {
        let line = hub.world.sh(script).ok().line();
        let manifest = hub.registry.manifest("app", "1").expect("it was pushed");
        assert_eq!(line["digest"], testkit::digest(&manifest), "round {round}");
        hub.world.assert_nothing_left();
    }
    assert_eq!(server.seen().len(), 2);
    check_result(&hub);
}

/// skopeo and umoci read the pushed app:1.
fn check_result(hub: &Hub) {
    let reference = hub.registry.reference("app:1");
    let shown =
        hub.world.sh(&format!("skopeo inspect --config --tls-verify=false docker://{reference}")).ok();
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).expect("skopeo prints JSON");
    assert_eq!(shown["config"]["Cmd"][0], "sh");
    let ids = diff_ids(&shown);
    assert_eq!(ids.len(), 2, "the base's layer and one more: {shown}");
    assert_eq!(ids[0], hub.image.diff_ids[0]);
    let tree = umoci_tree(&hub.world, &reference, "result");
    assert!(tree.join("usr/local/bin/app").exists() && tree.join("usr/bin/make").exists());
    let ours = hub.world.name("ours");
    hub.world.stages(&["oci-pull", &reference], &[&["oci-unpack", "--to", &ours]]).ok();
    tree::assert_same(&tree, Path::new(&ours), &Ignore::nothing().mtimes(&[""]));
}

#[test]
fn a_step_fetches_by_a_host_name_that_only_the_hosts_file_knows() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"), Program("unshare"));
    let mut hub = Hub::busybox();
    let server = package_server();
    hub.world.set("PORT", &server.port().to_string());
    std::fs::write(hub.world.path("hosts"), "127.0.0.1 localhost\n127.0.0.1 files.example.test\n")
        .expect("a file");
    let script = "mount --bind hosts /etc/hosts && oci-pull $R | oci-unpack | oci-mount --rm --net host \
                  | oci-spawn -- wget -q -O - http://files.example.test:$PORT/make";
    let mut command = hub.world.command("unshare");
    command.args(["-m", "sh", "-c", script]);
    let outcome = hub.world.run(command, None).ok();
    assert!(outcome.text().starts_with("#!/bin/sh"), "{outcome}");
    hub.world.assert_nothing_left();
}

#[test]
fn a_step_fetches_through_the_callers_proxy_which_is_not_recorded() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let mut hub = Hub::busybox();
    let server = package_server();
    let proxy = Server::proxy(vec![("files.example.test".into(), server.socket())]);
    let line = hub.container(&["--name", "proxied", "--net", "host"]);
    hub.world.set("http_proxy", &format!("http://user:hidden@{}", proxy.address()));
    let fetch = "wget -q -O /fetched http://files.example.test/make";
    hub.step(&line, fetch);
    assert_eq!(server.seen().len(), 1);
    assert_eq!(proxy.seen().len(), 1);
    let without = ["--pass", "--no-http-proxy", "--", "sh", "-c", fetch];
    let outcome = hub.world.feed("oci-spawn", &without, &line.stdout);
    assert_ne!(outcome.code, 0, "without the proxy the name is unknown: {outcome}");
    let kept = hub.world.sh(&format!("grep -rlF user:hidden {}", hub.world.store().display()));
    assert_eq!(kept.text(), "", "the proxy's password is on disk");
    let image = hub.world.feed("oci-commit", &["--layer", "--inherit", "--tag", "x:1"], &line.stdout).ok();
    let text = config(&hub.world.store(), &image.member("digest")).to_string();
    assert!(!text.contains("proxy"), "{text}");
}

#[test]
fn every_line_between_the_stages_satisfies_its_schema() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let script = "oci-pull $R | tee 1 | oci-unpack | tee 2 | oci-mount --rm | tee 3 | oci-cp ./1 :/one | tee 4 \
        | oci-spawn --pass -- true | tee 5 | oci-commit --layer --tag $REGISTRY/out:1 | tee 6 | oci-push | tee 7";
    hub.world.sh(script).ok();
    let kinds = ["manifest", "rootfs", "container", "container", "container", "manifest", "manifest"];
    for (number, kind) in (1..).zip(kinds) {
        let bytes = std::fs::read(hub.world.path(&number.to_string())).expect("tee wrote it");
        let line = testkit::schema::validated(bytes.strip_suffix(b"\n").expect("a line ends"));
        assert!(line["mediaType"].as_str().is_some_and(|text| text.contains(kind)), "{number}: {line}");
    }
    let first = std::fs::read_to_string(hub.world.path("1")).expect("tee wrote it");
    assert!(first.contains(&hub.image.manifest), "{first}");
}

#[test]
fn wait_and_end_of_file_both_mean_complete() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::of(&fixtures::stack());
    let line = hub.world.tool("oci-pull", &["--wait", &hub.reference]).ok().line();
    assert_eq!(line["complete"], true);
    for digest in hub.image.layers.iter().chain([&hub.image.manifest, &hub.image.config]) {
        assert!(testkit::image::blob(&hub.world.store(), digest).exists(), "{digest}");
    }
    hub.world.tool("oci-pull", &[&hub.reference]).ok();
    for digest in &hub.image.layers {
        assert_eq!(hub.registry.downloads(digest), 1, "a blob that is present is not fetched again");
    }
}
