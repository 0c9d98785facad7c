//! Images that the tests run and compare, made from this machine's static busybox and from the layer DSL.

use crate::image::{Image, Packing};
use crate::tar::{
    self, CAP_NET_RAW, Member, char_device, dir, fifo, file, hardlink, opaque, symlink, whiteout,
};
use serde_json::json;
use std::sync::LazyLock;

/// What `/etc/os-release` of [`busybox`] says.
pub const OS_RELEASE: &str = "ID=testkit\nPRETTY_NAME=\"a busybox for tests\"\n";

/// The members of a small system: busybox, a shell's applets, users, the usual directories.
pub fn system() -> Vec<Member> {
    static BUSYBOX: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let path =
            crate::probe::program("busybox").expect("busybox-static is installed (probe for it first)");
        std::fs::read(path).expect("busybox can be read")
    });
    let mut members = vec![dir("bin/"), file("bin/busybox", BUSYBOX.as_slice()).mode(0o755)];
    let applets = "sh cat ls echo true false sleep kill wget id env pwd mkdir rm touch stat grep sed sort chmod chown \
                   ln cp mv test hostname mount umount ip head tail wc dd readlink find tr cut sync ps trap seq tee \
                   mkfifo expr printf od httpd nc dirname basename date";
    members.extend(applets.split_whitespace().map(|name| symlink(format!("bin/{name}"), "busybox")));
    members.extend([
        dir("etc/"),
        file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n"),
        file("etc/group", "root:x:0:\nuser:x:1000:\nextra:x:2000:user\n"),
        file("etc/os-release", OS_RELEASE),
        dir("root/").mode(0o700),
        dir("home/"),
        dir("home/user/").owner(1000, 1000).mode(0o750),
        dir("tmp/").mode(0o1777),
        dir("usr/"),
        dir("usr/bin/"),
        dir("var/"),
    ]);
    members
}

/// A one-layer image that can run commands.
pub fn busybox() -> Image {
    Image::new().layer(tar::archive(&system()), Packing::Gzip).set("Cmd", json!(["sh"]))
}

/// [`busybox`] below five layers that use every mark and kind of file the specification has.
pub fn stack() -> Image {
    packed([Packing::Gzip, Packing::Zstd, Packing::Plain, Packing::Gzip, Packing::Zstd])
}

/// The same layers, all gzip: for peers that know no zstd.
pub fn stack_in_gzip() -> Image {
    packed([Packing::Gzip; 5])
}

fn packed(packings: [Packing; 5]) -> Image {
    let layers = [first(), second(), third(), fourth(), fifth()];
    layers
        .iter()
        .zip(packings)
        .fold(busybox(), |image, (members, packing)| image.layer(tar::archive(members), packing))
}

fn first() -> Vec<Member> {
    vec![
        dir("data/").mode(0o2775).owner(10, 20).mtime(1_100_000_001),
        file("data/gone", "to be removed"),
        file("data/kept", "kept").owner(1000, 1000).mode(0o640),
        dir("data/hidden/"),
        file("data/hidden/below", "hidden by an opaque directory"),
        dir("data/tree/"),
        dir("data/tree/deep/"),
        file("data/tree/deep/file", "removed with its directory"),
        file("data/becomes-dir", "a file first"),
        dir("data/becomes-file/"),
        file("data/becomes-file/x", "x"),
        file("data/a", "linked").mtime(1_200_000_000),
        hardlink("data/b", "data/a"),
        hardlink("data/c", "data/a"),
        symlink("data/dangling", "/nowhere/at all").owner(5, 6),
        dir("opt/").mode(0o711).owner(7, 8).mtime(1_050_000_000),
    ]
}

fn second() -> Vec<Member> {
    vec![
        file("usr/bin/setuid", "#!/bin/sh\n").mode(0o4755).owner(1000, 0),
        file("usr/bin/setgid", "#!/bin/sh\n").mode(0o2711).owner(0, 1000),
        file("usr/bin/ping", "capable").mode(0o755).xattr("security.capability", CAP_NET_RAW),
        file("var/attributes", "x").xattr("user.text", "value").xattr("user.bytes", [0xff, 0x00, 0x0a, 0x3d]),
        dir("var/marked/").mode(0o1777).xattr("user.dir", "yes"),
        file("var/big-owner", "").owner(3_000_000, 4_000_000),
    ]
}

fn third() -> Vec<Member> {
    vec![
        dir("data/").mode(0o2775).owner(10, 20).mtime(1_100_000_002),
        whiteout("data/gone"),
        whiteout("data/tree"),
        dir("data/hidden/").mode(0o700),
        opaque("data/hidden"),
        file("data/hidden/new", "seen"),
        dir("data/becomes-dir/"),
        file("data/becomes-dir/y", "y"),
        file("data/becomes-file", "a file now"),
        whiteout("data/c"),
    ]
}

/// Parents are implied: `opt` is in a lower layer, `srv` is nowhere.
fn fourth() -> Vec<Member> {
    vec![
        file("opt/made/of/nothing", "implied parents"),
        file("srv/also/implied", "implied at the root"),
        fifo("var/pipe").mode(0o620),
        char_device("var/null", 1, 3),
        file(format!("var/{}", "long".repeat(60)), "a name beyond ustar").mtime(1_300_000_000),
        file("var/nanoseconds", "").pax("mtime", "1234567890.123456789"),
        file([b"var/bytes-".as_slice(), &[0xff, 0xfe]].concat(), "not UTF-8"),
    ]
}

fn fifth() -> Vec<Member> {
    vec![
        dir("data/tree/").mode(0o755),
        file("data/tree/again", "made anew above a whiteout"),
        file("var/attributes", "replaced without attributes"),
        dir("new/"),
        file("new/one", "two names in one layer"),
        hardlink("new/two", "new/one"),
        symlink("new/link", "one"),
    ]
}
