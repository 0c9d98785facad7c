use super::*;
use crate::tar::{self, archive};
use std::io::Write;
use std::process::{Command, Stdio};

fn forged(script: &str) -> Vec<u8> {
    smith(script, &[("canary", "/c")]).unwrap_or_else(|error| panic!("{error}"))
}

/// GNU tar's listing: the second opinion on what is written.
fn listing(script: &str) -> String {
    let mut tar = Command::new("tar")
        .args(["-tvf", "-", "--numeric-owner", "--utc"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("tar runs");
    tar.stdin.take().expect("piped").write_all(&forged(script)).expect("tar reads");
    let out = tar.wait_with_output().expect("tar ends");
    assert!(out.status.success(), "{script}");
    String::from_utf8(out.stdout).expect("listing is text")
}

#[test]
fn a_script_is_the_archive_that_the_builders_make() {
    let script = r#"
        # a comment
        dir d
        file d/f data="a\n\x00b"       # another one
        link l $canary/f
        hard h d/f
        fifo p
        char c 1:3
        block b 8:0
        whiteout d/gone
        opaque d
        file "n"*200/x data="ab"*3
        file k xattr.user.k=v"#;
    let members = [
        tar::dir("d"),
        tar::file("d/f", b"a\n\0b"),
        tar::symlink("l", "/c/f"),
        tar::hardlink("h", "d/f"),
        tar::fifo("p"),
        tar::char_device("c", 1, 3),
        tar::block_device("b", 8, 0),
        tar::whiteout("d/gone"),
        tar::opaque("d"),
        tar::file("n".repeat(200) + "/x", "ababab"),
        tar::file("k", "").xattr("user.k", "v"),
    ];
    assert!(forged(script) == archive(&members));
}

#[test]
fn gnu_tar_reads_numbers_names_and_times_as_the_script_says_them() {
    let list = listing(
        "file a mode=4755 uid=b256:3000000 gid=text:7 mtime=0 size=b256:0 chksum=signed\n\
         pax path=\"new\\n\" uid=5\nfile old\n\
         gnu-longname \"n\"*150\nfile short\n\
         gnu-longlink \"t\"*150\nlink l t\n\
         file name prefix=before\n\
         repeat 2 file r{n}\n\
         dir v magic=v7",
    );
    assert!(list.contains("-rwsr-xr-x 3000000/7"), "{list}");
    assert!(list.contains("1970-01-01 00:00 a") && list.contains("5/0") && list.contains(r"new\n"), "{list}");
    assert!(list.contains(&"n".repeat(150)) && list.contains(&format!("l -> {}", "t".repeat(150))), "{list}");
    assert!(list.contains("before/name") && list.contains("r0") && list.contains("r1"), "{list}");
}

#[test]
fn gnu_tar_unpacks_sparse_files_of_all_four_forms() {
    // GNU tar begins each extent on a block of its own, and ends the file where the last one does.
    let extents: String = (0..30).map(|n| format!(" at={}:\"x{}\"*256", n << 12, n % 10)).collect();
    let script: String = ["gnu", "0.0", "0.1", "1.0"]
        .iter()
        .map(|form| format!("sparse {form} s{form} real=1M{extents} at=1M:\n"))
        .collect();
    // 0.0 names its file like any other.
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut tar = Command::new("tar");
    tar.args(["-xf", "-", "-C"]).arg(dir.path()).stdin(Stdio::piped());
    let mut tar = tar.spawn().expect("tar runs");
    tar.stdin.take().expect("piped").write_all(&forged(&script)).expect("tar reads");
    assert!(tar.wait().expect("tar ends").success());
    let mut want = vec![0; 1 << 20];
    for n in 0..30 {
        want[n << 12..][..512].copy_from_slice(format!("x{}", n % 10).repeat(256).as_bytes());
    }
    for form in ["gnu", "0.0", "0.1", "1.0"] {
        let have = std::fs::read(dir.path().join(format!("s{form}"))).expect(form);
        assert!(have == want, "{form}");
    }
}

#[test]
fn records_lie_about_their_length_when_told() {
    let records = |script: &str| {
        let bytes = forged(script);
        let text = String::from_utf8_lossy(&bytes[512..1024]).into_owned();
        text.trim_end_matches('\0').to_owned()
    };
    assert_eq!(records("pax path=ab k=v"), "11 path=ab\n6 k=v\n");
    assert_eq!(records("pax +1:path=ab -2:path=ab =99:k=v"), "12 path=ab\n9 path=ab\n99 k=v\n");
    assert_eq!(records("global text:\"12 path\""), "12 path");
    assert_eq!(forged("pax k=v .size=8G")[124..136], [0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]);
}

#[test]
fn the_end_is_where_the_script_says() {
    assert_eq!(forged("file a").len(), 1536);
    assert_eq!(forged("file a data=x").len(), 2048);
    assert_eq!(forged("file a\nend 0").len(), 512);
    assert_eq!(forged("file a\nend 1\nraw 00ff\nzeros 1K").len(), 1024 + 2 + 1024);
    assert_eq!(forged("file a data=x\ncut -511").len(), 513);
    assert_eq!(forged("file a data=x\ncut 100").len(), 100);
    assert_eq!(forged("file a")[148..154], *b"007400");
    assert_eq!(forged("file a chksum=bad")[148..154], *b"007401");
}

#[test]
fn an_error_names_the_line_and_the_word() {
    for (script, want) in [
        ("file", r#"line 1: "file": wants a name"#),
        ("dir d\n\nfill x", r#"line 3: "fill": no such kind of line"#),
        ("file a size=x", r#"line 1: "size=x": no number"#),
        ("file a uid=text:123456789", r#"line 1: "uid=text:123456789": no number"#),
        ("file a sise=1", r#"line 1: "sise=1": no such field"#),
        ("file a chksum=good", r#"line 1: "chksum=good": no such value"#),
        ("file \"a", r#"line 1: "\"a": has no closing quote"#),
        ("file \"\\q\"", r#"line 1: "\"\\q\"": unknown escape"#),
        ("file \"a\"*x", r#"line 1: "a": * wants how many times"#),
        ("file $nobody", r#"line 1: "$nobody": no such variable"#),
        ("char c 1", r#"line 1: "1": is no MAJOR:MINOR"#),
        ("sparse 2.0 s", r#"line 1: "2.0": is none of gnu, 0.0, 0.1 and 1.0"#),
        ("sparse 1.0 s at=5", r#"line 1: "at=5": wants OFFSET[/LENGTH]:DATA"#),
        ("pax path", r#"line 1: "path": is no key=value"#),
        ("raw 0", r#"line 1: "0": wants pairs of hexadecimal digits"#),
        ("cut 1", r#"line 1: "1": there are 0 bytes"#),
        ("end 1 2", r#"line 1: "2": one word too many"#),
        ("repeat 2 file", r#"line 1: "file": wants a name"#),
    ] {
        let error = smith(script, &[]).expect_err(script);
        assert_eq!(error.to_string(), want);
    }
}

#[test]
fn a_table_has_cases_with_layers_and_its_own_line_numbers() {
    let table = "# head\n\n=== one\n? refused \"a b\"\nfile a\n=== two\n? unpacks a b\n? lacks c\nfile a\n---\nfile b x\n";
    let found = cases(table).expect("a table");
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].expected, Expected::Refused("a b".into()));
    assert!(found[0].layers(&[]).expect("a script") == [forged("file a")]);
    assert_eq!(found[1].expected, Expected::Unpacks(vec!["a".into(), "b".into()]));
    assert_eq!(found[1].lacks, ["c"]);
    assert_eq!(found[1].layers(&[]).expect_err("a word too many").line, 11);
    assert_eq!(cases("=== one\nfile a\n").expect_err("nothing").why, "expects nothing");
    assert_eq!(cases("file a\n").expect_err("nothing").line, 1);
    assert_eq!(cases("=== a\n? maybe\n").expect_err("nothing").line, 2);
}
