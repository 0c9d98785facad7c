//! oci-cp as a whole: docker cp's rules, owners, hostile trees, one-offs.

mod boxed;

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use boxed::support::{busybox, privileged};
use boxed::{Box, CP};
use serde_json::Value;
use store::CreateDoc;

#[test]
fn dockers_rules_hold_on_the_way_in() {
    if !privileged() {
        return;
    }
    let b = Box::new(CreateDoc::default());
    for (args, made) in [
        (&["@/file", ":/new"][..], &["new"][..]),
        (&["@/file", ":/tmp"], &["tmp/file"]),
        (&["@/file", ":/tmp/"], &["tmp/file"]),
        (&["@/file", ":/etc/passwd"], &["etc/passwd"]),
        (&["@/src", ":/fresh"], &["fresh/f", "fresh/sub/g"]),
        (&["@/src", ":/tmp"], &["tmp/src/f", "tmp/src/sub/g"]),
        (&["@/src/.", ":/var"], &["var/f", "var/sub/g"]),
        (&["@/src/.", ":/made"], &["made/f", "made/sub/g"]),
        (&["@/file", "@/src", ":/usr"], &["usr/file", "usr/src/sub/g"]),
        (&["@/file", ":relative"], &["relative"]),
    ] {
        let ran = b.cp(args);
        assert_eq!(ran.line(), serde_json::from_str::<Value>(&b.line()).expect("JSON"), "the line goes on");
        for path in made {
            let text = Path::new(path)
                .file_name()
                .and_then(|n| n.to_str())
                .map(|n| if n.len() == 1 { n } else { "file" });
            assert_eq!(Some(b.upper_text(path).as_str()), text, "{args:?}");
        }
    }
    for (args, code) in [
        (&["@/file", ":/no/such"][..], 3),
        (&["@/file", ":/no/"], 3),
        (&["@/missing", ":/x"], 3),
        (&["@/src", ":/etc/passwd"], 1),
        (&["@/file", "@/src", ":/absent"], 3),
        (&["@/file", ":/etc/passwd/"], 1),
        (&["@/file", "@/file"], 2),
        (&["-", ":/x"], 2),
        (&[":/etc", "-", ":/x"], 2),
        (&["-", "@/file", "box:/tmp"], 2),
        (&["--line", "@/file", "@/file", ":/x"], 2),
        (&[":/a", ":/b"], 2),
        (&["--chown", "nobody", "@/file", ":/x"], 3),
    ] {
        b.cp(args).error(code);
    }
    for args in [&["@/file", "-"][..], &["--dockerignore", ":/etc", "-"]] {
        let ran = b.cp(args);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "stdout is the archive's: {ran:?}");
    }
    assert!(!b.upper("x").exists() && !b.upper("absent").exists());
}

#[test]
fn owners_and_permissions_are_the_containers() {
    if !privileged() {
        return;
    }
    let b = Box::new(CreateDoc::default());
    std::os::unix::fs::chown(b.host.join("src/f"), Some(4321), Some(4321)).expect("chown");
    std::fs::set_permissions(b.host.join("src/f"), std::fs::Permissions::from_mode(0o640)).expect("chmod");
    let looks = |path: &str| {
        let stat = std::fs::symlink_metadata(b.upper(path)).expect("stat");
        (stat.uid(), stat.gid(), stat.mode() & 0o7777)
    };
    b.cp(&["@/src", ":/a"]).line();
    assert_eq!(looks("a/f"), (0, 0, 0o640));
    b.cp(&["--chown", "app", "--chmod", "755", "@/src", ":/b"]).line();
    assert_eq!((looks("b"), looks("b/f")), ((1000, 1000, 0o755), (1000, 1000, 0o755)));
    b.cp(&["--chown", "5:extra", "@/file", ":/c"]).line();
    assert_eq!(looks("c").0, 5);
    assert_eq!(looks("c").1, 7);
    let time = |path: &Path| std::fs::metadata(path).expect("stat").mtime_nsec();
    assert_eq!(time(&b.upper("a/f")), time(&b.host.join("src/f")));
    // A directory that is there keeps its looks: /tmp stays sticky.
    std::fs::create_dir_all(b.host.join("root/tmp")).expect("mkdir");
    std::fs::write(b.host.join("root/tmp/x"), "x").expect("write");
    b.cp(&["@/root/.", ":/"]).line();
    assert_eq!(looks("tmp").2, 0o1777);
}

#[test]
fn links_holes_and_special_files_arrive_as_what_they_are() {
    if !privileged() {
        return;
    }
    let b = Box::new(CreateDoc::default());
    let src = b.host.join("kinds");
    std::fs::create_dir(&src).expect("mkdir");
    std::fs::write(src.join("a"), "a").expect("write");
    std::fs::hard_link(src.join("a"), src.join("b")).expect("link");
    symlink("/etc/shadow", src.join("link")).expect("symlink");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        src.join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o622),
        0,
    )
    .expect("mkfifo");
    let sparse = std::fs::File::create(src.join("sparse")).expect("create");
    sparse.set_len(64 << 20).expect("truncate");
    std::os::unix::fs::FileExt::write_at(&sparse, b"end", (64 << 20) - 3).expect("write");
    b.cp(&["@/kinds", ":/kinds"]).line();
    let stat = |name: &str| std::fs::symlink_metadata(b.upper("kinds").join(name)).expect("stat");
    assert_eq!(stat("a").ino(), stat("b").ino());
    assert_eq!(std::fs::read_link(b.upper("kinds/link")).expect("readlink"), Path::new("/etc/shadow"));
    assert!(stat("fifo").file_type().is_fifo());
    assert!(
        stat("sparse").len() == 64 << 20 && stat("sparse").blocks() < 1024,
        "{}",
        stat("sparse").blocks()
    );
}

#[test]
fn the_containers_links_are_followed_inside_it_only() {
    if !privileged() {
        return;
    }
    let canary = tempfile::tempdir().expect("a temporary directory");
    let to = canary.path().to_path_buf();
    let b = Box::of(CreateDoc::default(), &move |dir: &Path| {
        busybox(dir);
        std::fs::create_dir(dir.join("usr/lib")).expect("mkdir");
        symlink("usr/lib", dir.join("lib")).expect("symlink");
        symlink(&to, dir.join("out")).expect("symlink");
        symlink(to.join("f"), dir.join("etc/f")).expect("symlink");
        symlink("/etc/shadow", dir.join("secret")).expect("symlink");
    });
    std::fs::create_dir(b.host.join("lib")).expect("mkdir");
    std::fs::write(b.host.join("lib/so"), "so").expect("write");
    b.cp(&["@/lib", ":/"]).line();
    assert_eq!(b.upper_text("usr/lib/so"), "so");
    assert!(std::fs::symlink_metadata(b.upper("lib")).is_err(), "the link stays a link");
    // What the link names does not exist inside.
    b.cp(&["@/file", ":/out/x"]).error(3);
    b.cp(&["@/file", ":/etc/f"]).error(3);
    assert_eq!(std::fs::read_dir(canary.path()).expect("read").count(), 0);
    // Out: the link itself, never the host's file.
    b.cp(&[":/secret", "@/secret"]).line();
    assert_eq!(std::fs::read_link(b.host.join("secret")).expect("a link"), Path::new("/etc/shadow"));
    // A host's link under a name of the tree is not followed.
    std::fs::create_dir(b.host.join("dest")).expect("mkdir");
    symlink(canary.path(), b.host.join("dest/etc")).expect("symlink");
    b.cp(&[":/etc", "@/dest"]).error(1);
    assert_eq!(std::fs::read_dir(canary.path()).expect("read").count(), 0);
}

#[test]
fn nothing_gains_power_on_the_way_out() {
    if !privileged() {
        return;
    }
    let b = Box::of(CreateDoc::default(), &|dir: &Path| {
        busybox(dir);
        std::fs::write(dir.join("usr/suid"), "x").expect("write");
        std::os::unix::fs::chown(dir.join("usr/suid"), Some(1000), Some(1000)).expect("chown");
        std::fs::set_permissions(dir.join("usr/suid"), std::fs::Permissions::from_mode(0o6755))
            .expect("chmod");
        let (character, mode) =
            (rustix::fs::FileType::CharacterDevice, rustix::fs::Mode::from_raw_mode(0o666));
        rustix::fs::mknodat(
            rustix::fs::CWD,
            dir.join("usr/null"),
            character,
            mode,
            rustix::fs::makedev(1, 3),
        )
        .expect("mknod");
    });
    let ran = b.cp(&[":/usr", "@/usr"]);
    ran.line();
    assert!(ran.stderr.contains("device"), "{ran:?}");
    let stat = std::fs::metadata(b.host.join("usr/suid")).expect("stat");
    assert_eq!((stat.mode() & 0o7777, stat.uid()), (0o755, 0));
    assert!(!b.host.join("usr/null").exists());
    b.cp(&[":/etc/.", "@/etc"]).line();
    assert!(b.host.join("etc/passwd").is_file());
    b.cp(&["--chown", "7:7", ":/etc/passwd", "@/{name}-{n}"]).line();
    assert_eq!(std::fs::metadata(b.host.join("box-1")).expect("stat").uid(), 7);
}

#[test]
fn mounted_and_running_containers_are_copied_into_as_well() {
    if !privileged() {
        return;
    }
    let b = Box::new(CreateDoc::default());
    assert!(overlay::attach(&b.container).expect("attach"));
    let rootfs = b.container.path().join("rootfs");
    b.cp(&["@/file", ":/mounted"]).line();
    assert_eq!(std::fs::read_to_string(rootfs.join("mounted")).expect("read"), "file");
    let mut process =
        Command::new("chroot").arg(&rootfs).args(["/bin/busybox", "sleep", "60"]).spawn().expect("chroot");
    std::thread::sleep(std::time::Duration::from_millis(300));
    let mut state = b.container.state().expect("state");
    state.set_running(process.id());
    b.container.set_state(&state).expect("state");
    let ran = b.cp(&["@/file", ":/running"]);
    assert_eq!(ran.line()["status"], "running");
    assert_eq!(std::fs::read_to_string(rootfs.join("running")).expect("read"), "file");
    process.kill().expect("kill");
    process.wait().expect("wait");
}

#[test]
fn a_one_off_ends_with_a_failed_copy() {
    if !privileged() {
        return;
    }
    let b = Box::new(CreateDoc { auto_remove: true, ..CreateDoc::default() });
    b.cp(&["@/missing", ":/x"]).error(3);
    assert!(b.fixture.containers().is_empty());
    let b = Box::new(CreateDoc { auto_remove: true, keep_on_failure: true, ..CreateDoc::default() });
    let ran = b.cp(&["@/missing", ":/x"]);
    ran.error(3);
    assert!(ran.stderr.contains("box") && ran.stderr.contains("oci-spawn"), "{ran:?}");
    let named = format!("oci-inspect box --store {}", b.fixture.store.path().display());
    assert!(ran.stderr.contains(&named), "{ran:?}");
    assert_eq!(b.fixture.containers(), ["box"]);
}

#[test]
fn a_container_is_named_on_the_command_line_too() {
    if !privileged() {
        return;
    }
    let b = Box::new(CreateDoc::default());
    let file = b.host.join("file");
    let ran = b.fixture.run(CP, &[file.to_str().expect("UTF-8"), "box:/named"], "");
    assert_eq!(ran.line()["name"], "box");
    assert_eq!(b.upper_text("named"), "file");
}

#[test]
fn a_directory_exchanged_for_a_link_leads_nowhere() {
    if !privileged() {
        return;
    }
    let canary = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(canary.path().join("secret"), "canary").expect("write");
    let b = Box::new(CreateDoc::default());
    assert!(overlay::attach(&b.container).expect("attach"));
    let rootfs = b.container.path().join("rootfs");
    std::fs::create_dir_all(rootfs.join("usr/d")).expect("mkdir");
    std::fs::write(rootfs.join("usr/d/secret"), "own").expect("write");
    symlink(canary.path(), rootfs.join("usr/s")).expect("symlink");
    testkit::exchanging(&[(&rootfs.join("usr/d"), &rootfs.join("usr/s"))], || {
        for n in 0..60 {
            // Whichever it is at the moment: a file of the container's, or a failure that says so.
            b.cp(&["@/file", ":/usr/d/new"]);
            b.cp(&["@/src/.", ":/usr/d"]);
            b.cp(&[":/usr/d/secret", &format!("@/out{n}")]);
            b.cp(&[":/usr", &format!("@/tree{n}")]);
        }
    });
    assert_eq!(std::fs::read_dir(canary.path()).expect("canary").count(), 1);
    for n in 0..60 {
        for path in [format!("out{n}"), format!("tree{n}/d/secret"), format!("tree{n}/s/secret")] {
            // Links are copied as links and lead to the canary: what counts is what was written as a file here.
            let path = b.host.join(path);
            let link = path.parent().is_some_and(|parent| parent.is_symlink());
            let text = if link { String::new() } else { std::fs::read_to_string(&path).unwrap_or_default() };
            assert_ne!(text, "canary", "{path:?}");
        }
    }
}

#[test]
fn directories_nested_beyond_reason_are_refused_before_the_tool_has_no_stack_left() {
    if !privileged() {
        return;
    }
    let b = Box::new(CreateDoc::default());
    let nest = |top: std::path::PathBuf, depth: usize| {
        std::fs::create_dir_all(top.join("d/".repeat(depth))).expect("mkdir");
    };
    nest(b.host.join("fine"), 200);
    nest(b.host.join("deep"), 400);
    nest(b.upper("deep"), 400);
    assert_eq!(b.cp(&["@/fine", ":/usr"]).code, 0);
    assert_eq!(b.cp(&[":/usr/fine", "@/out"]).code, 0);
    for words in [["@/deep", ":/usr"], [":/deep", "@/out"]] {
        let ran = b.cp(&words);
        assert!(
            ran.code == 6 && ran.stderr.contains("300 directories"),
            "{words:?}: {} {}",
            ran.code,
            ran.stderr
        );
    }
}
