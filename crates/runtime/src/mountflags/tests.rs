//! What the words of mounts mean.

use super::*;

fn made(kind: &str, source: Option<&str>, target: &str, read_only: bool, options: &[&str]) -> Mount {
    Mount {
        kind: kind.into(),
        source: source.map(String::from),
        target: target.into(),
        read_only,
        options: options.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn the_short_form_is_dockers() {
    for (text, want) in [
        ("/data", made("volume", None, "/data", false, &[])),
        ("db:/data//x/", made("volume", Some("db"), "/data/x", false, &[])),
        ("db:/data:ro,nocopy", made("volume", Some("db"), "/data", true, &["nocopy"])),
        ("/a:/b", made("bind", Some("/a"), "/b", false, &[])),
        ("/a:/b:ro,rslave", made("bind", Some("/a"), "/b", true, &["rslave"])),
        ("/a:/b:rprivate,cached", made("bind", Some("/a"), "/b", false, &[])),
    ] {
        assert_eq!(short(text), Ok(want), "{text}");
    }
    assert!(short("./x:/b").expect("relative").source.expect("a source").starts_with('/'));
    for text in [
        "",
        "/",
        "a",
        ":/b",
        "/a:b",
        "/a:/",
        "/a:/../b",
        "/a:/b:wo",
        "/a:/b:ro:rw",
        "/a:/b:nocopy",
        "-x:/b",
        "a b:/c",
    ] {
        short(text).expect_err(text);
    }
}

#[test]
fn the_long_form_is_dockers() {
    for (text, want) in [
        ("type=bind,source=/a,target=/b", made("bind", Some("/a"), "/b", false, &[])),
        ("type=bind,src=/a,dst=/b,readonly", made("bind", Some("/a"), "/b", true, &[])),
        ("type=bind,src=/a,destination=/b,ro=false", made("bind", Some("/a"), "/b", false, &[])),
        (
            "type=bind,src=/a,dst=/b,bind-propagation=rshared",
            made("bind", Some("/a"), "/b", false, &["rshared"]),
        ),
        ("type=bind,src=/a,dst=/b,bind-recursive=disabled", made("bind", Some("/a"), "/b", false, &["bind"])),
        ("type=bind,\"src=/a,b\",dst=/b", made("bind", Some("/a,b"), "/b", false, &[])),
        ("source=db,target=/b", made("volume", Some("db"), "/b", false, &[])),
        ("target=/b", made("volume", None, "/b", false, &[])),
        ("type=volume,src=db,dst=/b,volume-nocopy", made("volume", Some("db"), "/b", false, &["nocopy"])),
        (
            "type=volume,src=db,dst=/b,volume-subpath=x/y",
            made("volume", Some("db"), "/b", false, &["subpath=x/y"]),
        ),
        (
            "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=01777",
            made("tmpfs", None, "/t", false, &["mode=1777", "size=1048576"]),
        ),
        ("type=image,source=alpine,target=/i", made("image", Some("alpine"), "/i", true, &[])),
    ] {
        assert_eq!(long(text), Ok(want), "{text}");
    }
    for text in [
        "",
        "type=bind,src=/a",
        "type=bind,dst=/b",
        "type=tmpfs,src=/a,dst=/b",
        "type=npipe,src=/a,dst=/b",
        "type=bind,src=/a,dst=/b,volume-nocopy",
        "type=tmpfs,dst=/b,tmpfs-mode=9",
        "type=tmpfs,dst=/b,tmpfs-size=x",
        "type=bind,src=/a,dst=/b,readonly=maybe",
        "type=bind,src=/a,dst=/b,bind-propagation=x",
        "type=volume,src=db,dst=/b,volume-subpath=../x",
        "type=bind,src=/a,dst=/b,what=x",
        "type=bind,\"src=/a,dst=/b",
    ] {
        long(text).expect_err(text);
    }
}

#[test]
fn file_systems_in_memory_are_dockers() {
    let want = made("tmpfs", None, "/run", false, &["size=67108864"]);
    assert_eq!(tmpfs("/run:rw,noexec,nosuid,size=65536k"), Ok(want.clone()));
    assert_eq!(tmpfs("/run:size=64m"), Ok(want));
    assert_eq!(tmpfs("/run:ro,exec,mode=700"), Ok(made("tmpfs", None, "/run", true, &["exec", "mode=700"])));
    for text in ["", "run", "/run:bogus", "/run:size=", "/run:bind"] {
        tmpfs(text).expect_err(text);
    }
}

#[test]
fn a_file_system_in_memory_has_dockers_options_but_for_those_taken_back() {
    let options = |mount: &Mount| tmpfs_of(mount).options().clone().unwrap_or_default();
    let mut mount = made("tmpfs", None, "/t", false, &[]);
    assert_eq!(options(&mount), ["noexec", "nosuid", "nodev", "mode=1777"]);
    mount.options = vec!["exec".into(), "mode=700".into()];
    mount.read_only = true;
    assert_eq!(options(&mount), ["nosuid", "nodev", "exec", "mode=700", "ro"]);
}
