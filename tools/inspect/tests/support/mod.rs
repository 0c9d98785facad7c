//! A store made for a test, and the real binary on it.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use std::process::{Command, Output, Stdio};

use descriptor::{Descriptor, Digest, Line, media};
use store::{Claim, Container, CreateDoc, Form, LayerMeta, State, Store};

/// A store with an image, an index, an unpacked layer and a container.
pub struct Fixture {
    pub dir: tempfile::TempDir,
    pub store: Store,
    pub image: Descriptor,
    pub index: Descriptor,
    pub blob: Digest,
    pub diff_id: Digest,
}

/// Makes it.
pub fn fixture() -> Fixture {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = Store::open(Some(&dir.path().join("store"))).expect("store");
    let diff_id = Digest::of(b"a tar");
    let blob = store.put_document(b"a compressed tar").expect("put");
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"Cmd":["sh"]}},"rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
    );
    let config_digest = store.put_document(config.as_bytes()).expect("put");
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{config_digest}","size":{}}},"layers":[{{"mediaType":"{}","digest":"{blob}","size":16}}]}}"#,
        media::OCI_MANIFEST,
        media::OCI_CONFIG,
        config.len(),
        media::OCI_LAYER_GZIP
    );
    store.put_document(manifest.as_bytes()).expect("put");
    let image = Descriptor::of(media::OCI_MANIFEST, manifest.as_bytes());
    let absent = Digest::of(b"absent");
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{{"mediaType":"{m}","digest":"{}","size":{},"platform":{{"os":"linux","architecture":"amd64"}}}},{{"mediaType":"{m}","digest":"{absent}","size":9,"platform":{{"os":"linux","architecture":"arm64"}}}}]}}"#,
        media::OCI_INDEX,
        image.digest,
        image.size,
        m = media::OCI_MANIFEST
    );
    store.put_document(index.as_bytes()).expect("put");
    let index = Descriptor::of(media::OCI_INDEX, index.as_bytes());
    store.tag("docker.io/library/app:1", &image).expect("tag");
    store.tag("localhost/many:1", &index).expect("tag");
    let Claim::Mine(draft) = store.claim_layer(Form::Identity, &diff_id).expect("claim") else {
        panic!("present")
    };
    draft.root().create_dir_all("usr", rustix::fs::Mode::RWXU).expect("mkdir");
    draft
        .publish(
            &store,
            LayerMeta { diff_id, entries: 3, bytes: 5, implied: vec![b"usr".to_vec()], masking: Vec::new() },
        )
        .expect("publish");
    let doc = CreateDoc { name: "web".into(), image: Some(image.digest), ..CreateDoc::default() };
    store.draft_container(&doc).expect("draft").publish().expect("publish");
    Fixture { dir, store, image, index, blob, diff_id }
}

impl Fixture {
    pub fn run(&self, args: &[&str], stdin: &[u8]) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_oci-inspect"))
            .args(args)
            .env("OCIPIPE_STORE", self.store.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("spawn");
        let written = std::io::Write::write_all(&mut child.stdin.take().expect("stdin"), stdin);
        drop(written);
        child.wait_with_output().expect("wait")
    }

    pub fn lines(&self, args: &[&str], stdin: &[u8]) -> Vec<Line> {
        let out = self.run(args, stdin);
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        out.stdout
            .split(|&b| b == b'\n')
            .filter(|l| !l.is_empty())
            .map(|l| Line::parse(l).expect("a line"))
            .collect()
    }

    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        let out = self.run(args, b"");
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_slice(&out.stdout).expect("JSON")
    }

    /// stdout as text.
    pub fn text(&self, args: &[&str]) -> String {
        let out = self.run(args, b"");
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).expect("UTF-8")
    }

    /// A container of the image, with what was chosen for it, its config.json and its state.
    pub fn container(
        &self,
        doc: &CreateDoc,
        spec: &serde_json::Value,
        state: impl FnOnce(&mut State),
    ) -> Container {
        let doc = CreateDoc { image: Some(self.image.digest), diff_ids: vec![self.diff_id], ..doc.clone() };
        let draft = self.store.draft_container(&doc).expect("draft");
        draft.write("config.json", spec.to_string().as_bytes()).expect("config.json");
        let container = draft.publish().expect("publish");
        let mut now = container.state().expect("state");
        state(&mut now);
        container.set_state(&now).expect("write");
        container
    }

    /// What a person sees: the binary on a terminal of its own.
    pub fn on_a_terminal(&self, args: &str) -> String {
        let command = format!("{} {args}", env!("CARGO_BIN_EXE_oci-inspect"));
        let out = Command::new("script")
            .args(["-qec", &command, "/dev/null"])
            .env("OCIPIPE_STORE", self.store.path())
            .stdin(Stdio::null())
            .output()
            .expect("script");
        String::from_utf8_lossy(&out.stdout).replace('\r', "")
    }
}
