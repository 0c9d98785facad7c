//! Any stage can be swapped for another tool.

use ocipipe_tests::Hub;
use testkit::{fixtures, needs};

#[test]
fn skopeo_copy_stands_in_for_oci_pull() {
    needs!(Root, Overlay, Program("docker-registry"), Program("skopeo"), Program("jq"), Program("busybox"));
    let hub = Hub::busybox();
    // the store is made by the first tool that opens it
    hub.world.tool("oci-inspect", &["images"]).ok();
    let script = "skopeo copy -q --src-tls-verify=false docker://$R oci:$OCIPIPE_STORE:mine >&2 \
        && oci-inspect mine | oci-unpack | oci-mount --rm | oci-spawn -- cat /etc/os-release";
    assert_eq!(hub.world.sh(script).ok().text(), fixtures::OS_RELEASE);
    hub.world.assert_nothing_left();
    hub.world.assert_store_is_sound();
}

#[test]
fn skopeo_copy_stands_in_for_oci_push() {
    needs!(Root, Overlay, Program("docker-registry"), Program("skopeo"), Program("jq"), Program("busybox"));
    let hub = Hub::busybox();
    let script = "oci-pull $R | oci-unpack | oci-mount --rm | oci-spawn --pass -- touch /new \
        | oci-commit --layer --tag app:1 >line && jq -r .reference line \
        && skopeo copy -q --preserve-digests --dest-tls-verify=false \
            oci:$OCIPIPE_STORE:$(jq -r .reference line) docker://$REGISTRY/app:1 >&2 && jq -r .digest line";
    let text = hub.world.bash(script).ok().text();
    let pushed = hub.registry.manifest("app", "1").expect("skopeo pushed it");
    assert_eq!(text.lines().last(), Some(testkit::digest(&pushed).as_str()));
}

#[test]
fn runc_runs_the_bundle() {
    needs!(Root, Overlay, Program("docker-registry"), Program("runc"), Program("jq"), Program("busybox"));
    let hub = Hub::busybox();
    let line = hub.container(&["--name", "swap", "--", "cat", "/etc/os-release"]);
    std::fs::write(hub.world.path("line"), &line.stdout).expect("a file");
    let script = "runc --root $PWD/runc run -b $(jq -r .bundle line) ocipipe-swap-$$";
    assert_eq!(hub.world.sh(script).ok().text(), fixtures::OS_RELEASE);
    hub.world.tool("oci-mount", &["--remove", "swap"]).ok();
    hub.world.assert_nothing_left();
}

#[test]
fn crun_runs_the_bundle() {
    needs!(Root, Overlay, Program("docker-registry"), Program("crun"), Program("jq"), Program("busybox"));
    let hub = Hub::busybox();
    let line = hub.container(&["--name", "swap", "--", "cat", "/etc/os-release"]);
    std::fs::write(hub.world.path("line"), &line.stdout).expect("a file");
    // crun 1.8 refuses hybrid cgroups, so it is shown the unified hierarchy alone
    let script = "mount -t cgroup2 none /sys/fs/cgroup \
        && crun --root $PWD/crun run -b $(jq -r .bundle line) ocipipe-swap-$$";
    let mut command = hub.world.command("unshare");
    command.args(["-m", "sh", "-c", script]);
    assert_eq!(hub.world.run(command, None).ok().text(), fixtures::OS_RELEASE);
    hub.world.tool("oci-mount", &["--remove", "swap"]).ok();
    hub.world.assert_nothing_left();
}

#[test]
fn umoci_reads_the_store_as_it_stands() {
    needs!(Root, Overlay, Program("docker-registry"), Program("umoci"), Program("busybox"));
    let hub = Hub::busybox();
    hub.world.tool("oci-pull", &[&hub.reference]).ok();
    let text = hub.world.sh("umoci list --layout $OCIPIPE_STORE").ok().text();
    assert!(text.contains(&hub.reference), "{text}");
}

#[test]
fn an_image_layout_of_another_tool_is_a_source() {
    needs!(Root, Overlay, Program("busybox"), Program("docker-registry"));
    let hub = Hub::busybox();
    let source = format!("oci:{}:1", hub.image.layout.display());
    let text = hub.world.stages(
        &["oci-pull", &source],
        &[&["oci-unpack"], &["oci-mount", "--rm"], &["oci-spawn", "--", "cat", "/etc/os-release"]],
    );
    assert_eq!(text.ok().text(), fixtures::OS_RELEASE);
    assert_eq!(hub.registry.downloads(&hub.image.layers[0]), 0);
}
