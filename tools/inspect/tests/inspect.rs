//! The real binary on a store made for it.

mod support;

use std::path::Path;
use std::process::Command;

use descriptor::{Digest, Line, Status};
use support::fixture;

fn image_of(lines: &[Line]) -> &descriptor::ImageLine {
    match lines {
        [Line::Image(line)] => line,
        other => panic!("not one image line: {other:?}"),
    }
}

#[test]
fn an_image_is_found_by_each_of_its_names() {
    let f = fixture();
    let hex = f.image.digest.hex();
    let pinned = format!("app@{}", f.image.digest);
    let by_digest = image_of(&f.lines(&[&pinned], b"")).clone();
    assert_eq!(by_digest.descriptor.digest, f.image.digest);
    assert_eq!(by_digest.reference, Some(format!("docker.io/library/{pinned}")));
    for name in [
        "docker.io/library/app:1",
        "app:1",
        &f.image.digest.to_string(),
        &hex,
        &hex[..12],
        &format!("sha256:{}", &hex[..8]),
    ] {
        let lines = f.lines(&[name], b"");
        let line = image_of(&lines);
        assert_eq!(line.descriptor.digest, f.image.digest, "{name}");
        assert_eq!(line.store.as_deref(), Some(f.store.path()));
        assert!(line.complete, "{name}");
        assert_eq!(line.reference.as_deref(), Some("docker.io/library/app:1"));
    }
}

#[test]
fn a_line_comes_out_as_it_went_in() {
    let f = fixture();
    for name in ["app:1", "localhost/many:1", "web"] {
        let first = f.run(&[name], b"");
        let second = f.run(&[], &first.stdout);
        assert!(second.status.success());
        assert_eq!(String::from_utf8_lossy(&first.stdout), String::from_utf8_lossy(&second.stdout), "{name}");
    }
}

#[test]
fn raw_gives_the_exact_bytes() {
    let f = fixture();
    for (name, image) in [("app:1", &f.image), ("localhost/many:1", &f.index)] {
        assert_eq!(Digest::of(&f.run(&["--raw", name], b"").stdout), image.digest);
    }
    assert_eq!(f.run(&["--raw", "web"], b"").status.code(), Some(2));
}

#[test]
fn raw_is_for_images_and_no_line_of_another_kind() {
    let f = fixture();
    let image = f.store.image(&f.image.digest, None).expect("an image");
    let (digest, size) = descriptor::RootfsLine::identity(&image.diff_ids);
    let rootfs = serde_json::json!({"mediaType": descriptor::media::ROOTFS, "digest": digest, "size": size,
        "store": f.store.path(), "image": f.image.digest, "config": image.config_digest,
        "chainID": image.chain_id(), "layers": image.diff_ids.len()});
    let out = f.run(&["--raw"], format!("{rootfs}\n").as_bytes());
    assert_eq!(out.status.code(), Some(2), "{out:?}");
    assert_eq!(f.run(&["--raw", "web"], b"").status.code(), Some(2));
}

#[test]
fn an_index_fans_out_into_the_images_that_are_there() {
    let f = fixture();
    assert_eq!(image_of(&f.lines(&["localhost/many:1"], b"")).descriptor.digest, f.index.digest);
    let lines = f.lines(&["--manifests", "localhost/many:1"], b"");
    assert_eq!(image_of(&lines).descriptor.digest, f.image.digest);
    let lines = f.lines(&["--platform", "linux/amd64", "localhost/many:1"], b"");
    assert_eq!(image_of(&lines).descriptor.digest, f.image.digest);
    let out = f.run(&["--platform", "linux/s390x", "localhost/many:1"], b"");
    assert_eq!(out.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&out.stderr).contains("linux/amd64, linux/arm64"));
}

#[test]
fn a_layer_is_found_by_blob_and_by_diff_id() {
    let f = fixture();
    for name in [f.blob.to_string(), f.diff_id.to_string(), f.diff_id.hex()[..12].into()] {
        let layer = f.json(&[&name]);
        assert_eq!(layer["diffID"], f.diff_id.to_string());
        assert_eq!(layer["digest"], f.blob.to_string());
        assert!(Path::new(layer["tree"].as_str().expect("tree")).is_dir());
    }
    let full = f.json(&["--full", &f.diff_id.to_string()]);
    assert_eq!(full["unpacked"]["implied"][0], "usr");
}

#[test]
fn a_container_is_found_by_name_id_and_its_first_digits() {
    let f = fixture();
    let id = f.store.container("web").expect("web").id().to_string();
    for name in ["web", &id, &id[..12], &id[..4]] {
        let [Line::Container(line)] = &f.lines(&[name], b"")[..] else {
            panic!("no container line for {name}")
        };
        assert_eq!((line.id.as_str(), line.status, line.mounted), (&*id, Status::Created, false));
    }
    let full = f.json(&["--full", "web"]);
    assert_eq!(full["create"]["name"], "web");
    assert_eq!(full["state"]["status"], "created");
}

#[test]
fn a_status_that_is_no_longer_true_is_not_shown() {
    let f = fixture();
    let web = f.store.container("web").expect("web");
    let mut child = Command::new("sleep").arg("60").spawn().expect("spawn");
    let mut state = web.state().expect("state");
    state.set_running(child.id());
    web.set_state(&state).expect("write");
    let status = || match &f.lines(&["web"], b"")[..] {
        [Line::Container(line)] => line.status,
        other => panic!("{other:?}"),
    };
    assert_eq!(status(), Status::Running);
    child.kill().expect("kill");
    child.wait().expect("wait");
    assert_eq!(status(), Status::Stopped);
}

#[test]
fn what_is_not_there_is_exit_3_and_the_rest_is_shown() {
    let f = fixture();
    let out = f.run(&["app:1", "nothing", "web"], b"");
    assert_eq!(out.status.code(), Some(3));
    let kinds: Vec<bool> =
        out.stdout.split(|&b| b == b'\n').filter(|l| !l.is_empty()).map(|l| Line::parse(l).is_ok()).collect();
    assert_eq!(kinds, [true, true, true], "two things and an error line between them");
    for name in ["", "sha256:", "../..", "sha256:../../x", "ffffffffffff", "-", "a b"] {
        let out = f.run(&["--", name], b"");
        assert_eq!(out.status.code(), Some(3), "{name:?}: {}", String::from_utf8_lossy(&out.stderr));
    }
}

#[test]
fn lines_of_another_store_or_of_no_kind_are_refused() {
    let f = fixture();
    let line = String::from_utf8(f.run(&["app:1"], b"").stdout).expect("UTF-8");
    let here = f.store.path().display().to_string();
    let forged = line.replace(&here, "/etc");
    assert_eq!(f.run(&[], forged.as_bytes()).status.code(), Some(9));
    let container = String::from_utf8(f.run(&["web"], b"").stdout).expect("UTF-8");
    let forged = container.replace(&format!("{here}/containers"), "/etc");
    let out = f.run(&[], forged.as_bytes());
    assert_eq!(
        String::from_utf8_lossy(&out.stdout),
        container,
        "bundle and rootfs are hints and nothing else"
    );
    assert_eq!(f.run(&[], b"hello\n").status.code(), Some(2));
    assert_eq!(f.run(&[], b"").status.code(), Some(10));
}

#[test]
fn lists_are_lines_in_a_pipe_and_tables_on_a_terminal() {
    let f = fixture();
    assert_eq!(f.lines(&["images"], b"").len(), 2);
    assert_eq!(f.lines(&["containers"], b"").len(), 0, "none runs");
    assert_eq!(f.lines(&["containers", "-a"], b"").len(), 1);
    if Command::new("script").arg("--version").output().is_err() {
        testkit::skip("script(1) is not installed");
        return;
    }
    let images = f.on_a_terminal("images");
    assert!(images.starts_with("REPOSITORY ") && images.contains("app"), "{images}");
    let containers = f.on_a_terminal("containers -a");
    assert!(containers.contains("web") && containers.contains("app:1"), "{containers}");
    let report = f.on_a_terminal("app:1");
    assert!(report.contains("platform  linux/amd64") || report.contains("linux/amd64\n"), "{report}");
    assert!(!report.contains('{'), "{report}");
}

#[test]
fn the_check_is_silent_about_a_whole_store_and_names_what_is_wrong() {
    let f = fixture();
    let out = f.run(&["--check"], b"");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(out.stdout, b"");
    let path = f.dir.path().join("store/blobs/sha256").join(f.blob.hex());
    std::fs::write(&path, b"a compressed tbr").expect("damage");
    let out = f.run(&["--check"], b"");
    assert_eq!(out.status.code(), Some(6));
    assert!(String::from_utf8_lossy(&out.stdout).contains(&f.blob.hex()));
}
