//! Hostile and broken input: the exit status of docs/lines.md, nothing published, nothing outside touched.

use ocipipe_tests::Hub;
use serde_json::json;
use testkit::http::Response;
use testkit::serve::serve;
use testkit::tar::{self, Member};
use testkit::{Canary, Image, Outcome, Packing, World, Written, image, needs};

fn simple() -> Image {
    let noise: Vec<u8> = (0u32..60_000).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    Image::new().layer(tar::archive(&[tar::file("data", noise)]), Packing::Gzip)
}

/// No layer tree is visible under its final name.
fn assert_no_layer(world: &World) {
    for form in std::fs::read_dir(world.store().join("layers")).into_iter().flatten().flatten() {
        let published = form.path().join("sha256");
        let names: Vec<_> = std::fs::read_dir(published).into_iter().flatten().flatten().collect();
        assert!(names.is_empty(), "published: {names:?}");
    }
}

/// No blob is visible under this digest.
fn assert_no_blob(world: &World, digest: &str) {
    assert!(!image::blob(&world.store(), digest).exists(), "{digest} is visible");
}

#[test]
fn an_unknown_tag_is_not_found_and_a_refused_connection_is_the_network() {
    needs!(Root, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    for name in ["test/image:unknown", "test/unknown:1", &format!("test/image@{}", testkit::digest(b"no"))] {
        hub.world.tool("oci-pull", &[&hub.registry.reference(name)]).fails(3).error_line();
    }
    hub.world.tool("oci-pull", &["127.0.0.1:1/x:1"]).fails(5).error_line();
    for bad in ["library/UPPER:1", "", "a:b:c", "x@sha256:12", "name:tag with blank", "../../etc"] {
        hub.world.tool("oci-pull", &[bad]).fails(2);
    }
    hub.world.assert_store_is_sound();
}

#[test]
fn a_login_is_refused_without_credentials_and_given_with_them() {
    needs!(Root, Program("docker-registry"));
    let world = World::new();
    let registry = testkit::Registry::with_login();
    let image = simple().write(&world.path("layout"), "1");
    let reference = registry.push(&image, "closed/image", "1");
    world.tool("oci-pull", &[&reference]).fails(4).error_line();
    world.tool("oci-pull", &["--creds", "tester:wrong", &reference]).fails(4);
    let creds = format!("{}:{}", testkit::registry::LOGIN.0, testkit::registry::LOGIN.1);
    let line = world.tool("oci-pull", &["--creds", &creds, &reference]).ok();
    assert!(!line.text().contains("s3cret"), "{line}");
    let kept = world.sh("grep -rlF s3cret $OCIPIPE_STORE");
    assert_eq!(kept.text(), "", "the password is on disk");
}

#[test]
fn a_blob_with_one_bit_flipped_is_refused_and_never_visible() {
    needs!(Root, Program("docker-registry"));
    let hub = Hub::of(&simple());
    let digest = &hub.image.layers[0];
    let file = hub.registry.blob_file(digest);
    let good = std::fs::read(&file).expect("the registry keeps the blob");
    for at in [0, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&file, bad).expect("the registry's file can be changed");
        let outcome = hub.world.tool("oci-pull", &[&hub.reference]).fails(6);
        assert!(outcome.stderr.contains(digest.as_str()), "the blob is named: {outcome}");
        assert_no_blob(&hub.world, digest);
        let outcome = hub.world.bash("oci-pull $R | oci-unpack");
        assert_eq!(outcome.code, 6, "{outcome}");
        assert_no_layer(&hub.world);
    }
    std::fs::write(&file, good).expect("the registry's file can be healed");
    hub.world.bash("oci-pull $R | oci-unpack").ok();
    hub.world.assert_store_is_sound();
}

#[test]
fn short_and_long_blobs_are_refused() {
    needs!(Root);
    let world = World::new();
    let image = simple().write(&world.path("layout"), "1");
    let blob = image.layers[0].clone();
    let good = std::fs::read(image::blob(&image.layout, &blob)).expect("written above");
    let short = good[..good.len() - 1].to_vec();
    let long = [good.as_slice(), b"x"].concat();
    for (bytes, code) in [(short, [5, 6]), (long, [6, 6])] {
        let server = serve(&image, answer_blob(&blob, bytes));
        let outcome = world.tool("oci-pull", &["--plain-http", &format!("{}/x:1", server.address())]);
        assert!(code.contains(&outcome.code), "{outcome}");
        assert_no_blob(&world, &blob);
    }
    world.assert_store_is_sound();
}

fn answer_blob(digest: &str, bytes: Vec<u8>) -> impl Fn(&testkit::http::Request) -> Option<Response> + use<> {
    let digest = digest.to_owned();
    move |request| {
        request.target.ends_with(&digest).then(|| Response::ok("application/octet-stream", bytes.clone()))
    }
}

#[test]
fn a_manifest_by_digest_that_is_another_one_is_refused() {
    needs!(Root);
    let world = World::new();
    let image = simple().write(&world.path("layout"), "1");
    let other = Image::new().write(&world.path("layout"), "2");
    let wanted = image.manifest.clone();
    let bytes = std::fs::read(image::blob(&image.layout, &other.manifest)).expect("written above");
    let server = serve(&image, move |request| {
        let lie = Response::ok(image::MANIFEST, bytes.clone()).with("docker-content-digest", &wanted);
        request.target.contains("/manifests/").then_some(lie)
    });
    let reference = format!("{}/x@{}", server.address(), image.manifest);
    world.tool("oci-pull", &["--plain-http", &reference]).fails(6).error_line();
    assert_no_blob(&world, &image.manifest);
}

#[test]
fn a_wrong_diff_id_is_refused_before_anything_is_published() {
    needs!(Root, Program("docker-registry"));
    let right = tar::archive(&[tar::file("a", "b")]);
    for lie in [vec![testkit::digest(b"x")], vec![], vec![testkit::digest(&right), testkit::digest(b"x")]] {
        let hub = Hub::of(&Image::new().layer(right.clone(), Packing::Gzip).diff_ids(lie));
        let outcome = hub.world.bash("oci-pull $R | oci-unpack");
        assert_eq!(outcome.code, 6, "{outcome}");
        assert_no_layer(&hub.world);
        hub.world.assert_store_is_sound();
    }
}

#[test]
fn documents_beyond_four_mebibytes_or_without_sense_are_refused() {
    needs!(Root);
    let big = |manifest: &mut serde_json::Value| {
        manifest["annotations"] = json!({"big": "x".repeat(5 << 20)});
    };
    let both = |manifest: &mut serde_json::Value| manifest["manifests"] = json!([]);
    let escape = |manifest: &mut serde_json::Value| {
        manifest["layers"][0]["digest"] = json!("sha256:../../../../canary/f");
    };
    let upper = |manifest: &mut serde_json::Value| {
        let digest = manifest["layers"][0]["digest"].as_str().unwrap_or_default().to_uppercase();
        manifest["layers"][0]["digest"] = json!(digest);
    };
    let negative = |manifest: &mut serde_json::Value| manifest["layers"][0]["size"] = json!(-1);
    let images = [
        simple().edit_manifest(big),
        simple().edit_manifest(both),
        simple().edit_manifest(escape),
        simple().edit_manifest(upper),
        simple().edit_manifest(negative),
        simple().raw_config(b"this is no JSON"),
        simple().raw_config(b"{\"rootfs\":[]}"),
        simple().raw_config(b""),
    ];
    for image in images {
        let world = World::new();
        let written = image.write(&world.path("layout"), "1");
        let server = serve(&written, |_| None);
        refused_by_pull_or_unpack(&world, &format!("{}/x:1", server.address()));
        let layout = format!("oci:{}:1", written.layout.display());
        refused_by_pull_or_unpack(&world, &layout);
    }
}

/// The content is wrong (6), and nothing of it can be had.
fn refused_by_pull_or_unpack(world: &World, reference: &str) {
    let outcome = world.bash(&format!("oci-pull --plain-http {reference} | oci-unpack"));
    assert_eq!(outcome.code, 6, "{outcome}");
    assert_no_layer(world);
    let known = world.tool("oci-inspect", &[reference]);
    assert_ne!(known.code, 0, "the reference was given to refused content: {known}");
    world.assert_store_is_sound();
}

#[test]
fn a_duplicate_member_or_a_twin_in_other_case_is_refused() {
    needs!(Root);
    for twin in ["\"layers\":[],", "\"Layers\":[],"] {
        let world = World::new();
        let image = simple().write(&world.path("layout"), "1");
        let good =
            std::fs::read_to_string(image::blob(&image.layout, &image.manifest)).expect("written above");
        let bad = good.replacen('{', &format!("{{{twin}"), 1);
        let server = serve(&image, move |request| {
            request.target.contains("/manifests/").then(|| Response::ok(image::MANIFEST, bad.clone()))
        });
        refused_by_pull_or_unpack(&world, &format!("{}/x:1", server.address()));
    }
}

/// Unpacks layers that attack; the canary must live whatever comes out.
fn attack(canary: &Canary, layers: &[Vec<Member>]) -> (World, Outcome) {
    let world = World::new();
    let image =
        layers.iter().fold(Image::new(), |image, members| image.layer(tar::archive(members), Packing::Gzip));
    let written: Written = image.write(&world.path("layout"), "1");
    let source = format!("oci:{}:1", written.layout.display());
    let line = world.tool("oci-pull", &[&source]).ok();
    let outcome = world.feed("oci-unpack", &[], &line.stdout);
    canary.assert_alive();
    let flat = world.feed("oci-unpack", &["--to", &world.name("flat")], &line.stdout);
    canary.assert_alive();
    assert!(outcome.code != 0 || outcome.line()["layers"] == layers.len(), "{outcome}");
    assert_eq!(flat.code, outcome.code, "both forms agree: {outcome}\n{flat}");
    (world, outcome)
}

#[test]
fn members_that_leave_the_layer_are_refused() {
    needs!(Root);
    let outside = tempfile::tempdir().expect("a temporary directory");
    let canary = Canary::plant(&outside.path().join("canary"));
    let up = format!("../../../../../../../..{}", canary.path().display());
    let plain = |member: Member| vec![member];
    let cases = [
        plain(tar::file("../x", "")),
        plain(tar::file("a/../../x", "")),
        plain(tar::file(format!("{up}/new"), "")),
        plain(tar::file("x", "").pax("path", format!("{up}/new"))),
        plain(tar::file("new", "").prefix(up.as_bytes())),
        plain(tar::hardlink("h", format!("{up}/f"))),
        plain(tar::hardlink("h", canary.path().join("f").display().to_string())),
        plain(tar::hardlink("h", "f")),
        plain(tar::hardlink("h", "later")),
        plain(tar::char_device("c", 1 << 40, 3)),
        plain(tar::char_device("c", 1, 1 << 32)),
        plain(tar::symlink("./", canary.path().display().to_string())),
        plain(tar::symlink("a/..", canary.path().display().to_string())),
        plain(tar::file("x", "").owner(u64::from(u32::MAX), 0)),
        plain(tar::file("n".repeat(256), "")),
        plain(tar::file("", "")),
        plain(tar::file(".wh...", "")),
        plain(tar::file("x", "short").claimed_size(1 << 40)),
    ];
    for members in cases {
        let shown = format!("{:?}", members[0]);
        let (world, outcome) = attack(&canary, &[members]);
        assert_eq!(outcome.code, 6, "{shown}: {outcome}");
        assert_no_layer(&world);
        world.assert_store_is_sound();
    }
}

#[test]
fn writes_through_links_land_inside_or_are_refused() {
    needs!(Root);
    let outside = tempfile::tempdir().expect("a temporary directory");
    let canary = Canary::plant(&outside.path().join("canary"));
    let away = canary.path().display().to_string();
    let file = format!("{away}/f");
    let up = format!("../../../../../../../..{away}");
    let cases: Vec<Vec<Vec<Member>>> = vec![
        vec![vec![tar::symlink("esc", &away), tar::file("esc/p", "x")]],
        vec![vec![tar::symlink("d1", "d2"), tar::symlink("d2", &up), tar::file("d1/p", "x")]],
        vec![vec![tar::symlink("x", &file), tar::file("x", "overwritten")]],
        vec![vec![tar::symlink("s", ".."), tar::dir("s/e"), tar::dir("s/e/f"), tar::dir("s/e/f/g")]],
        vec![vec![tar::symlink("d", format!("{away}/dir")), tar::dir("d").mode(0o777)]],
        vec![vec![tar::symlink("s", &away), tar::hardlink("h", "s/f")]],
        vec![vec![tar::symlink("f", &file), tar::hardlink("g", "f").mode(0o6777)]],
        vec![vec![tar::symlink("f", &file).xattr("user.k", "v")]],
        vec![vec![tar::symlink("s", &away), tar::file("s/.wh.f", "")]],
        vec![
            vec![tar::symlink("esc", &away)],
            vec![tar::file("esc/p", "x"), tar::file("esc/dir/.wh.inner", "")],
        ],
        vec![
            vec![tar::symlink("esc", &away)],
            vec![tar::dir("esc/dir").mode(0o777), tar::file("esc/f", "x")],
        ],
        vec![vec![tar::hardlink("h", "f"), tar::file("h", "x")]],
        vec![vec![
            tar::file("d/.wh..wh..opq", ""),
            tar::symlink("d", &away),
            tar::file("d/.wh..wh..opq", ""),
        ]],
        vec![vec![tar::dir("r").xattr("trusted.overlay.redirect", &away), tar::dir("m")]],
        vec![vec![tar::dir("r").xattr("user.overlay.redirect", &away).xattr("user.overlay.opaque", "y")]],
    ];
    for layers in cases {
        let (world, outcome) = attack(&canary, &layers);
        assert!(matches!(outcome.code, 0 | 6 | 7), "{layers:?}: {outcome}");
        if outcome.code == 0 {
            let container = world.feed("oci-mount", &[], &outcome.stdout);
            canary.assert_alive();
            world.feed("oci-mount", &["--remove"], &container.stdout);
            canary.assert_alive();
        }
        world.assert_store_is_sound();
    }
}

#[test]
fn a_legal_link_to_a_parent_is_followed_inside() {
    needs!(Root);
    let outside = tempfile::tempdir().expect("a temporary directory");
    let canary = Canary::plant(&outside.path().join("canary"));
    let members =
        vec![tar::dir("usr"), tar::dir("usr/lib"), tar::symlink("lib", "usr/lib"), tar::file("lib/a", "x")];
    let (world, outcome) = attack(&canary, &[members]);
    outcome.ok();
    assert_eq!(std::fs::read_to_string(world.path("flat/usr/lib/a")).expect("it landed there"), "x");
    assert!(std::fs::symlink_metadata(world.path("flat/lib")).expect("it is kept").is_symlink());
}

#[test]
fn broken_compression_and_broken_archives_are_refused() {
    needs!(Root);
    let good = tar::archive(&[tar::file("a", vec![7; 3000]), tar::file("b", "end")]);
    let mut flipped = good.clone();
    flipped[20] ^= 1; // in the first header: its checksum is wrong
    for (archive, name) in
        [(flipped, "checksum"), (good[..2000].to_vec(), "cut"), (b"no tar".to_vec(), "text")]
    {
        let world = World::new();
        let written = Image::new().layer(archive, Packing::Gzip).write(&world.path("layout"), "1");
        let outcome = world.bash(&format!("oci-pull oci:{}:1 | oci-unpack", written.layout.display()));
        assert_eq!(outcome.code, 6, "{name}: {outcome}");
        assert_no_layer(&world);
    }
}

#[test]
fn lines_that_are_none_of_the_wanted_kind_are_refused() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let image = hub.world.tool("oci-pull", &[&hub.reference]).ok();
    let container = hub.container(&["--name", "c"]);
    let world = &hub.world;
    world.feed("oci-unpack", &[], &container.stdout).fails(2).error_line();
    world.feed("oci-mount", &[], &image.stdout).fails(2).error_line();
    world.feed("oci-commit", &[], &image.stdout).fails(2).error_line();
    world.feed("oci-push", &["127.0.0.1:1/x"], &container.stdout).fails(2).error_line();
    world.feed("oci-cp", &["/etc/hostname", ":/x"], &image.stdout).fails(2).error_line();
    world.feed("oci-spawn", &["--pass", "--", "true"], &image.stdout).fails(2);
    // a container's output in place of a line: the stage before lacks --pass
    let outcome = world.feed("oci-commit", &[], b"Linux inside 6.1\n").fails(2).says("--pass");
    outcome.error_line();
    let endless = vec![b'{'; 1 << 20];
    for garbage in [b"{}\n".as_slice(), b"[]\n", b"\0\n", b"{\"mediaType\":1}\n", &endless] {
        world.feed("oci-commit", &[], garbage).fails(2);
    }
    assert_eq!(world.containers(), ["c"]);
}

#[test]
fn a_forged_line_with_foreign_paths_reaches_nothing() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let canary = Canary::plant(&hub.world.path("canary"));
    let line = hub.container(&["--name", "c"]).line();
    let away = canary.path().display().to_string();
    let forge = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut forged = line.clone();
        change(&mut forged);
        format!("{forged}\n").into_bytes()
    };
    let spawn = |bytes: &[u8]| hub.world.feed("oci-spawn", &["--", "ls", "/bin/busybox"], bytes);
    let foreign = forge(&|forged| forged["store"] = json!(away));
    assert!(matches!(spawn(&foreign).code, 9 | 125), "another store");
    hub.world.feed("oci-commit", &[], &foreign).fails(9);
    // paths are hints only: the store knows better
    let paths = forge(&|forged| {
        forged["bundle"] = json!(away);
        forged["rootfs"] = json!("/");
    });
    assert_eq!(spawn(&paths).ok().text(), "/bin/busybox\n");
    hub.world.feed("oci-cp", &["/etc/hostname", ":/forged"], &paths).ok();
    assert!(!std::path::Path::new("/forged").exists());
    for id in ["../../canary", "/", "..", "", "0123"] {
        let forged = forge(&|forged| {
            forged["id"] = json!(id);
            forged["digest"] = json!(format!("sha256:{id}"));
        });
        assert_ne!(spawn(&forged).code, 0, "{id}");
        assert_ne!(hub.world.feed("oci-mount", &["--remove"], &forged).code, 0, "{id}");
    }
    let stale = forge(&|forged| forged["instance"] = json!("0000000000000000"));
    assert_ne!(hub.world.feed("oci-mount", &["--remove"], &stale).code, 0, "another instance");
    canary.assert_alive();
    assert_eq!(hub.world.containers(), ["c"]);
}

#[test]
fn the_store_is_closed_to_other_users_whatever_the_umask() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    hub.world.sh("umask 000; oci-pull $R | oci-unpack | oci-mount >line").ok();
    let script = "import os,sys
os.setgid(65534); os.setuid(65534)
for path in sys.argv[1:]:
    try:
        os.listdir(path)
        print('open', path)
    except PermissionError:
        pass
";
    let bundle = hub.world.sh("jq -r .rootfs line").ok().text();
    let store = hub.world.store();
    let mut command = hub.world.command("python3");
    command.args(["-c", script, &store.display().to_string(), bundle.trim()]);
    std::fs::set_permissions(hub.world.dir(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("the way to the store is open");
    assert_eq!(hub.world.run(command, None).ok().text(), "");
}
