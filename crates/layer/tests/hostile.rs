//! Archives that try to leave the tree, each with a canary compared before and after, and their legal twins.

mod common;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use common::{Scene, assert_refused};
use testkit::tar::{Member, archive, char_device, dir, fifo, file, hardlink, opaque, symlink, whiteout};

/// Both forms refuse these members with a message that names `part`.
fn refused(case: &str, part: &str, members: impl Fn(&Scene) -> Vec<Member>) {
    let scene = Scene::new();
    let bytes = archive(&members(&scene));
    assert_refused(scene.unpack("overlay", &bytes).1, part, case);
    assert_refused(scene.flatten("flat", &[bytes]).1, part, case);
}

/// Both forms take these members and have what `check` looks for.
fn taken(members: impl Fn(&Scene) -> Vec<Member>, check: impl Fn(&Path)) {
    let scene = Scene::new();
    let bytes = archive(&members(&scene));
    let (overlay, result) = scene.unpack("overlay", &bytes);
    result.expect("overlay form");
    check(&overlay);
    let (flat, result) = scene.flatten("flat", &[bytes]);
    result.expect("flat form");
    check(&flat);
}

fn has_file(path: &str) -> impl Fn(&Path) {
    let path = path.trim_start_matches('/').to_string();
    move |tree| assert!(tree.join(&path).symlink_metadata().expect(&path).is_file(), "{path}")
}

#[test]
fn names_with_dot_dot_are_refused_wherever_they_stand() {
    for name in ["../e", "a/../../e", "a/../e", "..", "a/..", "/../e", "./../e"] {
        refused(name, "..", |_| vec![file(name, "x")]);
        refused(name, "..", |_| vec![dir(name)]);
        refused(name, "..", |_| vec![symlink(name, "/")]);
    }
    refused("prefix", "..", |_| vec![file("e", "x").prefix("..")]);
    refused("PAX path", "..", |_| vec![file("e", "x").pax("path", "../e")]);
    refused("sparse name", "..", |_| {
        vec![file("e", "x").pax("GNU.sparse.name", "../e").pax("GNU.sparse.size", "1")]
    });
}

#[test]
fn empty_names_and_names_with_nul_are_refused() {
    refused("empty", "empty", |_| vec![file("", "x")]);
    refused("NUL", "NUL", |_| vec![file("e", "x").pax("path", "a\0b")]);
}

#[test]
fn an_absolute_name_lands_inside() {
    taken(
        |_| vec![file("/abs/e", "x"), file("//b//./f", "x")],
        |tree| {
            has_file("abs/e")(tree);
            has_file("b/f")(tree);
        },
    );
}

#[test]
fn a_file_through_an_absolute_symlink_lands_inside() {
    taken(
        |scene| vec![symlink("esc", scene.prey()), file("esc/p", "x")],
        |tree| {
            assert!(
                !tree.join("p").exists() && tree.join("esc").symlink_metadata().expect("link").is_symlink()
            )
        },
    );
}

#[test]
fn a_file_through_chained_symlinks_lands_inside() {
    taken(
        |_| vec![symlink("d1", "d2"), symlink("d2", "../../canary"), file("d1/p", "x")],
        has_file("canary/p"),
    );
    taken(|_| vec![symlink("s", ".."), dir("s/e"), dir("s/e/f"), file("s/e/f/g", "x")], has_file("e/f/g"));
}

#[test]
fn a_file_replaces_a_symlink_of_its_name() {
    taken(|scene| vec![symlink("x", format!("{}/f", scene.prey())), file("x", "mine")], has_file("x"));
}

#[test]
fn the_usr_merge_link_is_followed_inside_the_layer() {
    let members = |_: &Scene| vec![dir("usr"), dir("usr/lib"), symlink("lib", "usr/lib"), file("lib/a", "x")];
    taken(members, has_file("usr/lib/a"));
    // The link's directory may only be in a lower layer.
    taken(|_| vec![symlink("lib", "usr/lib"), file("lib/a", "x")], has_file("usr/lib/a"));
}

#[test]
fn a_loop_of_symlinks_is_refused() {
    refused("loop", "a/x", |_| vec![symlink("a", "b"), symlink("b", "a"), file("a/x", "x")]);
}

#[test]
fn a_path_through_a_file_is_refused() {
    refused("file as parent", "is no directory", |_| vec![file("a", "x"), file("a/b", "x")]);
    refused("device as parent", "is no directory", |_| vec![char_device("a", 1, 3), file("a/b", "x")]);
}

#[test]
fn hard_links_to_names_outside_the_layer_are_refused() {
    refused("absolute", "hard link", |_| vec![hardlink("h", "/etc/shadow")]);
    refused("up", "hard link", |_| vec![hardlink("h", "../../canary/f")]);
    refused("through a symlink", "hard link", |scene| vec![symlink("s", scene.prey()), hardlink("h", "s/f")]);
    refused("later", "hard link", |_| vec![hardlink("h", "later"), file("later", "x")]);
    refused("directory", "hard link", |_| vec![dir("d"), hardlink("h", "d")]);
    refused("root", "hard link", |_| vec![hardlink("h", "/")]);
    refused("empty", "hard link", |_| vec![hardlink("h", "")]);
    refused("whiteout", "hard link", |_| vec![whiteout("w"), hardlink("h", "w")]);
    refused("in its own way", "hard link", |_| vec![dir("d"), file("d/f", "x"), hardlink("d", "d/f")]);
    refused("deep", "hard link", |_| {
        vec![dir("a"), dir("a/b"), symlink("a/b/c", "../../x"), hardlink("h", "a/b/c/y")]
    });
}

#[test]
fn a_hard_link_is_not_resolved_from_the_working_directory() {
    // Cargo runs tests in the crate's directory, which has this file.
    assert!(Path::new("Cargo.toml").exists());
    refused("cwd", "hard link", |_| vec![hardlink("h", "Cargo.toml")]);
}

#[test]
fn a_hard_link_to_a_symlink_is_the_symlink_and_carries_no_metadata() {
    let members = |scene: &Scene| {
        let target = format!("{}/f", scene.prey());
        vec![symlink("f", target), hardlink("g", "f").mode(0o6777).owner(5, 5).xattr("trusted.k", "v")]
    };
    taken(members, |tree| {
        let (f, g) = (tree.join("f").symlink_metadata(), tree.join("g").symlink_metadata());
        let (f, g) = (f.expect("link"), g.expect("link"));
        assert_eq!((f.ino(), f.uid()), (g.ino(), 0));
        assert!(g.is_symlink());
    });
}

#[test]
fn what_replaces_a_hard_link_leaves_the_other_name_alone() {
    let members = |_: &Scene| {
        vec![file("a", "first").mode(0o640), hardlink("h", "a"), file("h", "second").mode(0o4777).owner(1, 1)]
    };
    taken(members, |tree| {
        let a = tree.join("a").symlink_metadata().expect("a");
        assert_eq!((a.mode() & 0o7777, a.uid(), a.nlink()), (0o640, 0, 1));
        assert_eq!(std::fs::read(tree.join("a")).expect("a"), b"first");
        assert_eq!(tree.join("h").symlink_metadata().expect("h").mode() & 0o7777, 0o4777);
    });
}

#[test]
fn hard_links_inside_the_layer_are_made_and_to_oneself_harmless() {
    let members = |_: &Scene| {
        vec![file("a/f", "x"), hardlink("h", "/a/f"), hardlink("./i", "./a//f"), hardlink("h", "h")]
    };
    taken(members, |tree| {
        let inode = |name: &str| tree.join(name).symlink_metadata().expect(name).ino();
        assert_eq!(inode("a/f"), inode("h"));
        assert_eq!(inode("a/f"), inode("i"));
    });
}

#[test]
fn a_directory_entry_replaces_a_symlink_of_its_name() {
    let members =
        |scene: &Scene| vec![symlink("d", format!("{}/dir", scene.prey())), dir("d").mode(0o777).owner(7, 7)];
    taken(members, |tree| {
        let d = tree.join("d").symlink_metadata().expect("d");
        assert_eq!((d.is_dir(), d.mode() & 0o7777, d.uid()), (true, 0o777, 7));
    });
}

#[test]
fn only_a_directory_may_name_the_root() {
    for name in [".", "./", "/", "/.", "//"] {
        refused(name, "root", |scene| vec![symlink(name, scene.prey()), file("p", "x")]);
        refused(name, "root", |_| vec![file(name, "x")]);
        refused(name, "root", |_| vec![file("f", "x"), hardlink(name, "f")]);
        taken(
            |_| vec![dir(name).mode(0o711).owner(3, 4)],
            |tree| {
                let root = tree.symlink_metadata().expect("root");
                assert_eq!((root.mode() & 0o7777, root.uid(), root.gid()), (0o711, 3, 4));
            },
        );
    }
    refused("a/..", "..", |scene| vec![symlink("a/..", scene.prey())]);
}

#[test]
fn whiteouts_without_a_proper_name_are_refused() {
    for name in [".wh.", ".wh..", ".wh...", "a/.wh.", "a/.wh.../x", ".wh.a/b"] {
        refused(name, ".wh.", |_| vec![file(name, "")]);
    }
}

#[test]
fn a_whiteout_through_a_symlink_stays_inside() {
    let members = |scene: &Scene| vec![symlink("s", scene.prey()), whiteout("s/f")];
    taken(members, |tree| assert!(tree.join("s").symlink_metadata().expect("s").is_symlink()));
}

#[test]
fn no_name_of_a_whiteout_is_ever_made() {
    let members = |_: &Scene| {
        vec![
            file("l", "x"),
            hardlink(".wh.a", "l"),
            symlink(".wh.b", "/etc"),
            dir(".wh.c"),
            fifo(".wh.d"),
            file("e/.wh..wh.aufs", "x"),
            dir(".wh..wh.plnk"),
            file(".wh..wh.plnk/1.2", "x"),
            opaque("e"),
        ]
    };
    taken(members, |tree| {
        for path in testkit::tree::paths(tree) {
            assert!(!path.to_string_lossy().contains(".wh."), "{path:?}");
        }
    });
    let scene = Scene::new();
    let (tree, result) = scene.unpack("marks", &archive(&members(&scene)));
    result.expect("unpacks");
    for name in ["a", "b", "c", "d"] {
        let mark = tree.join(name).symlink_metadata().expect(name);
        assert_eq!((mark.mode() & libc_s_ifmt(), mark.rdev()), (0o020_000, 0), "{name}");
    }
}

fn libc_s_ifmt() -> u32 {
    0o170_000
}

#[test]
fn a_whiteout_of_a_name_of_255_bytes_is_made() {
    let long = "n".repeat(255);
    let scene = Scene::new();
    let (tree, result) = scene.unpack("overlay", &archive(&[whiteout(&long)]));
    result.expect("unpacks");
    assert!(tree.join(&long).symlink_metadata().is_ok());
    refused("256 bytes", "nnn", |_| vec![file("n".repeat(256), "x")]);
    refused("5000 bytes", "longer than", |_| vec![file("n/".repeat(2500), "x")]);
}

#[test]
fn device_numbers_and_owners_out_of_range_are_refused() {
    refused("major", "device number", |_| vec![char_device("d", 4096, 0)]);
    refused("minor", "device number", |_| vec![char_device("d", 1, 1 << 20)]);
    refused("uid", "out of range", |_| vec![file("f", "").owner(u64::from(u32::MAX), 0)]);
    refused("gid", "out of range", |_| vec![file("f", "").owner(0, 1 << 32)]);
    refused("negative", "out of range", |_| vec![file("f", "").pax("uid", "-1")]);
    taken(
        |_| vec![file("f", "").owner(u64::from(u32::MAX) - 1, 65536)],
        |tree| {
            let f = tree.join("f").symlink_metadata().expect("f");
            assert_eq!((f.uid(), f.gid()), (u32::MAX - 1, 65536));
        },
    );
}

#[test]
fn overlay_xattrs_inside_a_layer_are_dead() {
    let members = |_: &Scene| {
        vec![
            dir("d").xattr("trusted.overlay.redirect", "/secret").xattr("user.overlay.opaque", "y"),
            file("f", "x").xattr("trusted.overlay.metacopy", "").xattr("user.keep", "v"),
        ]
    };
    taken(members, |tree| {
        let found = testkit::tree::read(tree);
        assert!(found[Path::new("d")].xattrs.is_empty());
        assert_eq!(found[Path::new("f")].xattrs.keys().collect::<Vec<_>>(), ["user.keep"]);
    });
}

#[test]
fn setuid_and_file_capabilities_survive_a_change_of_owner() {
    let capability = testkit::tar::CAP_NET_RAW;
    let members = |_: &Scene| {
        vec![
            file("s", "x").mode(0o6755).owner(3, 3),
            file("c", "x").owner(3, 3).xattr("security.capability", capability),
            fifo("p").mode(0o4640).owner(3, 3),
        ]
    };
    taken(members, |tree| {
        assert_eq!(tree.join("s").symlink_metadata().expect("s").mode() & 0o7777, 0o6755);
        assert_eq!(tree.join("p").symlink_metadata().expect("p").mode() & 0o7777, 0o4640);
        let found = testkit::tree::read(tree);
        assert_eq!(found[Path::new("c")].xattrs["security.capability"], capability);
    });
}

#[test]
fn an_xattr_that_the_file_system_refuses_is_named_with_its_member() {
    let scene = Scene::new();
    let bytes = archive(&[file("dir/f", "x").xattr("security.capability", "nonsense")]);
    assert_refused(scene.unpack("overlay", &bytes).1, "dir/f", "bad capability");
}

#[test]
fn neither_setgid_nor_default_acls_of_a_directory_reach_what_is_in_it() {
    let acl: Vec<u8> = [
        &[2, 0, 0, 0][..],
        &[1, 0, 7, 0, 255, 255, 255, 255],
        &[4, 0, 7, 0, 255, 255, 255, 255],
        &[32, 0, 7, 0, 255, 255, 255, 255],
    ]
    .concat();
    let members = |_: &Scene| {
        vec![
            dir("d").mode(0o2777).owner(0, 50).xattr("system.posix_acl_default", &acl),
            file("d/f", "x").mode(0o600),
            dir("d/e").mode(0o700),
        ]
    };
    taken(members, |tree| {
        let stat = |name: &str| tree.join(name).symlink_metadata().expect(name);
        assert_eq!((stat("d").mode() & 0o7777, stat("d").gid()), (0o2777, 50));
        assert_eq!((stat("d/f").mode() & 0o7777, stat("d/f").gid()), (0o600, 0));
        assert_eq!((stat("d/e").mode() & 0o7777, stat("d/e").gid()), (0o700, 0));
        let found = testkit::tree::read(tree);
        assert!(found[Path::new("d/f")].xattrs.is_empty() && found[Path::new("d/e")].xattrs.is_empty());
        assert!(found[Path::new("d")].xattrs.contains_key("system.posix_acl_default"));
    });
}

#[test]
fn a_umask_changes_nothing() {
    let scene = Scene::new();
    let bytes = archive(&[file("f", "x").mode(0o666), dir("d").mode(0o777), fifo("p").mode(0o666)]);
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o777));
    let (tree, result) = scene.unpack("overlay", &bytes);
    rustix::process::umask(before);
    result.expect("unpacks");
    for (name, mode) in [("f", 0o666), ("d", 0o777), ("p", 0o666)] {
        assert_eq!(tree.join(name).metadata().expect(name).permissions().mode() & 0o7777, mode);
    }
}

#[test]
fn hundreds_of_broken_layers_leak_no_descriptors() {
    let open = || std::fs::read_dir("/proc/self/fd").expect("proc").count();
    let scene = Scene::new();
    let bytes = archive(&[dir("a"), file("a/b", "x"), hardlink("h", "gone")]);
    let run = |n: usize| {
        let tree = scene.tree(&format!("t{n}"));
        let result =
            layer::unpack(&bytes[..], layer::Encoding::None, &common::open(&tree), &Default::default());
        assert!(result.is_err());
    };
    run(0);
    let before = open();
    for n in 1..300 {
        run(n);
    }
    // Other tests of this binary hold some of their own.
    assert!(open() < before + 100, "{} before, {} after", before, open());
}

#[test]
fn names_beside_a_deep_path_take_no_memory_without_end() {
    let scene = Scene::new();
    let deep = vec!["d".repeat(200); 19].join("/");
    let members = |count: usize| {
        let names = (0..count).map(|n| file(format!("{deep}/{n}/f"), ""));
        archive(&names.collect::<Vec<_>>())
    };
    assert_refused(scene.unpack("many", &members(5_000)).1, "bytes of paths", "many");
    let unpacked = scene.unpack("some", &members(500)).1.expect("unpacks");
    assert_eq!(unpacked.implied.len(), 1 + 19 + 500);
}
