//! Writers and followers of one blob, in one process and in several.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use descriptor::Digest;
use store::{BlobWriter, Error, Ingest, Store};

const HELPER: &str = "STORE_TEST_HELPER";

fn open(dir: &Path) -> Store {
    Store::open(Some(dir)).expect("a store")
}

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|n| (n * 7 % 251) as u8).collect()
}

fn writer(store: &Store, blob: &[u8]) -> BlobWriter {
    match store.ingest(&Digest::of(blob), blob.len() as u64).expect("ingest") {
        Ingest::Writer(writer) => writer,
        other => panic!("not the writer: {other:?}"),
    }
}

/// Runs this test binary again as another process on the same store.
fn helper(job: &str, dir: &Path) -> Child {
    let exe = std::env::current_exe().expect("the test's own path");
    Command::new(exe)
        .args(["--exact", "helper_process", "--nocapture"])
        .env(HELPER, format!("{job} {}", dir.display()))
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("spawn")
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < Duration::from_secs(20), "{what} did not happen");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Not a test of its own: the other process of the tests here.
#[test]
fn helper_process() {
    let Ok(job) = std::env::var(HELPER) else { return };
    let (job, dir) = job.split_once(' ').expect("job and directory");
    let store = open(Path::new(dir));
    let blob = bytes(1 << 20);
    match job {
        "half" => {
            let mut writer = writer(&store, &blob);
            let half = writer.offset() as usize + 300_000;
            writer.write_all(&blob[writer.offset() as usize..half.min(blob.len())]).expect("write");
            std::thread::sleep(Duration::from_secs(60));
        }
        "whole" => whole(&store, &blob),
        other => panic!("unknown job {other}"),
    }
}

/// Writes the blob, or waits until it is there, whatever it takes.
fn whole(store: &Store, blob: &[u8]) {
    let digest = Digest::of(blob);
    let mut ingest = store.ingest(&digest, blob.len() as u64).expect("ingest");
    loop {
        ingest = match ingest {
            Ingest::Present => return,
            Ingest::Busy(wait) => wait.wait().expect("wait"),
            Ingest::Writer(mut writer) => {
                for chunk in blob[writer.offset() as usize..].chunks(4096) {
                    writer.write_all(chunk).expect("write");
                }
                return writer.finish().expect("finish");
            }
        }
    }
}

#[test]
fn a_blob_appears_whole_and_leaves_nothing_in_ingest() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let blob = bytes(100_000);
    let digest = Digest::of(&blob);
    let mut writer = writer(&store, &blob);
    writer.write_all(&blob).expect("write");
    assert_eq!(store.has_blob(&digest).expect("has"), None);
    writer.finish().expect("finish");
    assert_eq!(store.has_blob(&digest).expect("has"), Some(100_000));
    assert_eq!(std::fs::read_dir(dir.path().join("ingest")).expect("ingest").count(), 0);
    assert_eq!(std::fs::read_dir(dir.path().join("staging")).expect("staging").count(), 0);
    assert!(matches!(store.ingest(&digest, 100_000).expect("ingest"), Ingest::Present));
}

#[test]
fn bytes_that_do_not_hash_to_the_name_are_thrown_away() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let blob = bytes(5000);
    let mut writer = writer(&store, &blob);
    writer.write_all(&[0; 5000]).expect("write");
    assert!(matches!(writer.finish(), Err(Error::WrongDigest { .. })));
    assert_eq!(writer.offset(), 0);
    writer.write_all(&blob).expect("the same writer may try again");
    writer.finish().expect("finish");
}

#[test]
fn a_short_blob_is_not_published_and_a_long_one_is_cut_off() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let blob = bytes(5000);
    let mut writer = writer(&store, &blob);
    writer.write_all(&blob[..4999]).expect("write");
    assert!(matches!(writer.finish(), Err(Error::WrongSize { wanted: 5000, got: 4999, .. })));
    assert!(writer.append(&[1, 2]).is_err());
    assert_eq!(store.has_blob(&Digest::of(&blob)).expect("has"), None);
}

#[test]
fn a_killed_writers_bytes_are_resumed_by_the_next_process() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let blob = bytes(1 << 20);
    let file = dir.path().join("ingest").join(Digest::of(&blob).hex());
    let mut child = helper("half", dir.path());
    wait_for("half a blob", || std::fs::metadata(&file).is_ok_and(|m| m.len() == 300_000));
    let busy = store.ingest(&Digest::of(&blob), blob.len() as u64).expect("ingest");
    let Ingest::Busy(wait) = busy else { panic!("the other process writes, but: {busy:?}") };
    child.kill().expect("kill");
    child.wait().expect("wait");
    let Ingest::Writer(mut writer) = wait.wait().expect("wait") else { panic!("nobody else writes") };
    assert_eq!(writer.offset(), 300_000);
    assert!(writer.was_resumed());
    writer.write_all(&blob[300_000..]).expect("write");
    writer.finish().expect("the whole hashes to the name");
}

#[test]
fn damaged_bytes_of_an_earlier_writer_are_found_and_fetched_again() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let blob = bytes(5000);
    std::fs::write(dir.path().join("ingest").join(Digest::of(&blob).hex()), [9; 3000]).expect("write");
    let mut writer = writer(&store, &blob);
    assert_eq!(writer.offset(), 3000);
    writer.write_all(&blob[3000..]).expect("write");
    assert!(matches!(writer.finish(), Err(Error::WrongDigest { .. })));
    writer.write_all(&blob).expect("write");
    writer.finish().expect("finish");
}

#[test]
fn eight_processes_fetch_one_blob_also_when_its_writer_is_killed() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let blob = bytes(1 << 20);
    let file = dir.path().join("ingest").join(Digest::of(&blob).hex());
    let mut first = helper("half", dir.path());
    wait_for("a writer", || file.exists());
    let rest: Vec<Child> = (0..8).map(|_| helper("whole", dir.path())).collect();
    std::thread::sleep(Duration::from_millis(50));
    first.kill().expect("kill");
    first.wait().expect("wait");
    for mut child in rest {
        assert!(child.wait().expect("wait").success());
    }
    assert_eq!(store.check().expect("check").findings, []);
}

#[test]
fn a_follower_reads_a_blob_while_it_is_written() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let blob = bytes(1 << 20);
    let mut writer = writer(&store, &blob);
    let reader = {
        let (store, digest, size) = (open(dir.path()), Digest::of(&blob), blob.len() as u64);
        std::thread::spawn(move || {
            let mut follower = store.follow(&digest, size).expect("follow");
            let mut got = Vec::new();
            follower.read_to_end(&mut got).expect("read");
            assert!(follower.was_verified_by_writer());
            follower.verify().expect("verify");
            got
        })
    };
    for chunk in blob.chunks(100_000) {
        std::thread::sleep(Duration::from_millis(3));
        writer.write_all(chunk).expect("write");
    }
    std::thread::sleep(Duration::from_millis(30));
    writer.finish().expect("finish");
    assert!(reader.join().expect("reader") == blob);
}

#[test]
fn a_follower_of_a_blob_that_is_there_verifies_it_itself() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let blob = bytes(3000);
    let digest = store.put_document(&blob).expect("put");
    let mut follower = store.follow(&digest, 3000).expect("follow");
    follower.read_exact(&mut [0; 10]).expect("read");
    assert!(!follower.was_verified_by_writer());
    follower.verify().expect("verify");
    std::fs::write(dir.path().join("blobs/sha256").join(digest.hex()), [7; 3000]).expect("damage");
    let follower = store.follow(&digest, 3000).expect("follow");
    assert!(matches!(follower.verify(), Err(Error::WrongDigest { .. })));
}

#[test]
fn a_follower_is_told_when_the_writer_starts_over() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let blob = bytes(3000);
    let mut writer = writer(&store, &blob);
    writer.write_all(&[0; 3000]).expect("write");
    let mut follower = store.follow(&Digest::of(&blob), 3000).expect("follow");
    follower.read_exact(&mut [0; 1000]).expect("read");
    assert!(writer.finish().is_err());
    std::io::copy(&mut follower, &mut std::io::sink()).expect("what is there can still be read");
    assert!(matches!(follower.verify(), Err(Error::Restarted(_))));
}

#[test]
fn a_follower_sees_a_takeover_by_another_writer_as_one_stream() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let blob = bytes(1 << 20);
    let file = dir.path().join("ingest").join(Digest::of(&blob).hex());
    let mut first = helper("half", dir.path());
    wait_for("half a blob", || std::fs::metadata(&file).is_ok_and(|m| m.len() == 300_000));
    let mut follower = store.follow(&Digest::of(&blob), blob.len() as u64).expect("follow");
    let mut got = vec![0; 200_000];
    follower.read_exact(&mut got).expect("read");
    first.kill().expect("kill");
    first.wait().expect("wait");
    let mut second = helper("whole", dir.path());
    follower.read_to_end(&mut got).expect("read");
    follower.verify().expect("verify");
    assert!(got == blob);
    assert!(second.wait().expect("wait").success());
}

#[test]
fn a_follower_gives_up_a_blob_whose_writer_died_and_names_it() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let blob = bytes(3000);
    let mut writer = writer(&store, &blob);
    writer.write_all(&blob[..1000]).expect("write");
    let mut follower = store.follow(&Digest::of(&blob), 3000).expect("follow");
    drop(writer);
    let begin = Instant::now();
    let error = std::io::copy(&mut follower, &mut std::io::sink()).expect_err("no writer");
    assert!(begin.elapsed() > Duration::from_secs(4), "the grace");
    assert!(matches!(Error::inside(&error), Some(Error::Abandoned { got: 1000, size: 3000, .. })));
    assert!(error.to_string().contains(&Digest::of(&blob).hex()));
}

#[test]
fn kill_9_at_random_moments_never_leaves_a_store_that_a_rerun_does_not_heal() {
    let dir = tempfile::tempdir().expect("tempdir");
    let blob = bytes(1 << 20);
    for round in 0..30_u64 {
        let mut child = helper("whole", dir.path());
        std::thread::sleep(Duration::from_micros(round * 400));
        child.kill().expect("kill");
        child.wait().expect("wait");
    }
    let store = open(dir.path());
    whole(&store, &blob);
    let report = store.check().expect("check");
    assert_eq!((report.findings, report.notes), (vec![], vec![]));
}
