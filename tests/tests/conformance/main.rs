//! Conformance by the letter: one test for each MUST of the runtime specification, version 1.3.0, that a runtime can be
//! held to, in the order of its documents.
//!
//! The tables here are what docs/conformance.md shows; `the_page_lists_what_is_tested` keeps the two alike.

mod bundle;
mod cgroups;
mod devices;
mod hooks;
mod lifecycle;
mod linux;
mod mounts;
mod namespaces;
mod operations;
mod options;
mod process;
mod rdt;
mod seccomp;
mod state;
mod uncovered;
mod values;

use serde_json::Value;
use testkit::Bundle;

/// One MUST and its test.
struct Case {
    /// The document and the section.
    section: &'static str,
    /// What it demands, in short.
    must: &'static str,
    /// The test's path.
    test: &'static str,
}

/// Declares cases, each a test of its own and a row of the module's `CASES`.
///
/// What follows the arrow takes a bundle: a closure, or what [`prints`], [`refused`] and the like make.
macro_rules! cases {
    ($($section:literal { $($name:ident: $must:literal => $check:expr;)+ })+) => {
        pub(crate) const CASES: &[crate::Case] = &[$($(crate::Case {
            section: $section,
            must: $must,
            test: concat!(module_path!(), "::", stringify!($name)),
        },)+)+];
        $($(
            #[test]
            fn $name() {
                crate::check($check);
            }
        )+)+
    };
}
pub(crate) use cases;

/// Runs a check on a new bundle.
fn check(check: impl FnOnce(Bundle)) {
    if let Some(bundle) = Bundle::new() {
        check(bundle);
    }
}

/// The changed configuration runs, and what the script prints in it is this.
fn prints(change: impl Fn(&mut Value), script: &str, wanted: &str) -> impl FnOnce(Bundle) {
    move |mut bundle| {
        change(&mut bundle.config);
        let printed = bundle.prints(script);
        assert_eq!(printed, wanted, "{}", bundle.config);
    }
}

/// The changed configuration is refused with these words, and nothing is left.
fn refused(change: impl Fn(&mut Value), words: &str) -> impl FnOnce(Bundle) {
    move |mut bundle| {
        bundle.sh("echo ran >/ran");
        change(&mut bundle.config);
        refuses(&bundle, words);
    }
}

/// `create` fails with these words and leaves nothing.
fn refuses(bundle: &Bundle, words: &str) {
    let said = bundle.create().fails(1);
    assert!(said.stderr.contains(words), "not {words:?} but {said}");
    bundle.assert_nothing_left();
    assert!(!bundle.root().join("ran").exists(), "the command ran");
}

/// The path `a.b.c` of a configuration becomes this.
fn set(path: &'static str, value: Value) -> impl Fn(&mut Value) {
    move |config| {
        let place = path.split('.').fold(&mut *config, |value, name| &mut value[name]);
        *place = value.clone();
    }
}

/// The path `a.b.c` of a configuration is left out.
fn without(path: &'static str) -> impl Fn(&mut Value) {
    move |config| {
        let (parent, name) = path.rsplit_once('.').unwrap_or(("", path));
        let place =
            parent.split('.').filter(|n| !n.is_empty()).fold(&mut *config, |value, name| &mut value[name]);
        place.as_object_mut().expect("an object").remove(name);
    }
}

const TABLES: &[(&str, &[&[Case]])] = &[
    ("runtime.md", &[state::CASES, lifecycle::CASES, operations::CASES]),
    ("bundle.md and runtime-linux.md", &[bundle::CASES]),
    ("config.md", &[values::CASES, mounts::CASES, options::CASES, process::CASES, hooks::CASES]),
    (
        "config-linux.md",
        &[namespaces::CASES, devices::CASES, cgroups::CASES, rdt::CASES, seccomp::CASES, linux::CASES],
    ),
];

const HEAD: &str = "\
# Conformance

The demands of the [runtime specification](https://github.com/opencontainers/runtime-spec/tree/v1.3.0), version 1.3.0, on a
runtime for Linux, each with the test that holds this one to it. The tests are in `tests/tests/conformance/`;
`cargo test -p ocipipe-tests --test conformance` runs them (root, busybox). A test that this machine cannot run is skipped
aloud and counted. This page is written from the tests' own table: `OCIPIPE_WRITE=1` with that command renews it.
";

fn page() -> String {
    let mut page = HEAD.to_owned();
    let count: usize = TABLES.iter().flat_map(|(_, tables)| *tables).map(|table| table.len()).sum();
    page.push_str(&format!("\n{count} demands are tested.\n"));
    for (document, tables) in TABLES {
        page.push_str(&format!("\n## {document}\n\n| section | MUST | test |\n| --- | --- | --- |\n"));
        for case in tables.iter().flat_map(|table| *table) {
            let test = case.test.trim_start_matches("conformance::");
            page.push_str(&format!("| {} | {} | `{test}` |\n", case.section, case.must));
        }
    }
    page.push_str("\n## Not tested, and why\n\n| section | MUST | why |\n| --- | --- | --- |\n");
    for (section, must, why) in uncovered::UNCOVERED {
        page.push_str(&format!("| {section} | {must} | {why} |\n"));
    }
    page
}

#[test]
fn the_page_lists_what_is_tested() {
    let path = testkit::world::workspace().join("docs/conformance.md");
    if std::env::var_os("OCIPIPE_WRITE").is_some() {
        std::fs::write(&path, page()).expect("docs/conformance.md");
    }
    let written = std::fs::read_to_string(&path).expect("docs/conformance.md");
    assert!(
        written == page(),
        "docs/conformance.md is not what the table says: run this with OCIPIPE_WRITE=1"
    );
}

#[test]
fn no_test_is_named_twice_and_no_demand_is_empty() {
    let mut names: Vec<&str> = TABLES
        .iter()
        .flat_map(|(_, tables)| *tables)
        .flat_map(|table| *table)
        .map(|case| case.test)
        .collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    for case in TABLES.iter().flat_map(|(_, tables)| *tables).flat_map(|table| *table) {
        assert!(!case.must.is_empty() && !case.must.contains('|'), "{}", case.test);
    }
}
