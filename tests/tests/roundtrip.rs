//! Every odd thing that a layer can hold comes back as it was: directory → image → unpacked → mounted and changed →
//! committed in each way → unpacked.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
use testkit::tree::{Ignore, assert_same};
use testkit::{World, needs};

/// File capabilities of version 2: CAP_NET_RAW permitted and effective (capabilities(7)).
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn mknod(at: &Path, kind: FileType, major: u32, minor: u32) {
    let device = rustix::fs::makedev(major, minor);
    rustix::fs::mknodat(CWD, at, kind, Mode::from(0o640), device).expect("mknod");
}

fn xattr(at: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(at, name, value, XattrFlags::empty()).expect("lsetxattr");
}

fn time(at: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, at, &times, AtFlags::SYMLINK_NOFOLLOW).expect("utimensat");
}

/// A name of so many bytes; whiteouts of 252 bytes and more are longer than a file's name may be.
fn long(bytes: usize) -> String {
    "l".repeat(bytes)
}

/// Makes one of each thing in a directory; `mark` is in what they hold.
fn everything(at: &Path, mark: &str) {
    fs::create_dir_all(at).expect("mkdir");
    metadata(at, mark);
    let file = at.join("linked");
    fs::write(&file, mark).expect("write");
    for name in ["linked-2", "linked-3"] {
        fs::hard_link(&file, at.join(name)).expect("link");
    }
    symlink("/none/of this", at.join("symlink")).expect("symlink");
    symlink("x".repeat(400), at.join("long-symlink")).expect("symlink");
    fs::hard_link(at.join("symlink"), at.join("symlink-2")).expect("link");
    mknod(&at.join("null"), FileType::CharacterDevice, 1, 3);
    mknod(&at.join("block"), FileType::BlockDevice, 4095, 1_048_575);
    mknod(&at.join("fifo"), FileType::Fifo, 0, 0);
    let holes = File::create(at.join("holes")).expect("create");
    holes.write_all_at(mark.as_bytes(), 3 << 20).expect("write");
    holes.set_len((64 << 20) + 5).expect("a hole at the end");
    fs::write(at.join("written-zeros"), vec![0; 3 << 20]).expect("write");
    for name in
        [&b"new\nline"[..], b"\xff\xfe", b"back\\slash", b"-dash", b" ", b"caf\xc3\xa9", b"cafe\xcc\x81"]
    {
        fs::write(at.join(std::ffi::OsStr::from_bytes(name)), mark).expect("write");
    }
    for (twin, bytes) in [("case", 1), ("CASE", 2)] {
        fs::write(at.join(twin), vec![b'x'; bytes]).expect("write");
    }
    for bytes in [99, 100, 101, 155, 251, 252, 255] {
        fs::write(at.join(long(bytes)), mark).expect("write");
    }
    let deep = at.join(vec![long(200); 12].join("/"));
    fs::create_dir_all(&deep).expect("mkdir");
    fs::write(deep.join("file"), mark).expect("write");
    fs::create_dir(at.join("empty")).expect("mkdir");
    // Last, as what is made in a directory gives it a new time.
    time(&at.join("empty"), 0, 1);
    time(at, 1_234_567_890, 987_654_321);
}

/// Modes, owners, times and attributes.
fn metadata(at: &Path, mark: &str) {
    let file = |name: &str| {
        let path = at.join(name);
        fs::write(&path, mark).expect("write");
        path
    };
    for mode in [0, 0o4755, 0o2755, 0o1777, 0o6711] {
        // The owner first: a change of it takes setuid away.
        let path = file(&format!("mode{mode:o}"));
        std::os::unix::fs::chown(&path, Some(1000), Some(50)).expect("chown");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
    }
    for id in [65_536, 1 << 31, u32::MAX - 1] {
        std::os::unix::fs::chown(file(&format!("owner{id}")), Some(id), Some(id)).expect("chown");
    }
    for (n, (seconds, nanoseconds)) in
        [(0, 0), (-1, 0), (-1, 999_999_999), (1, 1), (1 << 33, 500_000_000)].into_iter().enumerate()
    {
        time(&file(&format!("time{n}")), seconds, nanoseconds);
    }
    let attributes = file("attributes");
    xattr(&attributes, "user.empty", b"");
    xattr(&attributes, "user.bytes\nin name", b"a\0b\n=\xff");
    xattr(&attributes, "trusted.some", &[7; 2000]);
    xattr(&attributes, "security.capability", &CAPABILITY);
    // As setfacl(1) writes user::rw-, user:1000:r--, group::r--, mask::r--, other::---.
    let acl: Vec<u8> =
        [(1_u16, 6_u16, u32::MAX), (2, 4, 1000), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)]
            .iter()
            .fold(vec![2, 0, 0, 0], |acl, (tag, rights, id)| {
                [acl, tag.to_le_bytes().into(), rights.to_le_bytes().into(), id.to_le_bytes().into()].concat()
            });
    xattr(&attributes, "system.posix_acl_access", &acl);
    let sticky = at.join("sticky");
    fs::create_dir(&sticky).expect("mkdir");
    fs::set_permissions(&sticky, fs::Permissions::from_mode(0o3770)).expect("chmod");
    xattr(&sticky, "user.of a directory", b"x");
}

/// What a container does to it all: each thing once changed, removed, and replaced.
fn change(root: &Path) {
    everything(&root.join("new"), "new");
    let old = root.join("old");
    fs::remove_file(old.join("linked-2")).expect("unlink");
    fs::remove_file(old.join("fifo")).expect("unlink");
    // 251 bytes is the longest name that has a whiteout in an archive.
    fs::remove_file(old.join(long(251))).expect("unlink");
    fs::remove_dir_all(root.join("again")).expect("rmdir");
    everything(&root.join("again"), "again");
    fs::remove_dir_all(root.join("moved")).expect("rmdir");
    // overlayfs refuses to rename a directory of a lower tree (EXDEV), and mv(1) copies then.
    assert!(
        Command::new("mv").arg(root.join("from")).arg(root.join("moved")).status().expect("mv").success()
    );
    fs::remove_dir_all(root.join("file-now")).expect("rmdir");
    fs::write(root.join("file-now"), "a file").expect("write");
    fs::remove_file(root.join("dir-now")).expect("unlink");
    everything(&root.join("dir-now"), "directory");
    fs::set_permissions(old.join("case"), fs::Permissions::from_mode(0o4711)).expect("chmod");
    xattr(&old.join("CASE"), "user.later", b"1");
    std::os::unix::fs::chown(old.join("null"), Some(5), Some(6)).expect("chown");
    File::options()
        .write(true)
        .open(old.join("holes"))
        .and_then(|f| f.write_all_at(b"x", 40 << 20))
        .expect("write");
    time(root, 1_111_111_111, 5);
}

/// The directory that all begins with.
fn begin(world: &World) -> PathBuf {
    let odd = world.path("odd");
    for name in ["old", "again", "moved", "from", "file-now"] {
        everything(&odd.join(name), name);
    }
    fs::write(odd.join("dir-now"), "a file").expect("write");
    time(&odd, 1_000_000_000, 1);
    odd
}

/// The kernel's view of trees in overlay form, the uppermost first.
fn view(world: &World, trees: &[PathBuf]) -> PathBuf {
    let at = world.path("view");
    fs::create_dir_all(&at).expect("mkdir");
    let trees: Vec<String> = trees.iter().map(|tree| tree.display().to_string()).collect();
    let options = format!("userxattr,redirect_dir=nofollow,lowerdir={}", trees.join(":"));
    let mount = Command::new("mount").args(["-t", "overlay", "none", "-o", &options]).arg(&at).status();
    assert!(mount.expect("mount").success(), "{options}");
    at
}

/// The tree of an image's lowest layer.
fn layer(world: &World, image: &str) -> PathBuf {
    let ids = world.tool("oci-inspect", &["--format", "docker", image]).ok().text();
    let document: serde_json::Value = serde_json::from_str(&ids).expect("a document");
    let id = document[0]["RootFS"]["Layers"][0].as_str().expect("a diffID").replace(':', "/");
    world.store().join("layers/identity").join(id).join("tree")
}

#[test]
fn every_odd_thing_comes_back_as_it_was() {
    needs!(Root, Overlay);
    let world = World::new();
    let odd = begin(&world);
    let odd_name = world.name("odd");
    let image = world.tool("oci-commit", &["--rootfs", &odd_name, "--tag", "odd:1"]).ok();
    let line = world.feed("oci-unpack", &[], &image.stdout).ok();
    world.feed("oci-unpack", &["--to", &world.name("plain")], &image.stdout).ok();
    assert_same(&odd, &world.path("plain"), &Ignore::nothing());
    let lower = layer(&world, "odd:1");
    assert_same(&odd, &lower, &Ignore::nothing());

    let container = world.feed("oci-mount", &["--name", "c"], &line.stdout).ok();
    let bundle = PathBuf::from(container.member("bundle"));
    change(&bundle.join("rootfs"));
    let wanted = view(&world, &[bundle.join("upper"), lower]);
    for (n, flags) in [
        &["--layer"][..],
        &[],
        &["--squash-since", "odd:1"],
        &["--layer", "--compression", "zstd:1"],
        &["--compression", "none"],
    ]
    .into_iter()
    .enumerate()
    {
        let tag = format!("new:{n}");
        let image = world.feed("oci-commit", &[&["--tag", &tag], flags].concat(), &container.stdout).ok();
        let out = format!("out{n}");
        world.feed("oci-unpack", &["--to", &world.name(&out)], &image.stdout).ok();
        eprintln!("{flags:?}");
        assert_same(&wanted, &world.path(&out), &Ignore::nothing());
        // What comes back unpacked gives the same image again.
        world.feed("oci-unpack", &[], &image.stdout).ok();
    }
    let holes = fs::metadata(world.path("out0/old/holes")).expect("holes");
    assert!(std::os::unix::fs::MetadataExt::blocks(&holes) * 512 < 2 << 20, "holes are filled");
    assert!(Command::new("umount").arg(&wanted).status().expect("umount").success());
    world.tool("oci-mount", &["--remove", "c"]).ok();
}

#[test]
fn what_no_layer_can_hold_is_said_by_name() {
    needs!(Root, Overlay);
    let world = World::new();
    let odd = world.path("odd");
    fs::create_dir_all(odd.join("d")).expect("mkdir");
    let socket = UnixListener::bind(odd.join("d/so\ncket")).expect("bind");
    fs::write(odd.join("d/attribute"), "").expect("write");
    xattr(&odd.join("d/attribute"), "user.a=b", b"x");
    let name = world.name("odd");
    let done = world.tool("oci-commit", &["--rootfs", &name, "--tag", "odd:1"]).ok();
    let done = done.says("d/so\\ncket").says("a socket, left out");
    let done = done.says("\"d/attribute\": an archive cannot hold the attribute \"user.a=b\"");
    world.feed("oci-unpack", &["--to", &world.name("plain")], &done.stdout).ok();
    assert!(!world.path("plain/d/so\ncket").exists());
    drop(socket);

    fs::write(odd.join("d/.wh.name"), "").expect("write");
    world.tool("oci-commit", &["--rootfs", &name]).fails(6).says("d/.wh.name");
    fs::remove_file(odd.join("d/.wh.name")).expect("unlink");
    mknod(&odd.join("d/device"), FileType::CharacterDevice, 0, 0);
    world.tool("oci-commit", &["--rootfs", &name]).fails(6).says("d/device");
}

#[test]
fn a_commit_is_the_same_on_another_file_system() {
    needs!(Root, Overlay);
    let world = World::new();
    let odd = begin(&world);
    time(&odd.join("old/time0"), 4_000_000_000, 0);
    let other = world.path("memory");
    fs::create_dir(&other).expect("mkdir");
    let options = ["-t", "tmpfs", "-o", "size=900m,mode=755", "none"];
    assert!(Command::new("mount").args(options).arg(&other).status().expect("mount").success());
    let mut digests = Vec::new();
    for store in [world.store(), other.join("store")] {
        let command = |program: &str, args: &[&str]| {
            let mut command = world.command(program);
            command.env("OCIPIPE_STORE", &store).env("SOURCE_DATE_EPOCH", "1700000000").args(args);
            command
        };
        let run =
            |program: &str, args: &[&str], stdin: &[u8]| world.run(command(program, args), Some(stdin)).ok();
        let image = run("oci-commit", &["--rootfs", &world.name("odd"), "--tag", "odd:1"], b"");
        let line = run("oci-unpack", &[], &image.stdout);
        let container = run("oci-mount", &["--name", "c"], &line.stdout);
        let rootfs = PathBuf::from(container.member("rootfs"));
        // Enough names that a file system's own order of them shows.
        fs::create_dir(rootfs.join("many")).expect("mkdir");
        for n in 0..500_u32 {
            fs::write(rootfs.join(format!("many/{}", n.wrapping_mul(2_654_435_761))), "").expect("write");
        }
        change(&rootfs);
        let mut of_store = vec![image.member("digest")];
        for flags in [&["--layer"][..], &[], &["--squash-since", "odd:1"], &["--compression", "zstd:3"]] {
            let digest = run("oci-commit", flags, &container.stdout).member("digest");
            assert_eq!(
                run("oci-commit", flags, &container.stdout).member("digest"),
                digest,
                "{flags:?}, again"
            );
            of_store.push(digest);
        }
        digests.push(of_store);
        run("oci-mount", &["--remove", "c"], b"");
    }
    assert!(Command::new("umount").arg(&other).status().expect("umount").success());
    assert_eq!(digests[0], digests[1]);
}
