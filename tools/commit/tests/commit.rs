//! The tool itself on containers of a private store; what it makes is read by skopeo, umoci and the kernel.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use descriptor::{Digest, Line, Platform};
use layer::{Encoding, Options};
use serde_json::{Value, json};
use store::{Claim, Container, CreateDoc, Form, Image, LayerMeta, Store};
use sys::Root;

/// A store with an image of one layer and a container of it.
struct World {
    dir: tempfile::TempDir,
    store: Store,
    image: Image,
}

/// How the tool ended.
struct Done {
    status: i32,
    lines: Vec<Value>,
    stderr: String,
}

impl Done {
    fn digest(&self) -> Digest {
        assert_eq!(self.status, 0, "{}", self.stderr);
        self.lines[0]["digest"].as_str().and_then(|text| text.parse().ok()).expect("a digest")
    }
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("etc/old")).expect("mkdir");
        fs::write(root.join("etc/passwd"), "root:x:0:0").expect("write");
        fs::write(root.join("etc/old/file"), "old").expect("write");
        fs::write(root.join("big"), vec![b'b'; 3_000_000]).expect("write");
        let store = Store::open(Some(&dir.path().join("store"))).expect("a store");
        let args = ["--rootfs", root.to_str().expect("utf-8"), "--cmd", "[\"sh\"]", "-e", "PATH=/bin"];
        let line = commit(&store, &args, b"");
        assert!(!line.stderr.contains("warning"), "{}", line.stderr);
        let image = store.image(&line.digest(), None).expect("the image");
        let world = Self { dir, store, image };
        world.unpack_layers();
        testkit::tree::assert_same(&root, &world.lower(), &testkit::tree::Ignore::nothing());
        world
    }

    /// What oci-unpack does.
    fn unpack_layers(&self) {
        for (layer, diff_id) in self.image.manifest.layers.iter().zip(&self.image.diff_ids) {
            let Claim::Mine(draft) = self.store.claim_layer(Form::Identity, diff_id).expect("claim") else {
                continue;
            };
            let blob = self.store.open_blob(&layer.digest).expect("blob").file;
            let done =
                layer::unpack(blob, Encoding::Gzip, draft.root(), &Options::default()).expect("unpack");
            let meta = LayerMeta {
                diff_id: *diff_id,
                entries: done.entries,
                bytes: done.bytes,
                implied: done.implied,
                masking: done.masking,
            };
            draft.publish(&self.store, meta).expect("publish");
        }
    }

    fn container(&self, doc: CreateDoc) -> Container {
        let doc = CreateDoc { image: Some(self.image.manifest_digest), ..doc };
        let draft = self.store.draft_container(&doc).expect("draft");
        let lower = self.lower();
        let upper = draft.root().open_dir("upper").expect("upper");
        overlay::Metadata::of(&Root::open_ambient(&lower).expect("open"))
            .and_then(|m| m.apply(&upper))
            .expect("copy");
        draft.publish().expect("publish")
    }

    fn named(&self, name: &str) -> Container {
        self.container(CreateDoc { name: name.into(), ..CreateDoc::default() })
    }

    fn lower(&self) -> PathBuf {
        let layer =
            self.store.layer(Form::Identity, &self.image.diff_ids[0]).expect("layer").expect("present");
        layer.path()
    }

    fn run(&self, args: &[&str], container: &Container) -> Done {
        let line = Line::Container(container.line().expect("a line")).to_json().to_string() + "\n";
        commit(&self.store, args, line.as_bytes())
    }

    /// Works in the container as its processes do: through the kernel's overlay.
    fn change(&self, container: &Container, change: impl FnOnce(&Path)) {
        self.mounted(container, change);
    }

    fn mounted<T>(&self, container: &Container, act: impl FnOnce(&Path) -> T) -> T {
        let bundle = container.path();
        let options = format!(
            "userxattr,lowerdir={},upperdir={},workdir={}",
            self.lower().display(),
            bundle.join("upper").display(),
            bundle.join("work").display()
        );
        let view = self.dir.path().join("view");
        fs::create_dir_all(&view).expect("mkdir");
        let mount = Command::new("mount").args(["-t", "overlay", "none", "-o", &options]).arg(&view).status();
        assert!(mount.expect("mount").success());
        let made = act(&view);
        assert!(Command::new("umount").arg(&view).status().expect("umount").success());
        made
    }

    fn document(&self, digest: &Digest) -> Value {
        let bytes = self.store.read_document(digest, store::DOCUMENT_LIMIT).expect("a document");
        serde_json::from_slice(&bytes).expect("JSON")
    }

    fn config(&self, done: &Done) -> Value {
        let image = self.store.image(&done.digest(), None).expect("an image");
        self.document(&image.config_digest)
    }

    /// The members of an image's last layer, by Python's tarfile.
    fn last_layer(&self, done: &Done) -> Vec<String> {
        let image = self.store.image(&done.digest(), None).expect("an image");
        let layer = image.manifest.layers.last().expect("a layer");
        let blob = self.store.path().join("blobs/sha256").join(layer.digest.hex());
        let script = "import sys,tarfile\nfor m in tarfile.open(sys.argv[1]): print(m.name)";
        let out = Command::new("python3").args(["-c", script]).arg(blob).output().expect("python3");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).lines().map(str::to_owned).collect()
    }

    /// The tree that umoci makes of a named image.
    fn umoci(&self, reference: &str) -> PathBuf {
        let bundle = self.dir.path().join("umoci");
        let image = format!("{}:{reference}", self.store.path().display());
        let out =
            Command::new("umoci").args(["unpack", "--image", &image]).arg(&bundle).output().expect("umoci");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        bundle.join("rootfs")
    }
}

fn commit(store: &Store, args: &[&str], stdin: &[u8]) -> Done {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oci-commit"));
    command.args(args).env("OCIPIPE_STORE", store.path()).env("SOURCE_DATE_EPOCH", "2000000000");
    run(command, stdin)
}

fn run(mut command: Command, stdin: &[u8]) -> Done {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("oci-commit");
    child.stdin.take().expect("stdin").write_all(stdin).expect("write");
    let out = child.wait_with_output().expect("wait");
    let lines = out.stdout.split_inclusive(|&b| b == b'\n').map(testkit::schema::validated).collect();
    Done {
        status: out.status.code().expect("a status"),
        lines,
        stderr: String::from_utf8_lossy(&out.stderr).into(),
    }
}

fn edit(root: &Path) {
    fs::write(root.join("new"), "new").expect("write");
    fs::remove_file(root.join("etc/passwd")).expect("unlink");
    fs::remove_dir_all(root.join("etc/old")).expect("rmdir");
    fs::create_dir(root.join("etc/old")).expect("mkdir");
    fs::write(root.join("etc/old/again"), "again").expect("write");
    fs::set_permissions(root.join("big"), fs::Permissions::from_mode(0o4755)).expect("chmod");
    symlink("/new", root.join("link")).expect("symlink");
    fs::File::create(root.join("holes")).and_then(|file| file.set_len(8 << 20)).expect("a sparse file");
    fs::hard_link(root.join("new"), root.join("newer")).expect("link");
}

#[test]
fn an_unchanged_container_commits_a_layer_without_members() {
    let world = World::new();
    let container = world.named("same");
    world.change(&container, |root| drop(fs::read(root.join("big"))));
    let done = world.run(&["--layer"], &container);
    assert_eq!(world.last_layer(&done), [""; 0]);
    let config = world.config(&done);
    assert_eq!(config["rootfs"]["diff_ids"].as_array().map(Vec::len), Some(2));
    assert_eq!(config["history"].as_array().map(Vec::len), Some(2));
    let manifest = world.document(&done.digest());
    let base = &manifest["annotations"]["org.opencontainers.image.base.digest"];
    assert_eq!(*base, json!(world.image.manifest_digest));
}

#[test]
fn one_more_layer_holds_the_changes_and_umoci_makes_the_same_tree_of_it() {
    let world = World::new();
    let container = world.named("changed");
    world.change(&container, edit);
    let done = world.run(&["--layer", "--tag", "app:1"], &container);
    let members = world.last_layer(&done);
    for name in ["etc/.wh.passwd", "etc/old/.wh..wh..opq", "new", "newer", "link", "big"] {
        assert!(members.iter().any(|member| member == name), "{name} in {members:?}");
    }
    assert_eq!(done.lines[0]["reference"], "docker.io/library/app:1");
    let tree = world.umoci("docker.io/library/app:1");
    world.mounted(&container, |view| {
        testkit::tree::assert_same(view, &tree, &testkit::tree::Ignore::nothing())
    });
    assert!(done.stderr.contains("without --layer, one layer of about"), "{}", done.stderr);
}

#[test]
fn flattening_makes_one_layer_with_what_the_container_shows() {
    let world = World::new();
    let container = world.named("flat");
    world.change(&container, edit);
    let done = world.run(&["--tag", "flat"], &container);
    let image = world.store.image(&done.digest(), None).expect("an image");
    assert_eq!(image.diff_ids.len(), 1);
    assert!(!world.last_layer(&done).iter().any(|name| name.contains(".wh.")));
    let tree = world.umoci("docker.io/library/flat:latest");
    world.mounted(&container, |view| {
        testkit::tree::assert_same(view, &tree, &testkit::tree::Ignore::nothing())
    });
    assert!(done.stderr.contains("--layer would write about"), "{}", done.stderr);
    let image = format!("oci:{}:docker.io/library/flat:latest", world.store.path().display());
    let inspected = Command::new("skopeo").args(["inspect", "--config", &image]).output().expect("skopeo");
    let config: Value = serde_json::from_slice(&inspected.stdout).expect("skopeo's JSON");
    assert_eq!(config["config"]["Cmd"], json!(["sh"]));
}

#[test]
fn the_same_container_gives_the_same_image_on_one_processor_and_on_all() {
    let world = World::new();
    let container = world.named("again");
    world.change(&container, edit);
    for mode in [&["--layer"][..], &[]] {
        let all = world.run(mode, &container).digest();
        let mut pinned = Command::new("taskset");
        pinned.args(["-c", "0", env!("CARGO_BIN_EXE_oci-commit"), container.name()]).args(mode);
        pinned.env("OCIPIPE_STORE", world.store.path()).env("SOURCE_DATE_EPOCH", "2000000000");
        assert_eq!(run(pinned, b"").digest(), all);
    }
}

#[test]
fn the_configuration_is_the_images_own_but_for_what_was_asked() {
    let world = World::new();
    let mut doc = CreateDoc { name: "conf".into(), ..CreateDoc::default() };
    doc.process.env = vec!["TOKEN=secret=1".into()];
    doc.process.cwd = Some("/run-only".into());
    let container = world.container(doc);
    let args = [
        "-e",
        "A=b=c",
        "-w",
        "/srv",
        "-l",
        "k=v",
        "--change",
        "EXPOSE 80",
        "--change",
        "ENV WHERE=$PATH:/x",
        "--message",
        "why",
        "--author",
        "me",
    ];
    let config = world.config(&world.run(&args, &container));
    assert_eq!(config["config"]["Env"], json!(["PATH=/bin", "WHERE=/bin:/x", "A=b=c"]));
    assert_eq!(config["config"]["WorkingDir"], "/srv");
    assert_eq!(config["config"]["ExposedPorts"], json!({"80/tcp": {}}));
    assert_eq!((&config["author"], &config["history"][0]["comment"]), (&json!("me"), &json!("why")));
    assert_eq!(config["created"], "2033-05-18T03:33:20Z");
    assert!(!config.to_string().contains("secret"), "what was given to oci-mount leaked: {config}");
    let config = world.config(&world.run(&["--inherit"], &container));
    assert_eq!(config["config"]["Env"], json!(["PATH=/bin", "TOKEN=secret=1"]));
    assert_eq!(config["config"]["WorkingDir"], "/run-only");
}

#[test]
fn every_compression_is_read_by_others_as_the_same_archive() {
    let world = World::new();
    let container = world.named("methods");
    let diff_ids = ["gzip:1", "gzip", "zstd:3", "none"].map(|method| {
        let done = world.run(&["--compression", method], &container);
        let image = world.store.image(&done.digest(), None).expect("an image");
        let layer = &image.manifest.layers[0];
        let suffix =
            method.split(':').next().filter(|name| *name != "none").map_or("tar".into(), |n| format!("+{n}"));
        assert!(layer.media_type.ends_with(&suffix), "{method}: {}", layer.media_type);
        let blob = world.store.path().join("blobs/sha256").join(layer.digest.hex());
        let script = format!("{} < {} | sha256sum", reader(method), blob.display());
        let sum = Command::new("sh").args(["-c", &script]).output().expect("sh").stdout;
        assert!(sum.starts_with(image.diff_ids[0].hex().as_bytes()), "{method}");
        image.diff_ids[0]
    });
    assert!(diff_ids.iter().all(|diff_id| *diff_id == diff_ids[0]));
}

fn reader(method: &str) -> &'static str {
    match method.split(':').next() {
        Some("gzip") => "gzip -dc",
        Some("zstd") => "zstd -dc",
        _ => "cat",
    }
}

#[test]
fn a_one_off_is_gone_after_its_commit_and_another_stays() {
    let world = World::new();
    let once = |name: &str| CreateDoc { name: name.into(), auto_remove: true, ..CreateDoc::default() };
    let gone = world.container(once("gone"));
    world.run(&[], &gone).digest();
    assert!(world.store.container("gone").is_err());
    let kept = world.container(CreateDoc { keep_on_failure: true, ..once("kept") });
    assert_eq!(world.run(&["--tag", "UPPER"], &kept).status, 2);
    assert!(world.store.container("kept").is_ok());
    let failed = world.container(once("failed"));
    assert_eq!(world.run(&["--tag", "UPPER"], &failed).status, 2);
    assert!(world.store.container("failed").is_err());
    let two = ["second", "third"].map(|name| world.container(once(name)));
    let lines = two.map(|one| Line::Container(one.line().expect("a line")).to_json().to_string() + "\n");
    assert_eq!(commit(&world.store, &["--tag", "app:1"], lines.concat().as_bytes()).status, 2);
    assert_eq!(world.store.containers().expect("a list").len(), 1, "kept");
    let stays = world.named("stays");
    world.run(&[], &stays).digest();
    assert!(world.store.container("stays").is_ok());
}

#[test]
fn input_that_is_no_container_of_this_store_is_refused() {
    let world = World::new();
    let container = world.named("mine");
    let mut line = container.line().expect("a line");
    line.store = "/another/store".into();
    let foreign = Line::Container(line.clone()).to_json().to_string();
    line.store = world.store.path().into();
    line.instance = "0123456789abcdef".into();
    let instance = Line::Container(line).to_json().to_string();
    let image = json!({"mediaType": world.image.manifest.media_type, "size": 1,
        "digest": world.image.manifest_digest, "complete": true})
    .to_string();
    let error = json!({"mediaType": descriptor::media::ERROR, "tool": "oci-pull", "exit": 4, "what": "w", "why": "y"});
    let own = Line::Container(container.line().expect("a line")).to_json();
    for (args, stdin, status) in [
        (&[][..], String::new(), 10),
        (&[], image, 2),
        (&[], "hello\n".into(), 2),
        (&[], foreign, 9),
        (&[], instance, 9),
        (&[], error.to_string(), 4),
        (&["nobody"], String::new(), 3),
        (&["--tag", "one"], format!("{own}\n{own}\n"), 2),
        (&["--compression", "xz"], String::new(), 2),
        (&["--rootfs", "/nonexistent"], String::new(), 3),
        (&["--rootfs", "/"], String::new(), 2),
    ] {
        let done = commit(&world.store, args, stdin.as_bytes());
        assert_eq!(done.status, status, "{args:?} {stdin}: {}", done.stderr);
        let wanted = descriptor::media::ERROR;
        assert!(done.lines.iter().all(|line| line["mediaType"] == wanted), "{args:?}: {:?}", done.lines);
    }
    assert_eq!(world.store.references().expect("references"), []);
}

#[test]
fn an_image_in_dockers_format_gets_its_new_layer_in_ocis() {
    let mut world = World::new();
    let mut manifest = world.document(&world.image.manifest_digest);
    manifest["mediaType"] = json!(descriptor::media::DOCKER_MANIFEST);
    manifest["config"]["mediaType"] = json!(descriptor::media::DOCKER_CONFIG);
    manifest["layers"][0]["mediaType"] = json!(descriptor::media::DOCKER_LAYER_GZIP);
    let digest = world.store.put_document(manifest.to_string().as_bytes()).expect("put");
    world.image = world.store.image(&digest, None).expect("an image");
    let container = world.named("docker");
    let done = world.run(&["--layer", "--compression", "zstd"], &container);
    let made = world.document(&done.digest());
    let types: Vec<&Value> = std::iter::once(&made["config"])
        .chain(made["layers"].as_array().expect("layers"))
        .map(|part| &part["mediaType"])
        .collect();
    use descriptor::media::{OCI_CONFIG, OCI_LAYER_GZIP, OCI_LAYER_ZSTD};
    assert_eq!(types, [OCI_CONFIG, OCI_LAYER_GZIP, OCI_LAYER_ZSTD]);
    assert_eq!(made["layers"][0]["digest"], manifest["layers"][0]["digest"]);
    assert!(done.stderr.contains("in OCI's format"), "{}", done.stderr);
}

#[test]
fn a_full_disk_is_told_as_such_and_nothing_is_published() {
    let world = World::new();
    let small = world.dir.path().join("small");
    fs::create_dir(&small).expect("mkdir");
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "none"]).arg(&small).status();
    assert!(mount.expect("mount").success());
    let store = Store::open(Some(&small.join("store"))).expect("a store");
    let root = world.dir.path().join("root");
    let args = ["--rootfs", root.to_str().expect("utf-8"), "--tag", "full", "--compression", "none"];
    let done = commit(&store, &args, b"");
    let blobs = testkit::tree::paths(&store.path().join("blobs"));
    let names = store.references().expect("references");
    drop(store);
    assert!(Command::new("umount").arg("-l").arg(&small).status().expect("umount").success());
    assert_eq!(done.status, 8, "{}", done.stderr);
    assert_eq!(names, []);
    assert!(blobs.iter().all(|path| path.components().count() < 3), "{blobs:?}");
}

#[test]
fn several_lines_are_several_images() {
    let world = World::new();
    let lines: Vec<Value> = ["one", "two"]
        .map(|name| Line::Container(world.named(name).line().expect("a line")).to_json())
        .into();
    let stdin = format!("{}\n{}\n", lines[0], lines[1]);
    let done = commit(&world.store, &["--tag", "all/{name}:{n}"], stdin.as_bytes());
    let names: Vec<&Value> = done.lines.iter().map(|line| &line["reference"]).collect();
    assert_eq!(names, ["docker.io/all/one:1", "docker.io/all/two:2"]);
}

#[test]
fn an_image_of_a_directory_is_for_the_platform_that_was_named() {
    let world = World::new();
    let root = world.dir.path().join("root");
    let args = ["--rootfs", root.to_str().expect("utf-8"), "--platform", "linux/arm/v7"];
    let done = commit(&world.store, &args, b"");
    let image = world.store.image(&done.digest(), None).expect("an image");
    assert_eq!(image.platform, "linux/arm/v7".parse::<Platform>().expect("a platform"));
    assert_eq!(world.config(&done)["variant"], "v7");
}
