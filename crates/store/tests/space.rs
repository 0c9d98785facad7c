//! A full disk: a clear error, nothing half-visible, and the same call works once there is space.

use std::path::Path;
use std::process::Command;

use descriptor::{Classify, Descriptor, Digest, Exit, media};
use store::{CreateDoc, Error, Ingest, Store};

/// A small file system that goes with this value.
struct Small(tempfile::TempDir);

impl Small {
    fn of(kilobytes: usize) -> Option<Self> {
        let dir = tempfile::tempdir().expect("tempdir");
        let size = format!("size={kilobytes}k");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(dir.path()).status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(dir));
        }
        testkit::skip("mounting a tmpfs needs privileges");
        None
    }

    fn grow(&self) {
        let status = Command::new("mount").args(["-o", "remount,size=64m"]).arg(self.0.path()).status();
        assert!(status.expect("mount").success());
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn fill(store: &Store) -> store::Result<()> {
    let bytes = vec![3; 300_000];
    match store.ingest(&Digest::of(&bytes), bytes.len() as u64)? {
        Ingest::Writer(mut writer) => {
            let done = writer.offset() as usize;
            for chunk in bytes[done..].chunks(9_999) {
                writer.append(chunk)?;
            }
            writer.finish()?;
        }
        other => assert!(matches!(other, Ingest::Present)),
    }
    let digest = store.put_document(&vec![b' '; 20_000])?;
    store.tag("app:1", &Descriptor::new(media::OCI_MANIFEST, digest, 20_000))?;
    if let Err(Error::NoContainer(_)) = store.container("web") {
        let doc = CreateDoc { name: "web".into(), ..CreateDoc::default() };
        store.draft_container(&doc)?.publish()?;
    }
    Ok(())
}

#[test]
fn at_any_size_of_the_disk_the_call_works_or_says_that_it_is_full_and_works_later() {
    let mut full = 0;
    for kilobytes in (8..480).step_by(12) {
        let Some(small) = Small::of(kilobytes) else { return };
        let at = small.path().join("store");
        let outcome = Store::open(Some(&at)).and_then(|store| fill(&store));
        if let Err(error) = outcome {
            assert_eq!(error.exit(), Exit::Space, "{kilobytes} kB: {error}");
            full += 1;
        }
        small.grow();
        let store = Store::open(Some(&at)).expect("space again");
        fill(&store).unwrap_or_else(|e| panic!("{kilobytes} kB, after growing: {e}"));
        let report = store.check().expect("check");
        // The tagged document is only spaces: that, and nothing else, is found.
        assert!(
            report.findings.iter().all(|f| f.what.starts_with("image ")),
            "{kilobytes} kB: {:?}",
            report.findings
        );
        assert!(report.notes.is_empty(), "{kilobytes} kB: {:?}", report.notes);
    }
    assert!(full > 10, "the disk was full {full} times only");
}
