//! The host went down under a container: what its state says is put right, and it starts again. Needs root.

#[allow(dead_code, reason = "what the other tests use of it")]
mod world;

use descriptor::Status;
use store::state::UNSEEN;
use store::{Container, MountId, Process};
use world::{World, code, line, text};

#[test]
fn after_a_reboot_a_container_has_stopped_and_starts_on_what_it_wrote() {
    let Some(world) = World::new() else { return };
    let web = world.plain("web");
    let output = world.spawn(&line(&web), &["--", "sh", "-c", "echo kept >/file"]);
    assert_eq!(code(&output), 0, "{output:?}");
    cut_off(&web);
    let seen = world.store.container("web").expect("by name").line().expect("line");
    assert_eq!((seen.status, seen.exit_code, seen.mounted), (Status::Stopped, Some(UNSEEN), false));
    let right = web.state().expect("state");
    assert_eq!((right.status, right.mount, right.monitor, right.group), (Status::Stopped, None, None, None));
    let output = world.spawn(&line(&web), &["--", "cat", "/file"]);
    assert_eq!((code(&output), text(&output.stdout)), (0, "kept\n".into()), "{output:?}");
    assert_eq!(web.state().expect("state").exit_code, Some(0));
}

#[test]
fn the_next_verb_whichever_it_is_puts_right_what_a_reboot_made_untrue() {
    let Some(world) = World::new() else { return };
    let web = world.plain("web");
    for (words, status) in [
        (&["stop", "web"][..], 0),
        (&["kill", "web"], 9),
        (&["wait", "web"], 0),
        (&["exec", "web", "true"], 9),
        (&["attach", "web"], 9),
        (&["top", "web"], 9),
    ] {
        cut_off(&web);
        let output = world.spawn(b"", words);
        assert_eq!(code(&output), status, "{words:?}: {output:?}");
        let state = web.state().expect("state");
        assert_eq!((state.status, state.exit_code), (Status::Stopped, Some(UNSEEN)), "{words:?}");
    }
}

/// As a power cut leaves it: it ran, was mounted and watched, all of that in another boot; nothing is mounted now.
fn cut_off(web: &Container) {
    let mut state = web.state().expect("state");
    let other = || "another".to_string();
    state.status = Status::Running;
    (state.pid, state.start_time, state.boot_id) = (Some(std::process::id()), Some(1), Some(other()));
    state.mount = Some(MountId { namespace: 1, id: 2, boot_id: other() });
    state.monitor = Some(Process { pid: std::process::id(), start_time: 1, boot_id: other() });
    state.group = Some(serde_json::json!({"gone": true}));
    web.set_state(&state).expect("write");
}
