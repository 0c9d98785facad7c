//! `-`: archives into containers and out of them, hostile ones with their legal twins.

mod boxed;

use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use boxed::Box;
use boxed::support::{busybox, privileged};
use store::CreateDoc;
use testkit::tar::{Member, archive, char_device, dir, fifo, file, hardlink};

fn link(name: &str, target: &str) -> Member {
    testkit::tar::symlink(name, target)
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The names in an archive, by GNU tar.
fn names(bytes: &[u8]) -> Vec<String> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("a.tar");
    std::fs::write(&path, bytes).expect("write");
    let listed = Command::new("tar").arg("-tf").arg(&path).output().expect("tar");
    assert!(listed.status.success(), "{listed:?}");
    String::from_utf8_lossy(&listed.stdout).lines().map(String::from).collect()
}

#[test]
fn an_archive_arrives_as_it_is() {
    if !privileged() {
        return;
    }
    let b = Box::new(CreateDoc::default());
    let long = "n".repeat(150);
    let bytes = archive(&[
        dir("d").mode(0o2750).owner(5, 6).mtime(1_000_000_000),
        file("d/a", "text").mode(0o4755).owner(1000, 1001).mtime(1_100_000_000).xattr("user.x", "y"),
        hardlink("d/b", "d/a"),
        link("d/link", "/etc/shadow"),
        fifo("d/pipe"),
        char_device("d/null", 1, 3),
        file("d/.wh.a", "no whiteout"),
        file("d/.wh..wh..opq", ""),
        file(format!("deep/er/{long}"), "deep"),
        file("/absolute", "inside"),
        file("./dot", "dot"),
    ]);
    let ran = b.pipe(&["-", "box:/usr"], &bytes);
    assert_eq!(code(&ran), 0, "{}", told(&ran));
    assert!(told(&ran).contains("d/null") && told(&ran).contains("device"), "{}", told(&ran));
    let line: serde_json::Value = serde_json::from_slice(&ran.stdout).expect("the line goes on");
    assert_eq!(line["name"], "box");
    let stat = |name: &str| std::fs::symlink_metadata(b.upper("usr").join(name)).expect("stat");
    let d = stat("d");
    assert_eq!((d.mode() & 0o7777, d.uid(), d.gid(), d.mtime()), (0o2750, 5, 6, 1_000_000_000));
    let a = stat("d/a");
    assert_eq!((a.mode() & 0o7777, a.uid(), a.gid(), a.mtime()), (0o4755, 1000, 1001, 1_100_000_000));
    assert_eq!(a.ino(), stat("d/b").ino());
    assert_eq!(std::fs::read_link(b.upper("usr/d/link")).expect("a link"), Path::new("/etc/shadow"));
    assert!(stat("d/pipe").file_type().is_fifo() && !b.upper("usr/d/null").exists());
    assert_eq!(b.upper_text("usr/d/.wh.a"), "no whiteout");
    assert_eq!((b.upper_text("usr/absolute"), b.upper_text("usr/dot")), ("inside".into(), "dot".into()));
    assert_eq!(b.upper_text(&format!("usr/deep/er/{long}")), "deep");
    let mut value = [0; 8];
    let length = rustix::fs::getxattr(b.upper("usr/d/a"), "user.x", &mut value[..]).expect("getxattr");
    assert_eq!(&value[..length], b"y");
    // The owners of choice, and devices on request.
    let ran = b.pipe(&["--chown", "app", "--chmod", "600", "-", "box:/tmp"], &bytes);
    assert_eq!(code(&ran), 0, "{}", told(&ran));
    let a = std::fs::metadata(b.upper("tmp/d/a")).expect("stat");
    assert_eq!((a.mode() & 0o7777, a.uid()), (0o600, 1000));
    assert_eq!(code(&b.pipe(&["-a", "-", "box:/var"], &bytes)), 0);
    assert!(std::fs::metadata(b.upper("var/d/null")).expect("stat").file_type().is_char_device());
    // The destination keeps its looks, and directories that are there get the archive's.
    let twice = archive(&[dir("./").mode(0o700), dir("d").mode(0o700)]);
    assert_eq!(code(&b.pipe(&["-", "box:/usr"], &twice)), 0);
    assert_eq!(stat("").mode() & 0o7777, 0o755);
    assert_eq!(stat("d").mode() & 0o7777, 0o700);
}

#[test]
fn compressed_archives_are_known_by_their_first_bytes() {
    if !privileged() {
        return;
    }
    let b = Box::new(CreateDoc::default());
    let path = b.host.join("a.tar");
    std::fs::write(&path, archive(&[file("zipped", "z")])).expect("write");
    for (program, works) in [("gzip", true), ("zstd", true), ("bzip2", false)] {
        let packed = Command::new(program).arg("-c").arg(&path).output();
        let Ok(packed) = packed else {
            testkit::skip(&format!("needs {program}"));
            continue;
        };
        let ran = b.pipe(&["-", "box:/tmp"], &packed.stdout);
        assert_eq!(code(&ran), if works { 0 } else { 6 }, "{program}: {}", told(&ran));
    }
}

#[test]
fn hostile_archives_are_refused_and_their_legal_twins_are_not() {
    if !privileged() {
        return;
    }
    let canary = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(canary.path().join("f"), "canary").expect("write");
    let to = canary.path().to_str().expect("UTF-8").to_string();
    let target = to.clone();
    let b = Box::of(CreateDoc::default(), &move |dir: &Path| {
        busybox(dir);
        symlink(&target, dir.join("usr/out")).expect("symlink");
        std::fs::create_dir(dir.join("real")).expect("mkdir");
        symlink("/real", dir.join("usr/in")).expect("symlink");
    });
    let out = format!("{to}/f");
    for (what, members, hostile) in [
        ("up", vec![file("../x", "x")], 6),
        ("up inside", vec![file("a/../../x", "x")], 6),
        ("up and back", vec![file("a/../x", "x")], 6),
        ("absolute", vec![file(&out, "x")], 0),
        ("a link of the archive", vec![link("s", &to), file("s/x", "x")], 6),
        ("a link of the archive upwards", vec![link("s", ".."), file("s/x", "x")], 6),
        ("a link and no more", vec![link("s2", &to), file("t/x", "x")], 0),
        ("a link, then a file there", vec![link("s3", &out), file("s3", "own")], 0),
        ("a link, then a directory there", vec![link("s4", &to), dir("s4").mode(0o700)], 6),
        (
            "a link replaced by a file, then through it",
            vec![link("s5", &to), file("s5", ""), file("s5/x", "")],
            1,
        ),
        (
            "another name of its own link",
            vec![link("s6", "/etc"), hardlink("s7", "s6"), file("s7/x", "x")],
            6,
        ),
        ("a link of the image outwards", vec![file("out/x", "x")], 3),
        ("a link of the image inside", vec![file("in/x", "x")], 0),
        ("a hard link to the host", vec![hardlink("h", "/etc/hostname")], 6),
        ("a hard link upwards", vec![hardlink("h", "../etc/passwd")], 6),
        ("a hard link to nothing", vec![hardlink("h", "later"), file("later", "")], 6),
        ("a hard link to what is there", vec![file("first", "1"), hardlink("h2", "first")], 0),
        ("no name", vec![file("", "x")], 6),
        ("its own name", vec![file(".", "x")], 6),
        ("a file for a directory", vec![file("taken/x", ""), file("taken", "")], 1),
        ("a lie about the size", vec![file("x", "body").claimed_size(1 << 40)], 6),
    ] {
        let ran = b.pipe(&["-", "box:/usr"], &archive(&members));
        assert_eq!(code(&ran), hostile, "{what}: {}", told(&ran));
        assert_eq!(std::fs::read_dir(canary.path()).expect("canary").count(), 1, "{what}");
        assert_eq!(std::fs::read_to_string(canary.path().join("f")).expect("canary"), "canary", "{what}");
    }
    assert_eq!((b.upper_text("real/x"), b.upper_text("usr/s3")), ("x".into(), "own".into()));
    // Nothing half-written, and the failure says that the rest stays.
    let mut bytes = archive(&[file("whole", "w"), file("half", vec![b'x'; 100_000])]);
    bytes.truncate(50_000);
    let ran = b.pipe(&["-", "box:/var"], &bytes);
    assert_eq!(code(&ran), 6, "{}", told(&ran));
    assert!(told(&ran).contains("1 members"), "{}", told(&ran));
    let there: Vec<_> =
        std::fs::read_dir(b.upper("var")).expect("read").flatten().map(|e| e.file_name()).collect();
    assert_eq!(there, ["whole"]);
}

#[test]
fn a_directory_exchanged_under_an_archive_leads_nowhere() {
    if !privileged() {
        return;
    }
    let canary = tempfile::tempdir().expect("a temporary directory");
    let b = Box::new(CreateDoc::default());
    assert!(overlay::attach(&b.container).expect("attach"));
    let rootfs = b.container.path().join("rootfs");
    std::fs::create_dir_all(rootfs.join("usr/d")).expect("mkdir");
    symlink(canary.path(), rootfs.join("usr/s")).expect("symlink");
    let members: Vec<Member> = (0..50).map(|n| file(format!("d/f{n}"), "x")).collect();
    let bytes = archive(&members);
    testkit::exchanging(&[(&rootfs.join("usr/d"), &rootfs.join("usr/s"))], || {
        for _ in 0..60 {
            b.pipe(&["-", "box:/usr"], &bytes);
        }
    });
    assert_eq!(std::fs::read_dir(canary.path()).expect("canary").count(), 0);
}

#[test]
fn an_archive_on_stdout_has_dockers_names_and_all_that_a_file_is() {
    if !privileged() {
        return;
    }
    let b = Box::of(CreateDoc::default(), &|dir: &Path| {
        busybox(dir);
        std::fs::create_dir_all(dir.join("data/sub")).expect("mkdir");
        std::fs::write(dir.join("data/a"), "a").expect("write");
        std::fs::hard_link(dir.join("data/a"), dir.join("data/sub/b")).expect("link");
        symlink("/etc/shadow", dir.join("data/link")).expect("symlink");
        std::fs::write(dir.join("data/.wh.x"), "plain").expect("write");
        std::os::unix::fs::chown(dir.join("data/a"), Some(1000), Some(1001)).expect("chown");
        symlink("data", dir.join("to-data")).expect("symlink");
        let sparse = std::fs::File::create(dir.join("data/sparse")).expect("create");
        sparse.set_len(64 << 20).expect("truncate");
    });
    for (path, follow, want) in [
        (
            "/data",
            false,
            &["data/", "data/.wh.x", "data/a", "data/link", "data/sparse", "data/sub/", "data/sub/b"][..],
        ),
        (
            "/data/",
            false,
            &["data/", "data/.wh.x", "data/a", "data/link", "data/sparse", "data/sub/", "data/sub/b"],
        ),
        ("/data/.", false, &["./", ".wh.x", "a", "link", "sparse", "sub/", "sub/b"]),
        ("/data/a", false, &["a"]),
        ("/to-data", false, &["to-data"]),
        (
            "/to-data",
            true,
            &[
                "to-data/",
                "to-data/.wh.x",
                "to-data/a",
                "to-data/link",
                "to-data/sparse",
                "to-data/sub/",
                "to-data/sub/b",
            ],
        ),
    ] {
        let source = format!("box:{path}");
        let args: Vec<&str> = if follow { vec!["-L", &source, "-"] } else { vec![&source, "-"] };
        let ran = b.pipe(&args, b"");
        assert_eq!(code(&ran), 0, "{}", told(&ran));
        assert_eq!(names(&ran.stdout), want, "{path}");
        assert_eq!(b.pipe(&args, b"").stdout, ran.stdout, "the same bytes each time");
        assert!(ran.stdout.len() < 1 << 20, "holes are not written");
    }
    // Round: what went out comes in as it was.
    let ran = b.pipe(&["box:/data", "-"], b"");
    assert_eq!(code(&b.pipe(&["-", "box:/var"], &ran.stdout)), 0);
    let stat = |name: &str| std::fs::symlink_metadata(b.upper("var/data").join(name)).expect("stat");
    assert_eq!((stat("a").uid(), stat("a").gid(), stat("a").ino()), (1000, 1001, stat("sub/b").ino()));
    assert!(stat("sparse").len() == 64 << 20 && stat("sparse").blocks() < 1024);
    for (args, want) in
        [(&["box:/no", "-"][..], 3), (&["box:/data", "box:/etc", "-"], 2), (&["no:/etc", "-"], 3)]
    {
        let ran = b.pipe(args, b"");
        assert_eq!((code(&ran), ran.stdout.len()), (want, 0), "{args:?} {}", told(&ran));
    }
}

#[test]
fn a_containers_whole_tree_is_exported_without_marks_and_mounts() {
    if !privileged() {
        return;
    }
    let b = Box::new(CreateDoc::default());
    assert!(overlay::attach(&b.container).expect("attach"));
    let rootfs = b.container.path().join("rootfs");
    std::fs::remove_file(rootfs.join("etc/passwd")).expect("rm");
    std::fs::write(rootfs.join("tmp/new"), "new").expect("write");
    // A process with a /proc of its own, as a running container has.
    let script = format!(
        "mkdir -p {0}/proc; mount -t proc proc {0}/proc; exec chroot {0} /bin/busybox sleep 60",
        rootfs.display()
    );
    let mut process = Command::new("unshare").args(["-m", "sh", "-c", &script]).spawn().expect("unshare");
    std::thread::sleep(std::time::Duration::from_millis(500));
    let mut state = b.container.state().expect("state");
    state.set_running(process.id());
    b.container.set_state(&state).expect("state");
    let ran = b.pipe(&["box:/", "-"], b"");
    process.kill().expect("kill");
    process.wait().expect("wait");
    assert_eq!(code(&ran), 0, "{}", told(&ran));
    let names = names(&ran.stdout);
    let has = |name: &str| names.iter().any(|have| have == name);
    assert!(has("bin/busybox") && has("tmp/new") && has("proc/"), "{names:?}");
    assert!(!has("etc/passwd"), "a deleted file is not there, nor its mark");
    assert!(!names.iter().any(|name| name.starts_with("proc/") && name != "proc/"), "{names:?}");
}

#[test]
fn lines_and_archives_do_not_meet() {
    if !privileged() {
        return;
    }
    let b = Box::new(CreateDoc::default());
    let line = b.host.join("line");
    std::fs::write(&line, format!("{}\n", b.line())).expect("write");
    let bytes = archive(&[file("x", "x")]);
    let ran = b.pipe(&["-", ":/tmp"], &bytes);
    assert_eq!(code(&ran), 2);
    assert!(told(&ran).contains("--line"), "{}", told(&ran));
    let ran = b.pipe(&["--line", "@/line", "-", ":/tmp"], &bytes);
    assert_eq!(code(&ran), 0, "{}", told(&ran));
    assert_eq!(b.upper_text("tmp/x"), "x");
    assert_eq!(code(&b.pipe(&["--line", "@/none", "-", ":/tmp"], &bytes)), 3);
    assert_eq!(code(&b.pipe(&["--line", "@/line", "-", "box:/tmp"], &bytes)), 2);
    assert_eq!(code(&b.pipe(&["-", "box:/no/such"], &bytes)), 3);
    assert_eq!(code(&b.pipe(&["-", "box:/etc/passwd"], &bytes)), 1);
    // Out: the line is on stdin, and goes to a file.
    let ran = b.pipe(&["--line", "@/passed", ":/tmp/x", "-"], format!("{}\n", b.line()).as_bytes());
    assert_eq!(names(&ran.stdout), ["x"]);
    let passed = std::fs::read_to_string(b.host.join("passed")).expect("the line");
    assert_eq!(passed.trim(), b.line());
}

#[test]
fn an_archive_ends_the_journey_of_a_one_off() {
    if !privileged() {
        return;
    }
    let b = Box::new(CreateDoc { auto_remove: true, ..CreateDoc::default() });
    let ran = b.pipe(&[":/etc/passwd", "-"], format!("{}\n", b.line()).as_bytes());
    assert_eq!((code(&ran), names(&ran.stdout)), (0, vec!["passwd".to_string()]), "{}", told(&ran));
    assert!(b.fixture.containers().is_empty());
}
