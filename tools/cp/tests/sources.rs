//! What is copied: of other containers and images, by the rules of .dockerignore, through links, with its owner.

mod boxed;

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use boxed::Box;
use boxed::support::{busybox, privileged};
use descriptor::Descriptor;
use serde_json::{Value, json};
use store::{Claim, CreateDoc, Form, LayerMeta};

impl Box {
    fn second(&self, name: &str) -> store::Container {
        let plan = overlay::Plan::of_container(&self.container).expect("plan");
        let doc = CreateDoc { name: name.into(), ..CreateDoc::default() };
        let draft = self.fixture.store.draft_container(&doc).expect("draft");
        draft.write("plan.json", &plan.to_bytes()).expect("plan.json");
        draft.publish().expect("publish")
    }
}

#[test]
fn another_container_is_a_source() {
    if !privileged() {
        return;
    }
    let b = Box::new(CreateDoc::default());
    let other = b.second("builder");
    std::fs::create_dir_all(other.path().join("upper/app/sub")).expect("mkdir");
    std::fs::write(other.path().join("upper/app/sub/f"), "built").expect("write");
    std::os::unix::fs::chown(other.path().join("upper/app/sub/f"), Some(1000), Some(7)).expect("chown");
    let ran = b.cp(&["--from", "builder", "/app", ":/app"]);
    assert_eq!(ran.line()["name"], "box");
    assert_eq!(b.upper_text("app/sub/f"), "built");
    assert_eq!(std::fs::metadata(b.upper("app/sub/f")).expect("stat").uid(), 0);
    b.cp(&["-a", "--from", "builder", "app/.", ":/tmp"]).line();
    let stat = std::fs::metadata(b.upper("tmp/sub/f")).expect("stat");
    assert_eq!((stat.uid(), stat.gid()), (1000, 7));
    // Both ways at once wait for each other, and never for ever.
    std::thread::scope(|scope| {
        for (from, to) in [("builder", "box:/tmp/x"), ("box", "builder:/tmp/x")] {
            let b = &b;
            scope.spawn(move || {
                for _ in 0..20 {
                    assert!(b.pipe(&["--from", from, "/etc/passwd", to], b"").status.success());
                }
            });
        }
    });
    // To the host, and as an archive, without any line.
    assert!(b.pipe(&["--from", "builder", "/app", "@/out"], b"").status.success());
    assert!(b.host.join("out/sub/f").is_file());
    assert!(b.pipe(&["--from", "builder", "/app", "-"], b"").stdout.windows(5).any(|part| part == b"app/\0"));
    for (args, code) in [
        (&["--from", "box", "/etc", ":/x"][..], 2),
        (&["--from", "builder", ":/etc", ":/x"], 2),
        (&["--from", "builder", "-", ":/x"], 2),
        (&["--from", "none", "/etc", ":/x"], 3),
        (&["--from", "builder", "/none", ":/x"], 3),
    ] {
        b.cp(args).error(code);
    }
}

#[test]
fn an_image_is_a_source_without_a_container_of_it() {
    if !privileged() {
        return;
    }
    let b = Box::new(CreateDoc::default());
    let store = &b.fixture.store;
    // Two layers, of which the upper one deletes a file of the lower one.
    let layer = |name: &str, fill: &dyn Fn(&Path)| {
        let diff_id = descriptor::Digest::of(name.as_bytes());
        let Ok(Claim::Mine(draft)) = store.claim_layer(Form::Identity, &diff_id) else { panic!("fresh") };
        let link = format!(
            "/proc/self/fd/{}",
            std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(draft.root()))
        );
        fill(&std::fs::read_link(link).expect("readlink"));
        let meta = LayerMeta { diff_id, entries: 1, bytes: 1, implied: Vec::new(), masking: Vec::new() };
        draft.publish(store, meta).expect("publish");
        diff_id
    };
    let low = layer("low", &|dir| {
        std::fs::create_dir(dir.join("app")).expect("mkdir");
        std::fs::write(dir.join("app/gone"), "gone").expect("write");
        std::fs::write(dir.join("app/kept"), "kept").expect("write");
        symlink("/app", dir.join("link")).expect("symlink");
    });
    let top = layer("top", &|dir| {
        std::fs::create_dir(dir.join("app")).expect("mkdir");
        std::fs::write(dir.join("app/added"), "added").expect("write");
        let (character, mode) = (rustix::fs::FileType::CharacterDevice, rustix::fs::Mode::empty());
        rustix::fs::mknodat(rustix::fs::CWD, dir.join("app/gone"), character, mode, 0).expect("mknod");
    });
    for (reference, layers) in
        [("docker.io/library/builder:1", &[low, top][..]), ("docker.io/library/single:1", &[low])]
    {
        let rootfs: Value = serde_json::from_str(&b.fixture.line(&json!({}), layers)).expect("JSON");
        let digest = rootfs["image"].as_str().and_then(|text| text.parse().ok()).expect("a digest");
        let size = store.document(&digest, None).expect("manifest").1;
        store.tag(reference, &Descriptor::new(descriptor::media::OCI_MANIFEST, digest, size)).expect("tag");
    }
    let before = b.fixture.containers();
    b.cp(&["--from", "builder:1", "/app", ":/app"]).line();
    assert_eq!((b.upper_text("app/kept"), b.upper_text("app/added")), ("kept".into(), "added".into()));
    assert!(!b.upper("app/gone").exists());
    b.cp(&["--from", "builder:1", "-L", "/link", ":/tmp/followed"]).line();
    assert_eq!(b.upper_text("tmp/followed/kept"), "kept");
    b.cp(&["--from", "single:1", "/app", ":/single"]).line();
    assert_eq!(b.upper_text("single/gone"), "gone");
    assert_eq!(b.fixture.containers(), before);
    assert_eq!(std::fs::read_dir(store.path().join("staging")).expect("staging").count(), 0);
}

#[test]
fn dockerignore_leaves_out_what_it_says() {
    if !privileged() {
        return;
    }
    let b = Box::new(CreateDoc::default());
    let src = b.host.join("ctx");
    for path in
        ["a.md", "README.md", "node_modules/x/y", "node_modules/keep/z", "sub/b.md", "sub/c", "main.c"]
    {
        std::fs::create_dir_all(src.join(path).parent().expect("parent")).expect("mkdir");
        std::fs::write(src.join(path), path).expect("write");
    }
    std::fs::write(src.join(".dockerignore"), "**/*.md\n!README.md\nnode_modules\n!node_modules/keep\n")
        .expect("write");
    let copied = |dest: &str| {
        let found = std::process::Command::new("find")
            .arg(b.upper(dest))
            .args(["-type", "f", "-printf", "%P\n"])
            .output();
        let mut found: Vec<String> =
            String::from_utf8_lossy(&found.expect("find").stdout).lines().map(String::from).collect();
        found.sort();
        found
    };
    let want = [".dockerignore", "README.md", "main.c", "node_modules/keep/z", "sub/c"];
    b.cp(&["--dockerignore", "@/ctx", ":/one"]).line();
    assert_eq!(copied("one"), want);
    assert!(!b.upper("one/node_modules/x").exists(), "no empty directories of what is left out");
    b.cp(&["--ignore-file", "@/ctx/.dockerignore", "@/ctx/.", ":/two"]).line();
    assert_eq!(copied("two"), want);
    b.cp(&["@/ctx/.", ":/all"]).line();
    assert_eq!(copied("all").len(), 8, "docker cp knows no such rules");
    std::fs::write(b.host.join("bad"), "ok\n[x\n").expect("write");
    let ran = b.cp(&["--ignore-file", "@/bad", "@/ctx", ":/x"]);
    ran.error(2);
    assert!(ran.stderr.contains("line 2"), "{ran:?}");
    b.cp(&["--ignore-file", "@/none", "@/ctx", ":/x"]).error(3);
    assert!(!b.upper("x").exists());
}

#[test]
fn links_are_followed_on_request_and_owners_kept() {
    if !privileged() {
        return;
    }
    let b = Box::of(CreateDoc::default(), &|dir: &Path| {
        busybox(dir);
        symlink("/etc/passwd", dir.join("usr/link")).expect("symlink");
    });
    symlink("file", b.host.join("link")).expect("symlink");
    std::os::unix::fs::chown(b.host.join("file"), Some(12), Some(34)).expect("chown");
    b.cp(&["@/link", ":/tmp/as-link"]).line();
    assert!(b.upper("tmp/as-link").is_symlink());
    b.cp(&["-L", "@/link", ":/tmp"]).line();
    assert_eq!(b.upper_text("tmp/link"), "file");
    b.cp(&["-La", "@/link", ":/tmp/kept"]).line();
    let stat = std::fs::symlink_metadata(b.upper("tmp/kept")).expect("stat");
    assert_eq!((stat.uid(), stat.gid()), (12, 34));
    // Out: inside the container's root, never the host's file.
    b.cp(&["-L", ":/usr/link", "@/passwd"]).line();
    let text = std::fs::read_to_string(b.host.join("passwd")).expect("read");
    assert!(text.contains("app") && !text.contains("daemon"), "{text}");
    b.cp(&["-a", "--chown", "app", "@/file", ":/x"]).error(2);
}

#[test]
fn an_image_that_is_not_unpacked_is_said_so() {
    if !privileged() {
        return;
    }
    let b = Box::new(CreateDoc::default());
    let missing = descriptor::Digest::of(b"nowhere");
    let rootfs: Value = serde_json::from_str(&b.fixture.line(&json!({}), &[missing])).expect("JSON");
    let digest = rootfs["image"].as_str().expect("a digest");
    let ran = b.cp(&["--from", digest, "/etc", ":/x"]);
    ran.error(3);
    assert!(ran.stderr.contains("oci-unpack"), "{ran:?}");
}
