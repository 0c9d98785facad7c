//! A caller without rights: goes without a group where nothing was asked for, and says so where something was.

use crate::*;

/// Any user but root.
const NOBODY: u32 = 65534;

/// Runs `work` as a user without rights: in a thread of its own, as the kernel's identities are those of threads.
fn unprivileged<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let work = || {
        let nobody = rustix::process::Uid::from_raw(NOBODY);
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody).expect("another user");
        work()
    };
    std::thread::spawn(work).join().expect("it ended")
}

fn rootless(path: Option<&Path>) -> Group {
    let name = name();
    let id = name.to_str().expect("text").trim_start_matches('/');
    Group::plan(&Request { id, path, driver: Driver::Fs, rootless: true }).expect("a plan")
}

#[test]
fn a_rootless_container_without_limits_goes_without_a_group() {
    needs!(Root);
    let mut group = unprivileged(|| {
        let mut group = rootless(None);
        group.make(&resources(r#"{"devices":[{"allow":false,"access":"rwm"}]}"#)).expect("made without");
        group
    });
    assert!(group.is_none());
    assert!(group.birthplace().expect("none").is_none());
    let held = Held(Command::new("sleep").arg("60").spawn().expect("sleep"));
    group.adopt(held.pid()).expect("nothing to enter");
    assert!(!group.is_frozen().expect("not frozen"));
    assert!(matches!(group.freeze(), Err(Error::NoGroup { .. })));
    assert!(matches!(group.stats(), Err(Error::NoGroup { .. })));
    group.remove().expect("nothing to remove");
}

#[test]
fn a_limit_that_a_rootless_caller_cannot_set_is_an_error() {
    needs!(Root);
    let error = unprivileged(|| rootless(None).make(&resources(r#"{"memory":{"limit":33554432}}"#)))
        .expect_err("refused");
    assert!(matches!(error, Error::NoGroup { .. }), "{error}");
    assert!(error.to_string().contains("linux.resources.memory.limit"), "{error}");
}

#[test]
fn a_path_that_a_rootless_caller_asks_for_and_cannot_have_is_an_error() {
    needs!(Root);
    let path = name();
    let error =
        unprivileged(move || rootless(Some(&path)).make(&LinuxResources::default())).expect_err("refused");
    assert_eq!(error.errno(), Some(rustix::io::Errno::ACCESS), "{error}");
}
