//! The hostile archives of `hostile/*.tar.txt` and their legal twins, in both forms, with a canary compared around each.

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::{Scene, assert_refused};
use testkit::tarsmith::{Case, Expected, tables};

/// No archive of the tables takes this long on any machine, however loaded; one that does has no end.
const TOO_LONG: Duration = Duration::from_secs(600);

fn all() -> Vec<(String, Vec<Case>)> {
    tables(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile"))
}

/// Runs the cases of one table and returns all that went otherwise than it says.
fn run(table: &str) -> Vec<String> {
    let (_, cases) = all().into_iter().find(|(name, _)| name == table).expect(table);
    let mut wrong = Vec::new();
    for case in cases {
        let begin = Instant::now();
        let panicked = std::panic::catch_unwind(|| check(&case));
        if panicked.is_err() {
            wrong.push(format!("{table}: {}", case.title));
        }
        assert!(begin.elapsed() < TOO_LONG, "{table}: {} took {:?}", case.title, begin.elapsed());
    }
    wrong
}

/// Both forms do what the case says; the scene compares the canary.
fn check(case: &Case) {
    let scene = Scene::new();
    let title = &case.title;
    let layers = case.layers(&[("canary", &scene.prey())]).unwrap_or_else(|error| panic!("{title}: {error}"));
    let mut overlay = Ok(());
    let mut tree = scene.tree("none");
    for (at, layer) in layers.iter().enumerate() {
        let (made, result) = scene.unpack(&format!("overlay{at}"), layer);
        tree = made;
        overlay = overlay.and(result.map(drop));
    }
    let (flat_tree, flat) = scene.flatten("flat", &layers);
    match &case.expected {
        Expected::Refused(says) => {
            if case.only != "flat" {
                assert_refused(overlay, says, title);
            }
            if case.only != "overlay" {
                assert_refused(flat, says, title);
            }
        }
        Expected::Unpacks(names) => {
            overlay.unwrap_or_else(|error| panic!("{title}: overlay form: {error}"));
            flat.unwrap_or_else(|error| panic!("{title}: flat form: {error}"));
            holds(case, &flat_tree, names);
            if layers.len() == 1 {
                holds(case, &tree, names);
            }
        }
    }
}

fn holds(case: &Case, tree: &Path, names: &[String]) {
    let title = &case.title;
    for name in names {
        assert!(tree.join(name).symlink_metadata().is_ok(), "{title}: no {name} in {tree:?}");
    }
    for name in &case.lacks {
        assert!(tree.join(name).symlink_metadata().is_err(), "{title}: {name} in {tree:?}");
    }
}

fn assert_right(table: &str) {
    let wrong = run(table);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn names_lead_nowhere_outside() {
    assert_right("a1-names");
}

#[test]
fn nothing_is_written_through_symlinks() {
    assert_right("a2-symlinks");
}

#[test]
fn hard_links_reach_what_the_layer_has() {
    assert_right("a3-hardlinks");
}

#[test]
fn metadata_reaches_what_was_made() {
    assert_right("a4-metadata");
}

#[test]
fn the_root_stays_a_directory() {
    assert_right("a5-root");
}

#[test]
fn whiteouts_take_away_what_is_inside() {
    assert_right("a7-whiteouts");
}

#[test]
fn an_archive_has_one_reading_or_none() {
    assert_right("a8-differential");
}

#[test]
fn headers_do_not_fill_the_memory() {
    assert_right("a9-memory");
}

#[test]
fn numbers_have_limits() {
    assert_right("a10-bombs");
}

#[test]
fn content_is_written_and_left_alone() {
    assert_right("a11-content");
}

#[test]
fn every_table_is_run_and_there_are_enough_cases() {
    let names: Vec<_> = all().into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        [
            "a1-names",
            "a10-bombs",
            "a11-content",
            "a2-symlinks",
            "a3-hardlinks",
            "a4-metadata",
            "a5-root",
            "a7-whiteouts",
            "a8-differential",
            "a9-memory"
        ]
    );
    let refused = |case: &&Case| matches!(case.expected, Expected::Refused(_));
    let refused: usize = all().iter().map(|(_, cases)| cases.iter().filter(refused).count()).sum();
    assert!(refused >= 80, "{refused}");
}
