//! Random stacks of trees: flattening gives what the kernel's overlayfs shows.

mod packing;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use layer::{Encoding, Options, PackOptions, pack_changes, pack_merged};
use proptest::prelude::*;
use rustix::fs::FileType;
use sys::Root;

use packing::{extracted, listing, mknod, open, packed, set_xattr, tree};

/// What a tree has at a path.
#[derive(Debug, Clone, Copy)]
enum Thing {
    File,
    Directory,
    Opaque,
    Symlink,
    Whiteout,
}

/// Few names and little depth, so that the trees meet.
fn entries() -> impl Strategy<Value = Vec<(Vec<usize>, Thing)>> {
    let path = prop::collection::vec(0..3_usize, 1..4);
    let thing = prop_oneof![
        3 => Just(Thing::File),
        3 => Just(Thing::Directory),
        2 => Just(Thing::Opaque),
        1 => Just(Thing::Symlink),
        2 => Just(Thing::Whiteout),
    ];
    prop::collection::vec((path, thing), 0..12)
}

/// Makes what can be made: an entry whose parent is no directory is left out.
fn make(root: &Path, entries: &[(Vec<usize>, Thing)], mark: &str) {
    fs::create_dir(root).expect("mkdir");
    for (path, thing) in entries {
        let names = path.iter().map(|n| ["a", "b", "c"][*n]);
        let at = names.fold(root.to_path_buf(), |at: PathBuf, name| at.join(name));
        let parent = at.parent().expect("below the root");
        if !parent.symlink_metadata().is_ok_and(|m| m.is_dir()) || at.symlink_metadata().is_ok() {
            continue;
        }
        match thing {
            Thing::File => fs::write(&at, mark).expect("write"),
            Thing::Directory => fs::create_dir(&at).expect("mkdir"),
            Thing::Opaque => {
                fs::create_dir(&at).expect("mkdir");
                set_xattr(&at, "user.overlay.opaque", b"y");
            }
            Thing::Symlink => std::os::unix::fs::symlink("a", &at).expect("symlink"),
            Thing::Whiteout => mknod(&at, FileType::CharacterDevice, 0, 0),
        }
    }
}

/// How many stacks are tried: all with OCIPIPE_FULL=1.
fn cases(usually: u32) -> u32 {
    if std::env::var_os("OCIPIPE_FULL").is_some_and(|value| value == "1") { 1000 } else { usually }
}

/// The kernel's view of the trees, the uppermost first.
fn view(dir: &Path, trees: &[PathBuf]) -> String {
    let at = dir.join("view");
    fs::create_dir_all(&at).expect("mkdir");
    let lowers: Vec<&str> = trees.iter().map(|tree| tree.to_str().expect("utf-8")).collect();
    let options = format!("lowerdir={},userxattr", lowers.join(":"));
    let mount = Command::new("mount").args(["-t", "overlay", "none", "-o", &options]).arg(&at).status();
    assert!(mount.expect("mount").success());
    let shown = listing(&at);
    assert!(Command::new("umount").arg("-l").arg(&at).status().expect("umount").success());
    shown
}

#[test]
fn a_directory_made_again_above_what_took_it_away_hides_the_lower_one_when_both_are_one_layer() {
    for between in [Thing::Whiteout, Thing::File, Thing::Symlink, Thing::Opaque] {
        let dir = tree();
        let trees: Vec<PathBuf> = (0..3).map(|n| dir.path().join(n.to_string())).collect();
        make(&trees[0], &[(vec![0], Thing::Directory), (vec![0, 1], Thing::File)], "0");
        make(&trees[1], &[(vec![0], between)], "1");
        make(&trees[2], &[(vec![0], Thing::Directory), (vec![0, 2], Thing::File)], "2");
        let roots = [open(&trees[0]), open(&trees[1])];
        let roots: Vec<&Root> = roots.iter().collect();
        let (archive, ..) = packed(|out, warn| pack_changes(&roots, PackOptions::default(), out, warn));
        let one = dir.path().join("one");
        fs::create_dir(&one).expect("mkdir");
        layer::unpack(&*archive, Encoding::None, &open(&one), &Options::default()).expect("unpack");
        let found = view(dir.path(), &[one, trees[2].clone()]);
        assert_eq!(found, view(dir.path(), &trees), "{between:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(40), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_random_stack_flattens_to_what_overlayfs_shows(stack in prop::collection::vec(entries(), 2..6)) {
        let dir = tree();
        let trees: Vec<PathBuf> = (0..stack.len()).map(|n| dir.path().join(n.to_string())).collect();
        for (n, (tree, entries)) in trees.iter().zip(&stack).enumerate() {
            make(tree, entries, &n.to_string());
        }
        let roots: Vec<Root> = trees.iter().map(|tree| open(tree)).collect();
        let roots: Vec<&Root> = roots.iter().collect();
        let (archive, ..) = packed(|out, warn| pack_merged(&roots, PackOptions::default(), out, warn));
        prop_assert_eq!(listing(extracted(&archive).path()), view(dir.path(), &trees));
    }

    /// The upper trees made one, over the lower ones, look as all of them.
    #[test]
    fn the_upper_trees_of_a_random_stack_are_one_layer_over_the_lower_ones(
        stack in prop::collection::vec(entries(), 2..6), many in 1..5_usize
    ) {
        let dir = tree();
        let trees: Vec<PathBuf> = (0..stack.len()).map(|n| dir.path().join(n.to_string())).collect();
        for (n, (tree, entries)) in trees.iter().zip(&stack).enumerate() {
            make(tree, entries, &n.to_string());
        }
        let (above, below) = trees.split_at(many.min(stack.len() - 1));
        let roots: Vec<Root> = above.iter().map(|tree| open(tree)).collect();
        let roots: Vec<&Root> = roots.iter().collect();
        let (archive, ..) = packed(|out, warn| pack_changes(&roots, PackOptions::default(), out, warn));
        let one = dir.path().join("one");
        fs::create_dir(&one).expect("mkdir");
        layer::unpack(&*archive, Encoding::None, &open(&one), &Options::default()).expect("unpack");
        let squashed: Vec<PathBuf> = std::iter::once(one).chain(below.iter().cloned()).collect();
        let (found, wanted) = (view(dir.path(), &squashed), view(dir.path(), &trees));
        prop_assert_eq!(found, wanted, "{} above {}", above.len(), below.len());
    }
}
