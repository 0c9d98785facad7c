//! oci-mount --rename: names alone change, at once, whatever the container does.

mod support;

use std::path::Path;

use serde_json::json;
use support::{Fixture, Image, busybox, privileged};

const MOUNT: &str = env!("CARGO_BIN_EXE_oci-mount");

fn small(fixture: &Fixture) -> String {
    fixture.image(&Image { config: json!({"Cmd": ["/bin/sh"]}), fill: &busybox })
}

#[test]
fn a_renamed_container_is_the_same_under_another_name_and_the_old_one_is_free() {
    if !privileged() {
        return;
    }
    let fixture = Fixture::new();
    let rootfs = small(&fixture);
    let web = fixture.run(MOUNT, &["--name", "web"], &rootfs).line();
    std::fs::write(Path::new(web["rootfs"].as_str().expect("path")).join("mine"), "x").expect("write");
    let mut state = fixture.store.container("web").expect("web").state().expect("state");
    let mut sleep = std::process::Command::new("sleep").arg("60").spawn().expect("spawn");
    state.set_running(sleep.id());
    fixture.store.container("web").expect("web").set_state(&state).expect("write");
    let short = &web["id"].as_str().expect("id")[..12];
    let db = fixture.run(MOUNT, &["--rename", "db", short], "").line();
    assert_eq!((&db["name"], &db["status"]), (&json!("db"), &json!("running")), "while it runs");
    for member in ["id", "instance", "digest", "bundle", "mounted"] {
        assert_eq!(db[member], web[member], "{member}");
    }
    let by_line = fixture.run(MOUNT, &["--rename", "cache"], &web.to_string()).line();
    assert_eq!(by_line["name"], "cache", "a line of before names the same container");
    assert_eq!(fixture.containers(), ["cache"]);
    // The name of before, and the very choices, make a second one.
    let second = fixture.run(MOUNT, &["--name", "web"], &rootfs).line();
    assert_ne!(second["id"], web["id"]);
    assert!(!Path::new(second["rootfs"].as_str().expect("path")).join("mine").exists());
    assert_eq!(fixture.containers(), ["cache", "web"]);
    sleep.kill().expect("kill");
    sleep.wait().expect("wait");
}

#[test]
fn what_cannot_be_renamed_says_why() {
    if !privileged() {
        return;
    }
    let fixture = Fixture::new();
    let rootfs = small(&fixture);
    let web = fixture.run(MOUNT, &["--name", "web"], &rootfs).line();
    fixture.run(MOUNT, &["--name", "db"], &rootfs).line();
    let refused = |args: &[&str], code: i32, said: &str| {
        let error = fixture.run(MOUNT, args, "").error(code);
        let text = format!("{} {}", error["what"], error["why"]);
        assert!(text.contains(said), "{args:?}: {text}");
    };
    refused(&["--rename", "db", "web"], 9, "is taken by container");
    refused(&["--rename", "web", "web"], 9, "is taken by container");
    refused(&["--rename", "new", "nosuch"], 3, "no container");
    refused(&["--rename", "a/b", "web"], 2, "is no name");
    refused(&["--rename", "stop", "web"], 2, "is a word of oci-spawn");
    refused(&["--rename", "new", "web", "db"], 2, "one container at a time");
    assert_eq!(fixture.containers(), ["db", "web"]);
    fixture.run(MOUNT, &["--remove", "web"], "");
    assert_eq!(fixture.run(MOUNT, &["--rename", "new"], &web.to_string()).code, 3);
    assert_eq!(fixture.run(MOUNT, &["--rename", "new"], "").code, 10, "nothing named, no line");
}
