//! Archives and streams that lie about themselves: one reading of each, or an error.

mod common;

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{Scene, assert_refused};
use descriptor::{Classify, Digest, Exit};
use layer::{Encoding, Error, Limits};
use testkit::tar::{Member, archive, dir, file, symlink};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("to memory");
    encoder.finish().expect("to memory")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 1).expect("to memory")
}

fn names(tree: &Path) -> Vec<String> {
    let paths = testkit::tree::paths(tree);
    paths.iter().filter(|p| !p.as_os_str().is_empty()).map(|p| p.to_string_lossy().into_owned()).collect()
}

fn holds(members: &[Member], want: &[&str]) {
    let scene = Scene::new();
    let (tree, result) = scene.unpack("tree", &archive(members));
    result.expect("unpacks");
    assert_eq!(names(&tree), want);
}

fn refused(part: &str, members: &[Member]) {
    let scene = Scene::new();
    assert_refused(scene.unpack("tree", &archive(members)).1, part, part);
}

/// A header on its own, as the body of something else.
fn smuggled() -> Vec<u8> {
    archive(&[file("smuggled", "")])[..512].to_vec()
}

fn records(of: &[(&str, &str)]) -> Vec<u8> {
    let bytes = of.iter().fold(file("f", ""), |member, (key, value)| member.pax(key, value));
    let bytes = archive(&[bytes]);
    let size =
        usize::from_str_radix(std::str::from_utf8(&bytes[124..135]).expect("octal"), 8).expect("octal");
    bytes[512..512 + size].to_vec()
}

#[test]
fn the_pax_size_wins_over_the_headers() {
    // "TARmageddon": by ustar's size of 0, the body would be read as a header.
    let body = [smuggled(), vec![0; 512]].concat();
    holds(
        &[file("outer.bin", body).claimed_size(0).pax("size", "1024"), file("last", "x")],
        &["last", "outer.bin"],
    );
    // The inverse: by PAX the file is empty, and what follows is a member.
    let members = [file("outer", smuggled()).pax("size", "0"), file("last", "x")];
    holds(&members, &["last", "outer", "smuggled"]);
}

#[test]
fn extension_headers_that_contradict_each_other_are_refused() {
    let pax = |of: &[(&str, &str)]| file("x", records(of)).kind(b'x');
    let long = |name: &str| file("@LongLink", name).kind(b'L');
    refused("two PAX", &[pax(&[("path", "a")]), pax(&[("path", "b")]), file("f", "x")]);
    refused("two PAX", &[pax(&[("path", "a")]), long("b\0"), pax(&[("path", "c")]), file("f", "x")]);
    refused("PAX and GNU", &[pax(&[("path", "a")]), long("b\0"), file("f", "x")]);
    refused("two GNU", &[long("a\0"), long("b\0"), file("f", "x")]);
    refused("without its member", &[file("f", "x"), pax(&[("path", "a")])]);
    refused("repeats", &[pax(&[("path", "a"), ("path", "b")]), file("f", "x")]);
    refused("invalid", &[file("x", "11 path=a\n").kind(b'x'), file("f", "x")]);
    refused("global", &[file("g", records(&[("path", "a")])).kind(b'g'), file("f", "x")]);
    holds(&[file("g", records(&[("comment", "c"), ("mtime", "5")])).kind(b'g'), file("f", "x")], &["f"]);
    holds(&[long(&format!("{}\0", "n".repeat(200))), file("f", "x")], &[&*"n".repeat(200)]);
}

#[test]
fn large_extension_headers_are_refused_at_once() {
    let begin = Instant::now();
    for kind in [b'x', b'g', b'L', b'K'] {
        refused("too large", &[file("e", "").kind(kind).claimed_size(1 << 30), file("f", "x")]);
        refused("too large", &[file("e", "").kind(kind).claimed_size(8 << 30), file("f", "x")]);
    }
    let many: String = (0..30_000).map(|n| format!("30 SCHILY.xattr.user.n{n:06}=\n")).collect();
    refused("too many", &[file("x", many).kind(b'x'), file("f", "x")]);
    assert!(begin.elapsed() < Duration::from_secs(20));
}

#[test]
fn wrong_checksums_and_lone_zero_blocks_are_refused() {
    let scene = Scene::new();
    let mut bytes = archive(&[file("a", "x"), file("b", "x")]);
    bytes[1024] ^= 1;
    assert_refused(scene.unpack("sum", &bytes).1, "checksum", "flipped name");
    let lone = [&archive(&[file("a", "x")])[..1536], &archive(&[file("b", "x")])].concat();
    assert_refused(scene.unpack("lone", &lone).1, "zeros", "lone zero block");
}

#[test]
fn what_follows_the_end_counts_for_the_diff_id_only() {
    let scene = Scene::new();
    let bytes = [archive(&[file("a", "x")]), archive(&[file("b", "x")]), vec![7; 1000]].concat();
    let (tree, result) = scene.unpack("tree", &bytes);
    assert_eq!(result.expect("unpacks").diff_id, Digest::of(&bytes));
    assert_eq!(names(&tree), ["a"]);
}

#[test]
fn an_archive_cut_anywhere_inside_a_member_is_refused() {
    let scene = Scene::new();
    let bytes = archive(&[dir("d"), file("d/f", vec![b'x'; 1000])]);
    for end in [1, 511, 513, 1023, 1025, 1500, 2000] {
        assert_refused(scene.unpack(&end.to_string(), &bytes[..end]).1, "ends inside", "cut");
    }
}

#[test]
fn sizes_beyond_all_bounds_are_refused() {
    refused("", &[file("f", "").claimed_size(1 << 62)]);
    refused("", &[file("f", "").pax("size", "9223372036854775808")]);
    refused("", &[file("f", "").pax("size", "-1")]);
    refused("", &[file("f", "").pax("size", "9223372036854775807")]);
}

#[test]
fn times_that_no_clock_shows_are_kept_or_refused_without_panic() {
    for time in ["-1", "-1.5", "-1099511627776", "8589934592", "4611686018427387904", "0.000000001"] {
        holds(&[file("f", "x").pax("mtime", time)], &["f"]);
    }
    refused("mtime", &[file("f", "x").pax("mtime", "NaN")]);
    refused("mtime", &[file("f", "x").pax("mtime", "99999999999999999999")]);
}

#[test]
fn sparse_files_of_the_pax_formats_are_sparse() {
    let scene = Scene::new();
    let map = |member: Member| member.pax("GNU.sparse.size", "1048576").pax("GNU.sparse.numblocks", "2");
    let mut one = b"2\n0\n3\n1048570\n3\n".to_vec();
    one.resize(512, 0);
    one.extend(b"abcdef");
    let members = [
        map(file("v00", "abcdef"))
            .pax("GNU.sparse.offset", "0")
            .pax("GNU.sparse.numbytes", "3")
            .pax("GNU.sparse.offset", "1048570")
            .pax("GNU.sparse.numbytes", "3"),
        map(file("v01", "abcdef")).pax("GNU.sparse.map", "0,3,1048570,3").pax("GNU.sparse.name", "v01"),
        file("GNUSparseFile.0/v10", one)
            .pax("GNU.sparse.major", "1")
            .pax("GNU.sparse.minor", "0")
            .pax("GNU.sparse.name", "v10")
            .pax("GNU.sparse.realsize", "1048576"),
    ];
    let (tree, result) = scene.unpack("tree", &archive(&members));
    result.expect("unpacks");
    let mut want = vec![0; 1 << 20];
    want[..3].copy_from_slice(b"abc");
    want[1_048_570..1_048_573].copy_from_slice(b"def");
    assert_eq!(names(&tree), ["v00", "v01", "v10"]);
    for name in ["v00", "v01", "v10"] {
        assert!(std::fs::read(tree.join(name)).expect(name) == want, "{name}");
        let blocks = std::os::unix::fs::MetadataExt::blocks(&tree.join(name).metadata().expect(name));
        assert!(blocks < 64, "{name} takes {blocks} blocks");
    }
}

#[test]
fn archives_of_gnu_tar_are_read_as_it_reads_them() {
    let scene = Scene::new();
    let from = scene.tree("from");
    std::fs::create_dir(from.join("dir")).expect("mkdir");
    std::fs::write(from.join("dir").join("n".repeat(150)), "x").expect("write");
    std::os::unix::fs::symlink("t".repeat(150), from.join("link")).expect("symlink");
    let sparse = std::fs::File::create(from.join("sparse")).expect("create");
    for at in 0..30u64 {
        std::os::unix::fs::FileExt::write_at(&sparse, b"data", at << 20).expect("write");
    }
    sparse.set_len(64 << 20).expect("truncate");
    for options in [
        &["--format=gnu"][..],
        &["--format=posix"],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
    ] {
        let output = std::process::Command::new("tar")
            .args(["--sparse", "--owner=0", "--group=0", "-C"])
            .arg(&from)
            .args(options)
            .args(["-cf", "-", "dir", "link", "sparse"])
            .output()
            .expect("tar runs");
        let (tree, result) = scene.unpack(&options.concat(), &output.stdout);
        result.expect("unpacks");
        let root = testkit::tree::Ignore::nothing().subtrees(&[]).mtimes(&[""]);
        let mut want = testkit::tree::read(&from);
        want.insert("".into(), testkit::tree::read(&tree)[Path::new("")].clone());
        let difference: Vec<_> = testkit::tree::difference(&want, &testkit::tree::read(&tree), &root);
        // ustar has no nanoseconds.
        let difference: Vec<_> = difference
            .iter()
            .filter(|line| options[0] != "--format=gnu" || !line.contains("mtime"))
            .collect();
        assert!(difference.is_empty(), "{options:?}: {difference:#?}");
    }
}

#[test]
fn sparse_maps_that_lie_are_refused() {
    let sparse = |map: &str| [file("f", "abcdef").pax("GNU.sparse.size", "100").pax("GNU.sparse.map", map)];
    for map in ["50,3,0,3", "0,3", "0,3,98,3", "0,3,2,3", "x,3", "0,3,5", "0,9223372036854775807"] {
        refused("sparse map", &sparse(map));
    }
    let many = (0..70_000).map(|n| format!("{n},0,")).collect::<String>();
    refused("too many extents", &sparse(many.trim_end_matches(',')));
    let mut large = b"10000000\n".to_vec();
    large.resize(512, b'\n');
    let member = file("f", large).pax("GNU.sparse.major", "1").pax("GNU.sparse.minor", "0");
    refused("too many extents", &[member.pax("GNU.sparse.realsize", "1")]);
}

#[test]
fn xattrs_may_be_empty_binary_or_with_newlines() {
    let scene = Scene::new();
    let members = [file("f", "x").xattr("user.e", "").xattr("user.b", b"\0\n=\xff").pax("comment", "")];
    let (tree, result) = scene.unpack("tree", &archive(&members));
    result.expect("unpacks");
    let found = testkit::tree::read(&tree);
    assert_eq!(found[Path::new("f")].xattrs["user.b"], b"\0\n=\xff");
    assert_eq!(found[Path::new("f")].xattrs["user.e"], b"");
    refused("xattr", &[file("f", "x").xattr(&format!("user.{}", "n".repeat(256)), "v")]);
}

#[test]
fn names_of_any_bytes_are_kept() {
    let scene = Scene::new();
    let odd: [&[u8]; 5] = [b"new\nline", b"\xff\xfe", b"back\\slash", b"-rf", b" "];
    let members: Vec<Member> = odd.iter().map(|name| file(name, "x")).collect();
    let (tree, result) = scene.unpack("tree", &archive(&members));
    result.expect("unpacks");
    for name in odd {
        assert!(tree.join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(name)).exists());
    }
    let hostile = archive(&[file(b"a\x1b[2J\n/..", "x")]);
    let message = scene.unpack("message", &hostile).1.expect_err("refused").to_string();
    assert!(!message.contains(['\x1b', '\n']), "{message:?}");
}

#[test]
fn duplicate_members_end_as_the_last_one() {
    let many: Vec<Member> = (0..2000).map(|n| file("same", n.to_string())).collect();
    let scene = Scene::new();
    let (tree, result) = scene.unpack("tree", &archive(&many));
    result.expect("unpacks");
    assert_eq!(std::fs::read(tree.join("same")).expect("same"), b"1999");
    holds(&[file("a", "x"), dir("a"), file("a/b", "x")], &["a", "a/b"]);
    holds(&[dir("a"), file("a/b", "x"), file("a", "x")], &["a"]);
    holds(&[symlink("a", "b"), file("a", "x")], &["a"]);
}

#[test]
fn streams_of_several_members_and_frames_are_one() {
    let scene = Scene::new();
    let bytes = archive(&[file("a", vec![1; 3000]), file("b", "x")]);
    let (left, right) = bytes.split_at(1700);
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
    let cases = [
        ("gzip", Encoding::Gzip, [gzip(left), gzip(b""), gzip(right)].concat()),
        ("zstd", Encoding::Zstd, [zstd(left), skippable.clone(), zstd(right)].concat()),
        ("skippable first", Encoding::Zstd, [skippable, zstd(&bytes)].concat()),
    ];
    for (name, encoding, stream) in cases {
        let (tree, result) = scene.unpack_as(name, &stream, encoding, Limits::default());
        assert_eq!(result.expect(name).diff_id, Digest::of(&bytes), "{name}");
        assert_eq!(names(&tree), ["a", "b"], "{name}");
    }
    let empties = [vec![gzip(b""); 200_000].concat(), gzip(&bytes)].concat();
    scene.unpack_as("empties", &empties, Encoding::Gzip, Limits::default()).1.expect("many empty members");
}

#[test]
fn truncated_streams_and_trailing_garbage_are_refused() {
    let scene = Scene::new();
    let bytes = archive(&[file("a", (0..1500).map(|n| (n * n % 251) as u8).collect::<Vec<_>>())]);
    for (name, encoding, stream) in
        [("gz", Encoding::Gzip, gzip(&bytes)), ("zst", Encoding::Zstd, zstd(&bytes))]
    {
        for end in (0..stream.len() - 1).step_by(7).chain([stream.len() - 1]) {
            let (_, result) =
                scene.unpack_as(&format!("{name}{end}"), &stream[..end], encoding, Limits::default());
            assert_refused(result, "", &format!("{name} cut at {end}"));
        }
        for garbage in [&b"x"[..], b"garbage", &[0; 512]] {
            let stream = [&stream[..], garbage].concat();
            let (_, result) =
                scene.unpack_as(&format!("{name}+{}", garbage.len()), &stream, encoding, Limits::default());
            assert_refused(result, "stream", name);
        }
    }
}

#[test]
fn a_flipped_byte_is_refused_or_changes_the_diff_id() {
    let scene = Scene::new();
    let bytes = archive(&[file("a", (0..1500).map(|n| (n * n % 251) as u8).collect::<Vec<_>>())]);
    let stream = gzip(&bytes);
    for at in (0..stream.len()).step_by(3) {
        let mut flipped = stream.clone();
        flipped[at] ^= 0x10;
        let (_, result) = scene.unpack_as(&format!("t{at}"), &flipped, Encoding::Gzip, Limits::default());
        match result {
            // The header's time and system, and the bits that fill up the data's last bytes, mean nothing.
            Ok(unpacked) => assert!(
                unpacked.diff_id != Digest::of(&bytes)
                    || at < 10
                    || (stream.len() - 10..stream.len() - 8).contains(&at),
                "byte {at} of {}",
                stream.len()
            ),
            Err(e) => assert_eq!(e.exit(), Exit::Content, "{e}"),
        }
    }
}

#[test]
fn a_stream_of_another_kind_than_declared_is_refused() {
    let scene = Scene::new();
    let bytes = archive(&[file("a", "x")]);
    let kinds =
        [(Encoding::None, bytes.clone()), (Encoding::Gzip, gzip(&bytes)), (Encoding::Zstd, zstd(&bytes))];
    for (declared, _) in &kinds {
        for (is, stream) in &kinds {
            let name = format!("{declared:?}-{is:?}");
            let (_, result) = scene.unpack_as(&name, stream, *declared, Limits::default());
            match result {
                Ok(_) => assert_eq!(declared, is),
                Err(Error::Encoding { .. }) => assert_ne!(declared, is),
                Err(e) => panic!("{name}: {e}"),
            }
        }
    }
}

#[test]
fn bombs_end_at_the_limits() {
    let scene = Scene::new();
    let limits = Limits { bytes: 8 << 20, entries: 100, ..Limits::default() };
    let zeros = archive(&[file("z", vec![0; 16 << 20])]);
    for (name, encoding, stream) in
        [("gz", Encoding::Gzip, gzip(&zeros)), ("zst", Encoding::Zstd, zstd(&zeros))]
    {
        assert_refused(scene.unpack_as(name, &stream, encoding, limits).1, "more than 8388608", name);
    }
    // Zeros without end after the archive are read for the digest: the limit is theirs too.
    let after = [archive(&[]), vec![0; 16 << 20]].concat();
    assert_refused(
        scene.unpack_as("after", &gzip(&after), Encoding::Gzip, limits).1,
        "decoded bytes",
        "after",
    );
    let ratio = Limits { ratio: 100, ratio_from: 1 << 20, ..Limits::default() };
    for (name, encoding, stream) in
        [("ratio gz", Encoding::Gzip, gzip(&after)), ("ratio zst", Encoding::Zstd, zstd(&after))]
    {
        assert_refused(scene.unpack_as(name, &stream, encoding, ratio).1, "each byte of the blob", name);
    }
    // What is small, or does not compress, is nobody's bomb.
    for (name, bytes) in [("small", vec![0; 1 << 19]), ("plain", vec![0; 4 << 20])] {
        let bytes = archive(&[file("f", bytes)]);
        let (encoding, stream) = match name {
            "small" => (Encoding::Gzip, gzip(&bytes)),
            _ => (Encoding::None, bytes),
        };
        scene.unpack_as(name, &stream, encoding, ratio).1.expect(name);
    }
    let many: Vec<Member> = (0..101).map(|n| dir(n.to_string())).collect();
    assert_refused(scene.unpack_as("many", &archive(&many), Encoding::None, limits).1, "members", "many");
    // A frame that asks for a window of 2 GiB: magic, descriptor without a size, window of exponent 21.
    let window = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x01, 0, 0];
    assert_refused(scene.unpack_as("window", &window, Encoding::Zstd, limits).1, "zstd", "window");
}
