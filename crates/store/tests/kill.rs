//! kill -9 at every system call of everything a store does: the next call goes on, and nothing half-made is left.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use descriptor::{Descriptor, Digest, media};
use store::{Claim, CreateDoc, Form, Ingest, LayerMeta, Store};

const HELPER: &str = "STORE_TEST_LIFE";
/// The calls that change something, and how many of them lie between two kills: of the frequent ones not each is tried.
const CALLS: [(&str, usize); 12] = [
    ("openat2", 7),
    ("fcntl", 7),
    ("write", 1),
    ("pwrite64", 1),
    ("fsync", 1),
    ("syncfs", 1),
    ("renameat", 1),
    ("renameat2", 1),
    ("unlinkat", 1),
    ("mkdirat", 1),
    ("symlinkat", 1),
    ("fchmod", 1),
];

/// Not a test of its own: the process that is killed.
#[test]
fn helper_process() {
    if let Some(dir) = std::env::var_os(HELPER) {
        live(Path::new(&dir));
    }
}

/// Something of everything.
fn live(dir: &Path) {
    let store = Store::open(Some(dir)).expect("open");
    blob(&store);
    let config = store
        .put_document(br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#);
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"{}","digest":"{}","size":78}},"layers":[]}}"#,
        media::OCI_CONFIG,
        config.expect("config")
    );
    store.put_document(manifest.as_bytes()).expect("manifest");
    store.tag("app:1", &Descriptor::of(media::OCI_MANIFEST, manifest.as_bytes())).expect("tag");
    let id = Digest::of(b"layer");
    if let Claim::Mine(draft) = store.claim_layer(Form::Identity, &id).expect("claim") {
        let meta = LayerMeta { diff_id: id, entries: 0, bytes: 0, implied: Vec::new(), masking: Vec::new() };
        draft.publish(&store, meta).expect("publish");
    }
    for name in ["web", "old"] {
        if let Ok(old) = store.container(name) {
            let lock = old.lock().expect("lock");
            old.remove().expect("remove");
            drop(lock);
        }
    }
    let doc = CreateDoc { name: "web".into(), ..CreateDoc::default() };
    let web = store.draft_container(&doc).expect("draft").publish().expect("publish");
    let lock = web.lock().expect("lock");
    let mut state = web.state().expect("state");
    state.set_stopped(Some(0));
    web.set_state(&state).expect("state");
    drop(lock);
    web.rename("old").expect("rename");
    drop(store.create_volume("data", &std::collections::BTreeMap::new()).expect("volume"));
    store.remove_volume("data").expect("remove");
}

fn blob(store: &Store) {
    let bytes = vec![7; 40_000];
    let mut ingest = store.ingest(&Digest::of(&bytes), 40_000).expect("ingest");
    loop {
        ingest = match ingest {
            Ingest::Present => return,
            Ingest::Busy(wait) => wait.wait().expect("wait"),
            Ingest::Writer(mut writer) => {
                for chunk in bytes[writer.offset() as usize..].chunks(10_000) {
                    writer.write_all(chunk).expect("write");
                }
                return writer.finish().expect("finish");
            }
        }
    }
}

/// Runs a life that is killed as it enters the `when`th of `call`; false where it outlived that.
fn killed(dir: &Path, call: &str, when: usize) -> bool {
    let exe = std::env::current_exe().expect("the test's own path");
    let status = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")])
        .args(["-e", &format!("inject={call}:signal=KILL:when={when}")])
        .arg(exe)
        .args(["--exact", "helper_process"])
        .env(HELPER, dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("strace");
    assert!(
        status.success() || status.signal() == Some(9) || status.code() == Some(137),
        "{call} {when}: {status}"
    );
    !status.success()
}

#[test]
fn a_kill_at_any_system_call_leaves_a_store_that_goes_on() {
    if !Command::new("strace").arg("-V").output().is_ok_and(|out| out.status.success()) {
        testkit::skip("strace is not installed");
        return;
    }
    let mut kills = 0;
    for fresh in [true, false] {
        for (call, step) in CALLS {
            let dir = tempfile::tempdir().expect("tempdir");
            let at = dir.path().join("store");
            if !fresh {
                live(&at);
            }
            for when in (1..).step_by(step) {
                if fresh {
                    // A store that was never whole, each time.
                    let _ = std::fs::remove_dir_all(&at);
                }
                if !killed(&at, call, when) {
                    break;
                }
                kills += 1;
                live(&at);
                let report = Store::open(Some(&at)).expect("open").check().expect("check");
                assert_eq!((&report.findings[..], &report.notes[..]), (&[][..], &[][..]), "{call} {when}");
                assert!(
                    std::fs::read_dir(at.join("staging")).expect("staging").next().is_none(),
                    "{call} {when}"
                );
            }
        }
    }
    assert!(kills > 60, "only {kills} kills");
}
