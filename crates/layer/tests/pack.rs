//! Trees packed into archives that other programs read: GNU tar, Python's tarfile, the kernel's overlayfs.

mod packing;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use layer::{PackError, PackOptions, Packed, Warning, pack_merged, pack_plain, pack_under, pack_upper};
use rustix::fs::{CWD, FileType, Mode, Timestamps};
use sys::Root;

use packing::{extracted, listing, mknod, open, packed, set_xattr, tree};

fn set_mtime(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).expect("utimensat");
}

fn plain(dir: &Path) -> (Vec<u8>, Packed, Vec<Warning>) {
    packed(|out, warn| pack_plain(&open(dir), PackOptions::default(), out, warn))
}

fn upper(dir: &Path, base: Option<&Path>) -> (Vec<u8>, Packed, Vec<Warning>) {
    let base = base.map(open);
    packed(|out, warn| pack_upper(&open(dir), base.as_ref(), PackOptions::default(), out, warn))
}

/// The names in an archive, as Python's tarfile reads them.
fn names(archive: &[u8]) -> Vec<String> {
    let script = "import sys,tarfile\nfor m in tarfile.open(sys.argv[1]): print(ascii(m.name)[1:-1])";
    python(archive, script).lines().map(str::to_owned).collect()
}

fn python(archive: &[u8], script: &str) -> String {
    let dir = tree();
    let file = dir.path().join("a.tar");
    fs::write(&file, archive).expect("write");
    let out = Command::new("python3").args(["-c", script]).arg(&file).output().expect("python3");
    assert!(out.status.success(), "python3: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// One of each thing a layer can hold.
fn everything(at: &Path) {
    let long = "n".repeat(250);
    fs::create_dir_all(at.join(format!("deep/{long}/{long}"))).expect("mkdir");
    fs::write(at.join(format!("deep/{long}/{long}/file")), "deep").expect("write");
    fs::write(at.join("setuid"), "#!").expect("write");
    fs::set_permissions(at.join("setuid"), fs::Permissions::from_mode(0o6755)).expect("chmod");
    fs::write(at.join("big-ids"), "").expect("write");
    std::os::unix::fs::chown(at.join("big-ids"), Some(3_000_000_000), Some(4_000_000_000)).expect("chown");
    fs::write(at.join("linked-b"), "one inode").expect("write");
    fs::hard_link(at.join("linked-b"), at.join("linked-a")).expect("link");
    symlink("x".repeat(300), at.join("long-link")).expect("symlink");
    symlink("/etc/passwd", at.join("absolute-link")).expect("symlink");
    mknod(&at.join("fifo"), FileType::Fifo, 0, 0);
    mknod(&at.join("char"), FileType::CharacterDevice, 1, 7);
    mknod(&at.join("block"), FileType::BlockDevice, 4095, 1_048_575);
    fs::write(at.join("attributes"), "").expect("write");
    set_xattr(&at.join("attributes"), "user.binary", b"\0\n=\xff");
    set_xattr(&at.join("attributes"), "user.empty", b"");
    // VFS_CAP_REVISION_2 with cap_net_raw, effective.
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    set_xattr(&at.join("attributes"), "security.capability", &capability);
    fs::write(at.join("new\nline \\ -\u{fc}"), "odd").expect("write");
    for size in [511, 512, 65_537, 1_000_003, 3_000_003] {
        let bytes: Vec<u8> = (0..size).map(|n: u32| (n % 251) as u8 + 1).collect();
        fs::write(at.join(format!("sized-{size}")), bytes).expect("write");
    }
    let sparse = fs::File::create(at.join("sparse")).expect("create");
    sparse.set_len(1 << 26).expect("size");
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"data", 5_000_001).expect("write");
    fs::create_dir(at.join("sticky")).expect("mkdir");
    fs::set_permissions(at.join("sticky"), fs::Permissions::from_mode(0o1777)).expect("chmod");
    for (name, seconds, nanoseconds) in [("setuid", 1, 5), ("big-ids", -1, 500_000_000), ("fifo", 1 << 33, 0)]
    {
        set_mtime(&at.join(name), seconds, nanoseconds);
    }
    set_mtime(&at.join("absolute-link"), 1_000_000_000, 123_456_789);
}

#[test]
fn gnu_tar_extracts_the_tree_that_was_packed() {
    let dir = tree();
    everything(dir.path());
    let (archive, told, warnings) = plain(dir.path());
    assert_eq!(warnings, []);
    assert!(archive.len() < 6_000_000, "holes are not written");
    assert_eq!(told.entries as usize, names(&archive).len(), "Python sees as many members");
    assert_eq!(listing(dir.path()), listing(extracted(&archive).path()));
}

#[test]
fn what_was_packed_unpacks_to_the_same_tree_and_packs_to_the_same_bytes() {
    let (dir, base) = (tree(), tree());
    everything(dir.path());
    mknod(&dir.path().join("deep/gone"), FileType::CharacterDevice, 0, 0);
    set_xattr(&dir.path().join("sticky"), "user.overlay.opaque", b"y");
    set_mtime(base.path(), 1, 0);
    let (archive, ..) = upper(dir.path(), Some(base.path()));
    let again = tree();
    let unpacked =
        layer::unpack(&archive[..], layer::Encoding::None, &open(again.path()), &Default::default());
    assert_eq!(unpacked.expect("unpack").implied, Vec::<Vec<u8>>::new());
    // A whiteout has no time of its own.
    let normal = |dir: &Path| {
        let lines = listing(dir);
        lines.lines().filter(|line| !line.contains("deep/gone")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(normal(dir.path()), normal(again.path()));
    assert!(upper(again.path(), Some(base.path())).0 == archive);
}

#[test]
fn python_reads_names_times_and_attributes() {
    let dir = tree();
    fs::write(dir.path().join("f"), "data").expect("write");
    set_xattr(&dir.path().join("f"), "user.k", b"v");
    set_mtime(&dir.path().join("f"), 1_700_000_000, 250_000_000);
    let script = "import sys,tarfile\nm=tarfile.open(sys.argv[1]).getmember('f')\n\
                  print(m.size,m.mtime,m.uname,m.gname,m.pax_headers)";
    let want = "4 1700000000.25   {'mtime': '1700000000.25', 'SCHILY.xattr.user.k': 'v'}\n";
    assert_eq!(python(&plain(dir.path()).0, script), want);
}

#[test]
fn packing_twice_gives_the_same_bytes_whatever_order_the_files_were_made_in() {
    let (one, two) = (tree(), tree());
    for (dir, order) in [(&one, ["a", "b", "c"]), (&two, ["c", "a", "b"])] {
        for name in order {
            fs::write(dir.path().join(name), name).expect("write");
            set_mtime(&dir.path().join(name), 5, 0);
        }
        set_mtime(dir.path(), 5, 0);
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    }
    assert!(plain(one.path()).0 == plain(two.path()).0);
}

#[test]
fn source_date_epoch_clamps_newer_times_only() {
    let dir = tree();
    for (name, seconds) in [("new", 2000), ("old", 500)] {
        fs::write(dir.path().join(name), "").expect("write");
        set_mtime(&dir.path().join(name), seconds, 7);
    }
    let options = PackOptions { epoch: Some(1000) };
    let (archive, ..) = packed(|out, warn| pack_plain(&open(dir.path()), options, out, warn));
    let at = extracted(&archive);
    let times = ["new", "old"].map(|name| fs::metadata(at.path().join(name)).expect("stat"));
    assert_eq!(times.map(|m| (m.mtime(), m.mtime_nsec())), [(1000, 0), (500, 7)]);
}

#[test]
fn overlay_marks_become_the_marks_of_a_layer() {
    let dir = tree();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("opaque/inner")).expect("mkdir");
    set_xattr(&at("opaque"), "user.overlay.opaque", b"y");
    set_xattr(&at("opaque/inner"), "user.overlay.origin", b"noise");
    set_xattr(&at("opaque/inner"), "trusted.overlay.redirect", b"/etc");
    mknod(&at("gone"), FileType::CharacterDevice, 0, 0);
    fs::hard_link(at("gone"), at("opaque/gone-too")).expect("link");
    let (archive, ..) = upper(dir.path(), Some(dir.path()));
    let want = [".wh.gone", "opaque", "opaque/.wh..wh..opq", "opaque/.wh.gone-too", "opaque/inner"];
    assert_eq!(names(&archive), want);
    assert!(!archive.windows(8).any(|w| w == b".overlay"), "no mark of overlayfs is left");
}

#[test]
fn no_change_gives_an_archive_without_members() {
    let (changed, base) = (tree(), tree());
    set_mtime(changed.path(), 100, 0);
    set_mtime(base.path(), 100, 0);
    let (archive, told, _) = upper(changed.path(), Some(base.path()));
    assert_eq!((archive, told.entries), (vec![0; 1024], 0));
    fs::set_permissions(changed.path(), fs::Permissions::from_mode(0o711)).expect("chmod");
    assert_eq!(names(&upper(changed.path(), Some(base.path())).0), ["."]);
}

#[test]
fn hostile_entries_are_links_devices_and_warnings_never_followed_or_opened() {
    let (dir, outside) = (tree(), tree());
    let at = |name: &str| dir.path().join(name);
    fs::write(outside.path().join("canary"), "CANARY").expect("write");
    symlink(outside.path(), at("dir-link")).expect("symlink");
    symlink(outside.path().join("canary"), at("link")).expect("symlink");
    mknod(&at("fifo"), FileType::Fifo, 0, 0);
    mknod(&at("watchdog"), FileType::CharacterDevice, 10, 130);
    let _listening = std::os::unix::net::UnixListener::bind(at("socket")).expect("bind");
    fs::write(at(&"n".repeat(255)), "").expect("write");
    let (archive, told, warnings) = plain(dir.path());
    assert_eq!(warnings, [Warning::Socket("\"socket\"".into())]);
    assert_eq!(told.entries, 6);
    assert!(!archive.windows(6).any(|w| w == b"CANARY"));
}

#[test]
fn names_that_mean_deletions_are_refused_by_name() {
    let dir = tree();
    fs::write(dir.path().join(".wh.x"), "").expect("write");
    let failed = pack_plain(&open(dir.path()), PackOptions::default(), &mut Vec::new(), &mut |_| ());
    assert!(matches!(failed, Err(PackError::Reserved { path }) if path == "\".wh.x\""));
    let dir = tree();
    mknod(&dir.path().join("c"), FileType::CharacterDevice, 0, 0);
    let failed = pack_plain(&open(dir.path()), PackOptions::default(), &mut Vec::new(), &mut |_| ());
    assert!(matches!(failed, Err(PackError::Whiteout { path }) if path == "\"c\""));
}

#[test]
fn a_directory_swapped_for_a_symlink_while_packing_never_lets_the_canary_in() {
    let (dir, outside) = (tree(), tree());
    fs::write(outside.path().join("file"), "CANARY").expect("write");
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(dir.path().join("d")).expect("mkdir");
    fs::write(dir.path().join("d/file"), "inside").expect("write");
    symlink(outside.path(), dir.path().join("l")).expect("symlink");
    fs::write(dir.path().join("f"), "inside").expect("write");
    symlink(outside.path().join("file"), dir.path().join("g")).expect("symlink");
    testkit::exchanging(&[(&at("d"), &at("l")), (&at("f"), &at("g"))], || {
        let mut seen = [0; 2];
        let mut canaries = 0;
        let begin = std::time::Instant::now();
        // A loaded machine may not let the other thread run for long.
        while seen.iter().any(|&times| times < 100) && begin.elapsed().as_secs() < 60
            || seen[0] + seen[1] < 1000
        {
            let mut archive = Vec::new();
            let root = open(dir.path());
            if pack_plain(&root, PackOptions::default(), &mut archive, &mut |_| ()).is_ok() {
                canaries += usize::from(archive.windows(6).any(|w| w == b"CANARY"));
                seen[usize::from(archive.windows(7).any(|w| w == b"d/file\0"))] += 1;
            }
        }
        assert_eq!(canaries, 0, "the canary came in");
        assert!(seen.iter().all(|&times| times > 0), "the swap was never seen: {seen:?}");
    });
}

/// A tree of so many levels, removed with all its depth when dropped.
struct Deep(tempfile::TempDir);

impl Deep {
    fn of(levels: usize) -> Self {
        let dir = tree();
        let mut deepest = open(dir.path());
        for _ in 0..levels {
            rustix::fs::mkdirat(&deepest, "d", Mode::RWXU).expect("mkdir");
            deepest = deepest.open_dir("d").expect("open");
        }
        Self(dir)
    }
}

impl Drop for Deep {
    fn drop(&mut self) {
        let _ = Command::new("rm").arg("-rf").arg(self.0.path()).status();
    }
}

/// The processor time that this thread takes for something.
fn processor_time(act: impl FnOnce()) -> Duration {
    let before = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    act();
    let after = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(after.tv_sec as u64, after.tv_nsec as u32)
        .saturating_sub(Duration::new(before.tv_sec as u64, before.tv_nsec as u32))
}

#[test]
fn eight_thousand_levels_take_no_way_from_the_root_for_each_step_back() {
    let deep = Deep::of(8000);
    let root = open(deep.0.path());
    let mut entries = 0;
    let spent = processor_time(|| {
        let mut out = std::io::sink();
        let packed = pack_under(&root, "x".as_ref(), PackOptions::default(), &mut out, &mut |_| ());
        entries = packed.expect("pack").entries;
    });
    assert_eq!(entries, 8001);
    // The way from the root each time is thirty million openings, more than a minute; this is some 40,000.
    assert!(spent < Duration::from_secs(20), "{spent:?} of processor time");
}

#[test]
fn a_tree_that_is_deeper_than_a_layer_may_be_is_refused_by_the_limits_name() {
    for (levels, fits) in [(2047, true), (2048, true), (2049, false), (3000, false)] {
        let deep = Deep::of(levels);
        let packed = pack_plain(&open(deep.0.path()), PackOptions::default(), &mut Vec::new(), &mut |_| ());
        assert_eq!(packed.is_ok(), fits, "{levels}");
        let Err(error) = packed else { continue };
        assert_eq!(descriptor::Classify::exit(&error), descriptor::Exit::Content);
        assert!(error.to_string().ends_with("no layer has more levels of directories than 2048"), "{error}");
        assert!(error.to_string().len() < 500, "{error}");
    }
}

#[test]
fn a_name_that_no_layer_can_hold_is_refused_by_the_limits_name() {
    for (last, fits) in [(95, true), (96, false)] {
        let dir = tree();
        let mut deepest = open(dir.path());
        for name in vec!["n".repeat(199); 20].into_iter().chain(["m".repeat(last)]) {
            rustix::fs::mkdirat(&deepest, &*name, Mode::RWXU).expect("mkdir");
            deepest = deepest.open_dir(&name).expect("open");
        }
        let packed = pack_plain(&open(dir.path()), PackOptions::default(), &mut Vec::new(), &mut |_| ());
        let told = packed.err().map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(told.ends_with("no layer has more bytes of a name than 4095"), !fits, "{last}: {told}");
        Command::new("rm").arg("-rf").arg(dir.path()).status().expect("rm");
    }
}

#[test]
fn what_is_mounted_in_a_tree_stays_out() {
    let dir = tree();
    fs::create_dir(dir.path().join("m")).expect("mkdir");
    let mount = Command::new("mount").args(["-t", "tmpfs", "none"]).arg(dir.path().join("m")).status();
    assert!(mount.expect("mount").success());
    fs::write(dir.path().join("m/foreign"), "").expect("write");
    let (archive, _, warnings) = plain(dir.path());
    assert!(Command::new("umount").arg(dir.path().join("m")).status().expect("umount").success());
    assert_eq!(names(&archive), [".", "m"]);
    assert_eq!(warnings, [Warning::MountPoint("\"m\"".into())]);
}

/// Lower trees with everything that can hide something, uppermost first.
fn stack(dir: &Path) -> [std::path::PathBuf; 3] {
    let trees = ["top", "middle", "bottom"].map(|name| dir.join(name));
    let [top, middle, bottom] = &trees;
    for tree in &trees {
        fs::create_dir(tree).expect("mkdir");
    }
    everything(bottom);
    for name in ["a", "b", "merged", "hidden", "again", "to-file", "to-dir-parent"] {
        fs::create_dir(bottom.join(name)).expect("mkdir");
        fs::write(bottom.join(name).join("low"), "low").expect("write");
    }
    fs::write(bottom.join("to-dir"), "file below").expect("write");
    for name in ["merged", "hidden"] {
        fs::create_dir(middle.join(name)).expect("mkdir");
        fs::write(middle.join(name).join("mid"), "mid").expect("write");
    }
    fs::set_permissions(middle.join("merged"), fs::Permissions::from_mode(0o700)).expect("chmod");
    set_xattr(&middle.join("hidden"), "user.overlay.opaque", b"y");
    mknod(&middle.join("again"), FileType::CharacterDevice, 0, 0);
    mknod(&middle.join("linked-a"), FileType::CharacterDevice, 0, 0);
    fs::write(middle.join("to-file"), "was a directory").expect("write");
    fs::create_dir_all(top.join("to-dir/inner")).expect("mkdir");
    for name in ["again", "merged", "hidden", "to-file"] {
        fs::create_dir(top.join(name)).expect("mkdir");
        fs::write(top.join(name).join("high"), "high").expect("write");
    }
    mknod(&top.join("a"), FileType::CharacterDevice, 0, 0);
    mknod(&top.join("merged/low"), FileType::CharacterDevice, 0, 0);
    trees
}

#[test]
fn flattening_gives_what_overlayfs_shows() {
    let dir = tree();
    let trees = stack(dir.path());
    let roots = trees.each_ref().map(|path| open(path));
    let roots: Vec<&Root> = roots.iter().collect();
    let (archive, ..) = packed(|out, warn| pack_merged(&roots, PackOptions::default(), out, warn));
    let view = dir.path().join("view");
    fs::create_dir(&view).expect("mkdir");
    let lowers = trees.each_ref().map(|path| path.to_str().expect("utf-8")).join(":");
    let options = format!("lowerdir={lowers},userxattr");
    let mount = Command::new("mount").args(["-t", "overlay", "none", "-o", &options]).arg(&view).status();
    assert!(mount.expect("mount").success());
    let shown = listing(&view);
    assert!(Command::new("umount").arg(&view).status().expect("umount").success());
    assert_eq!(listing(extracted(&archive).path()), shown);
}
