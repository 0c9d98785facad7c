//! A private store with containers over Debian's static busybox, and how to run the tool on them.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use descriptor::{Digest, Line, Status};
use oci_spec::image::ImageConfiguration;
use runtime::convert::{Creation, Network, spec, to_bytes};
use runtime::users::Identity;

use store::{Claim, Container, CreateDoc, Form, LayerMeta, Store};
use sys::Root;

pub(crate) const APPLETS: [&str; 14] =
    ["sh", "ls", "cat", "id", "env", "sleep", "echo", "grep", "touch", "kill", "wc", "pwd", "stty", "head"];

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: Store,
}

impl World {
    /// None, with the reason printed, where these tests cannot run.
    pub(crate) fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() || !Path::new("/bin/busybox").exists() {
            testkit::skip("needs root and /bin/busybox (Debian's busybox-static)");
            return None;
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(Some(&dir.path().join("store"))).expect("a store");
        Some(Self { dir, store })
    }

    /// A layer's tree, as oci-unpack leaves it, and the plan over it.
    pub(crate) fn plan(&self) -> overlay::Plan {
        let diff_id = Digest::of(b"busybox");
        if let Claim::Mine(draft) = self.store.claim_layer(Form::Identity, &diff_id).expect("claim") {
            let root = draft.root();
            for name in ["bin", "proc", "sys", "dev", "tmp", "etc", "root"] {
                root.create_dir_all(name, rustix::fs::Mode::from_raw_mode(0o755)).expect("mkdir");
            }
            // A child, cp(1) say, has another self.
            let path = PathBuf::from(format!(
                "/proc/{}/fd/{}",
                std::process::id(),
                std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(root))
            ));
            testkit::copy_program("/bin/busybox", path.join("bin/busybox"));
            for applet in APPLETS {
                symlink("busybox", path.join("bin").join(applet)).expect("symlink");
            }
            fs::write(
                path.join("etc/passwd"),
                "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n",
            )
            .expect("write");
            // Passed through by everybody, read by nobody but root.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o711)).expect("chmod");
            let meta = LayerMeta { diff_id, entries: 1, bytes: 1, implied: Vec::new(), masking: Vec::new() };
            draft.publish(&self.store, meta).expect("publish");
        }
        let layer = self.store.layer(Form::Identity, &diff_id).expect("layer").expect("there");
        overlay::Plan::of(&self.store, [layer.path()]).expect("a plan")
    }

    /// What oci-mount does, as far as these tests need it.
    pub(crate) fn container(&self, name: &str, network: Network, doc: CreateDoc) -> Container {
        let plan = self.plan();
        let doc = CreateDoc { name: name.into(), network: network.as_str().into(), ..doc };
        let draft = self.store.draft_container(&doc).expect("draft");
        let image = r#"{"architecture":"amd64","os":"linux","config":{"Cmd":["sh","-c","echo default"],"Env":["PATH=/bin"]},"rootfs":{"type":"layers","diff_ids":[]}}"#;
        let image: ImageConfiguration = serde_json::from_str(image).expect("a configuration");
        let identity = Identity { uid: 0, gid: 0, groups: vec![0], name: None, home: None };
        let confinement = runtime::convert::Confinement {
            namespaces: runtime::defaults::namespaces(network != Network::Host),
            ..Default::default()
        };
        let creation = Creation {
            image: &image,
            env: &[],
            cwd: None,
            entrypoint: None,
            command: None,
            labels: &[],
            hostname: Some("box"),
            shown_name: "box",
            domainname: None,
            kernel: runtime::defaults::mounts(),
            stop_signal: None,
            confinement,
            read_only: false,
            mounts: Vec::new(),
            user: ("", &identity),
        };
        let diff_id = Digest::of(b"busybox");
        let layer = self.store.layer(Form::Identity, &diff_id).expect("layer").expect("there");
        let upper = draft.root().open_dir("upper").expect("upper");
        let metadata = overlay::Metadata::of(&Root::open_ambient(layer.path()).expect("open"));
        metadata.and_then(|metadata| metadata.apply(&upper)).expect("copy");
        draft.write("config.json", &to_bytes(&spec(&creation)).expect("JSON")).expect("write");
        draft.write("plan.json", &plan.to_bytes()).expect("write");
        draft.publish().expect("publish")
    }

    pub(crate) fn plain(&self, name: &str) -> Container {
        self.container(name, Network::Private, CreateDoc::default())
    }

    pub(crate) fn one_off(&self, name: &str, keep_on_failure: bool) -> Container {
        self.container(
            name,
            Network::Private,
            CreateDoc { auto_remove: true, keep_on_failure, ..CreateDoc::default() },
        )
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_oci-spawn"));
        command.env("OCIPIPE_STORE", self.store.path()).args(args).stdin(Stdio::piped());
        command
    }

    /// Runs the tool with this on stdin.
    pub(crate) fn spawn(&self, input: &[u8], args: &[&str]) -> Output {
        let mut child =
            self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the tool");
        // A tool that refuses its command line does not read.
        let _ = child.stdin.take().expect("piped").write_all(input);
        child.wait_with_output().expect("wait")
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        self.store.container(name).is_ok()
    }
}

pub(crate) fn line(container: &Container) -> Vec<u8> {
    let mut bytes = Line::Container(container.line().expect("line")).to_json().to_string().into_bytes();
    bytes.push(b'\n');
    bytes
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

/// Waits until the container has this status.
pub(crate) fn wait_for(container: &Container, status: Status) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        if container.state().is_ok_and(|state| state.now() == status && !state.is_being_recorded()) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("never {status}: {:?}", container.state());
}

#[allow(dead_code, reason = "not every test file waits for the tool itself")]
pub(crate) fn wait(mut child: Child) -> i32 {
    child.wait().expect("wait").code().unwrap_or(-1)
}
