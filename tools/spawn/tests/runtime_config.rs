//! What config.json says of a container, on the real kernel. Needs root.

mod bundle;

use bundle::Bundle;

#[test]
fn a_bundle_runs_and_leaves_nothing() {
    let Some(bundle) = Bundle::new("echo hello; hostname") else { return };
    assert_eq!(bundle.prints(), "hello\nbox\n");
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn a_bundle_is_created_started_and_deleted() {
    let Some(bundle) = Bundle::new("sleep 100") else { return };
    let pid = bundle.start();
    assert!(!bundle.leftovers().is_empty(), "a running container leaves traces");
    assert_eq!((bundle.pid(), bundle.state()["status"].as_str()), (pid, Some("running")));
    bundle.does("kill", &["KILL"]);
    bundle.wait_for("stopped");
    bundle.delete();
}
