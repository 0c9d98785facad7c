//! Mounts and devices of config.json, on the real kernel. Needs root.

mod bundle;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use bundle::{Bundle, said, text};
use serde_json::json;

/// The options of the mount on a path, from inside.
const OPTIONS: &str =
    "awk '$5 == \"/mnt\" || index($5, \"/mnt/\") == 1 { print $5, $6, $7 }' /proc/self/mountinfo";

fn sh(script: &str) {
    let status = Command::new("sh").args(["-ec", script]).status();
    assert!(status.expect("sh").success(), "{script}");
}

/// A directory with a tmpfs and another one in it, unmounted when dropped.
struct Tree(std::path::PathBuf);

impl Tree {
    fn new(bundle: &Bundle, propagation: &str) -> Self {
        let at = bundle.at("tree");
        let path = at.display();
        sh(&format!(
            "mkdir {path}; mount -t tmpfs t {path}; mount --make-{propagation} {path}; mkdir {path}/inner {path}/later; \
             mount -t tmpfs u {path}/inner; mount --make-{propagation} {path}/inner"
        ));
        Self(at)
    }

    fn path(&self) -> String {
        self.0.display().to_string()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let path = self.0.display();
        let _ = Command::new("sh").args(["-c", &format!("umount -R -l {path}")]).status();
    }
}

#[test]
fn recursive_options_reach_the_mounts_below_and_plain_ones_do_not() {
    let Some(mut bundle) = Bundle::new(OPTIONS) else { return };
    let tree = Tree::new(&bundle, "private");
    let options = |words: &[&str], bundle: &mut Bundle| {
        bundle.config["mounts"].as_array_mut().expect("a list").truncate(4);
        bundle.mount("/mnt", "bind", &tree.path(), words);
        bundle.prints()
    };
    for (recursive, plain, shown) in [
        ("rro", "ro", "ro"),
        ("rnosuid", "nosuid", "nosuid"),
        ("rnodev", "nodev", "nodev"),
        ("rnoexec", "noexec", "noexec"),
        ("rnoatime", "noatime", "noatime"),
        ("rnodiratime", "nodiratime", "nodiratime"),
        ("rnosymfollow", "nosymfollow", "nosymfollow"),
    ] {
        let has = |out: &str| -> Vec<bool> {
            let lines = out.lines().map(|line| line.split(' ').nth(1).unwrap_or_default());
            lines.map(|options| options.split(',').any(|one| one == shown)).collect()
        };
        let out = options(&["rbind", recursive], &mut bundle);
        assert_eq!(has(&out), [true, true], "{recursive}: {out}");
        let out = options(&["rbind", plain], &mut bundle);
        assert_eq!(has(&out), [true, false], "{plain}: {out}");
        let out = options(&["bind", plain], &mut bundle);
        assert_eq!(has(&out), [true], "{plain}: {out}");
    }
}

#[test]
fn what_is_read_only_for_the_tree_cannot_be_written_anywhere_in_it() {
    let Some(mut bundle) = Bundle::new("touch /mnt/x /mnt/inner/x; ls /mnt /mnt/inner") else { return };
    let tree = Tree::new(&bundle, "private");
    bundle.mount("/mnt", "bind", &tree.path(), &["rbind", "rro"]);
    let output = bundle.run();
    assert_eq!(text(&output.stderr).matches("Read-only file system").count(), 2, "{}", said(&output));
    bundle.set("/mounts/4/options", json!(["rbind", "ro"]));
    let output = bundle.run();
    assert_eq!(text(&output.stderr).matches("Read-only file system").count(), 1, "{}", said(&output));
    assert!(tree.0.join("inner/x").exists());
}

#[test]
fn mounts_made_later_pass_as_the_propagation_says() {
    // Options, rootfsPropagation, whether a later mount of the host is seen, and one of the container by the host.
    for (word, root, comes_in, goes_out) in [
        ("rprivate", "", false, false),
        ("rslave", "", true, false),
        ("rshared", "", true, false),
        ("rshared", "shared", true, true),
        ("rslave", "shared", true, false),
        ("rshared", "private", false, false),
    ] {
        let Some(mut bundle) = Bundle::new(
            "mount -t tmpfs v /mnt/inner; while [ ! -e /tmp/go ]; do sleep 0.1; done; grep -c ' /mnt/later ' /proc/self/mountinfo",
        ) else {
            return;
        };
        let tree = Tree::new(&bundle, "shared");
        bundle.privileged();
        bundle.mount("/mnt", "bind", &tree.path(), &["rbind", word]);
        if !root.is_empty() {
            bundle.set("/linux/rootfsPropagation", json!(root));
        }
        let mut command = bundle.command(&["run", &bundle.id]);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::inherit());
        let mut child = command.spawn().expect("the tool");
        std::thread::sleep(std::time::Duration::from_millis(700));
        let inner = format!("{}/inner ", tree.path());
        let seen = || fs::read_to_string("/proc/self/mountinfo").expect("mounts").matches(&inner).count();
        let out = seen();
        sh(&format!("mount -t tmpfs w {}/later", tree.path()));
        fs::write(bundle.at("rootfs/tmp/go"), "").expect("write");
        let mut text = String::new();
        std::io::Read::read_to_string(&mut child.stdout.take().expect("piped"), &mut text).expect("read");
        child.wait().expect("wait");
        let name = format!("{word} with rootfsPropagation {root:?}");
        assert_eq!(text.trim() == "1", comes_in, "{name}: {text}");
        assert_eq!(out == 2, goes_out, "{name}: {out}");
        // The host's own mounts are all there.
        assert!(Path::new("/proc/self").exists() && seen() >= 1, "{name}");
    }
}

/// The host's mounts but those of other tests.
fn host_mounts() -> Vec<String> {
    let own = std::env::temp_dir().display().to_string();
    let all = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    all.lines().filter(|line| !line.contains(&own)).map(ToString::to_string).collect()
}

#[test]
fn the_root_has_the_propagation_that_is_asked_for() {
    for (word, want) in [
        ("shared", "shared:"),
        ("private", ""),
        ("unbindable", "unbindable"),
        ("slave", ""),
        ("nonsense", "refused"),
    ] {
        let Some(mut bundle) = Bundle::new("awk '$5 == \"/\" { print $7 }' /proc/self/mountinfo") else {
            return;
        };
        bundle.set("/linux/rootfsPropagation", json!(word));
        if want == "refused" {
            assert!(bundle.refuses().contains("linux.rootfsPropagation"));
            continue;
        }
        let before = host_mounts();
        let out = bundle.prints();
        assert!(if want.is_empty() { out.trim() == "-" } else { out.starts_with(want) }, "{word}: {out}");
        assert_eq!(before, host_mounts(), "{word}");
    }
}

#[test]
fn tmpcopyup_begins_with_what_the_image_has_there() {
    let Some(mut bundle) =
        Bundle::new("ls -ln /srv | tail -n +2 | awk '{print $1,$3,$NF}'; cat /srv/d/f; stat -c %a /srv")
    else {
        return;
    };
    let srv = bundle.at("rootfs/srv");
    fs::create_dir_all(srv.join("d")).expect("mkdir");
    fs::set_permissions(&srv, PermissionsExt::from_mode(0o1710)).expect("chmod");
    fs::write(srv.join("d/f"), "text\n").expect("write");
    symlink("/etc/passwd", srv.join("l")).expect("symlink");
    sh(&format!("chown 5:6 {}/d", srv.display()));
    bundle.mount("/srv", "tmpfs", "tmpfs", &["tmpcopyup"]);
    assert_eq!(bundle.prints(), "drwxr-xr-x 5 d\nlrwxrwxrwx 0 /etc/passwd\ntext\n1710\n");
    bundle.set("/mounts/4/options", json!(["mode=700"]));
    // Nothing is copied unless asked for.
    assert_eq!(text(&bundle.run().stdout), "700\n");
    bundle.set(
        "/mounts/4",
        json!({"destination": "/srv", "type": "bind", "source": "/tmp", "options": ["tmpcopyup"]}),
    );
    assert!(bundle.refuses().contains("tmpcopyup"));
}

#[test]
fn options_of_a_file_system_reach_it_or_are_refused_by_name() {
    let Some(mut bundle) = Bundle::new("grep ' /mnt ' /proc/mounts") else { return };
    bundle.mount("/mnt", "tmpfs", "tmpfs", &["sync", "dirsync", "size=1m", "silent", "nosuid", "lazytime"]);
    let out = bundle.prints();
    for word in ["sync", "dirsync", "size=1024k", "nosuid", "lazytime"] {
        assert!(out.contains(word), "{word}: {out}");
    }
    bundle.set("/mounts/4/options", json!(["nonsense"]));
    assert!(bundle.refuses().contains("nonsense"));
    bundle.set(
        "/mounts/4",
        json!({"destination": "/mnt", "type": "bind", "source": "/tmp", "options": ["bind", "nonsense"]}),
    );
    assert!(bundle.refuses().contains("\"nonsense\""));
    bundle.set("/mounts/4/options", json!(["bind", "sync"]));
    let output = bundle.run();
    assert!(
        output.status.success() && text(&output.stderr).contains("sync of \"/mnt\" has no effect"),
        "{}",
        said(&output)
    );
}

#[test]
fn a_remount_changes_what_is_there() {
    let Some(mut bundle) = Bundle::new("touch /tmp/x; touch /y; grep ' /tmp ' /proc/mounts") else { return };
    bundle.mount("/tmp", "tmpfs", "tmpfs", &["size=1m"]);
    bundle.mount("/tmp", "tmpfs", "tmpfs", &["remount", "ro", "size=2m"]);
    let output = bundle.run();
    assert!(text(&output.stderr).contains("/tmp/x: Read-only"), "{}", said(&output));
    assert!(
        text(&output.stdout).contains("size=2048k") && bundle.at("rootfs/y").exists(),
        "{}",
        said(&output)
    );
}

#[test]
fn destinations_are_inside_the_root_whatever_they_look_like() {
    let Some(mut bundle) = Bundle::new("cat /a/file /b/file /c/d/file /one-file") else { return };
    let source = bundle.at("source");
    fs::create_dir(&source).expect("mkdir");
    fs::write(source.join("file"), "s\n").expect("write");
    let canary = bundle.at("canary");
    fs::create_dir(&canary).expect("mkdir");
    symlink(&canary, bundle.at("rootfs/c")).expect("symlink");
    let path = source.display().to_string();
    bundle.mount("/x/../../../a", "bind", &path, &["bind"]);
    bundle.mount("/c/d", "bind", &path, &["bind"]);
    bundle.mount("/one-file", "bind", &format!("{path}/file"), &["bind"]);
    bundle.mount("b", "bind", "source", &["bind"]);
    let output = bundle.run();
    assert_eq!(text(&output.stdout), "s\n".repeat(4), "{}", said(&output));
    assert!(
        text(&output.stderr).contains("warning: the mount destination \"b\" is not absolute"),
        "{}",
        said(&output)
    );
    assert_eq!(fs::read_dir(&canary).expect("readable").count(), 0);
}

#[test]
fn sources_that_are_missing_are_named() {
    let Some(mut bundle) = Bundle::new("true") else { return };
    bundle.mount("/mnt", "bind", "/no/such/source", &["bind"]);
    assert!(bundle.refuses().contains("/no/such/source"));
    bundle.set("/mounts/4", json!({"destination": "/mnt", "type": "bind", "options": ["bind"]}));
    assert!(bundle.refuses().contains("has no source"));
    bundle.set("/mounts/4", json!({"destination": "/mnt", "type": "nosuchfs", "source": "x"}));
    assert!(bundle.refuses().contains("nosuchfs"));
}

#[test]
fn nothing_but_what_tells_of_the_machine_is_mounted_inside_proc() {
    let Some(mut bundle) = Bundle::new("cat /proc/uptime") else { return };
    fs::write(bundle.at("fake"), "1 2\n").expect("write");
    let fake = bundle.at("fake").display().to_string();
    bundle.mount("/proc/uptime", "bind", &fake, &["bind"]);
    assert_eq!(bundle.prints(), "1 2\n");
    symlink("proc/self", bundle.at("rootfs/way")).expect("symlink");
    for target in
        ["/proc/self/attr/exec", "/proc/sys/kernel/hostname", "/proc/self/oom_score_adj", "/way/status"]
    {
        bundle.set("/mounts/4/destination", json!(target));
        let why = bundle.refuses();
        assert!(why.contains("inside /proc") || why.contains("openat2"), "{target}: {why}");
    }
    bundle.set("/mounts/4", json!({"destination": "/proc", "type": "tmpfs", "source": "tmpfs"}));
    assert!(bundle.refuses().contains("/proc"));
    bundle.set(
        "/mounts/4",
        json!({"destination": "/proc", "type": "bind", "source": "/tmp", "options": ["rbind"]}),
    );
    assert!(bundle.refuses().contains("no procfs"));
    // A link in an image's place of /proc leads procfs nowhere.
    bundle.config["mounts"].as_array_mut().expect("a list").truncate(4);
    fs::remove_dir(bundle.at("rootfs/proc")).expect("rmdir");
    symlink("tmp", bundle.at("rootfs/proc")).expect("symlink");
    let why = bundle.refuses();
    assert!(why.contains("ordinary directory"), "{why}");
}

#[test]
fn devices_of_every_kind_are_made_where_they_are_listed() {
    let Some(mut bundle) = Bundle::new(
        "stat -c '%n %F %t:%T %a %u:%g' /dev/pipe /dev/sub/disk /dev/u /opt/zero; head -c 2 /opt/zero | wc -c",
    ) else {
        return;
    };
    let node = |path: &str, kind: &str, major: u32, minor: u32| json!({"path": path, "type": kind, "major": major, "minor": minor, "fileMode": 0o644, "uid": 3, "gid": 4});
    let pipe = json!({"path": "/dev/pipe", "type": "p"});
    let list = json!([
        pipe,
        node("/dev/sub/disk", "b", 7, 99),
        node("/dev/u", "u", 1, 8),
        node("/opt/zero", "c", 9, 9),
        node("/opt/zero", "c", 1, 5),
        node("/dev/ptmx", "c", 5, 2),
    ]);
    bundle.set("/linux/devices", list);
    bundle.set(
        "/linux/resources/devices",
        json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 5, "access": "rwm"}]),
    );
    let want = "/dev/pipe fifo 0:0 666 0:0\n/dev/sub/disk block special file 7:63 644 3:4\n\
                /dev/u character special file 1:8 644 3:4\n/opt/zero character special file 1:5 644 3:4\n2\n";
    assert_eq!(bundle.prints(), want);
    for bad in [
        json!([{"path": "dev/x", "type": "c", "major": 1, "minor": 3}]),
        json!([{"path": "/dev/../x", "type": "c", "major": 1, "minor": 3}]),
        json!([{"path": "/dev/x", "type": "c", "major": -1, "minor": 3}]),
    ] {
        bundle.set("/linux/devices", bad);
        assert!(bundle.refuses().contains("linux.devices"));
    }
}

#[test]
fn a_container_makes_the_nodes_that_its_control_group_allows_and_no_others_work() {
    let Some(mut bundle) = Bundle::new(
        "mknod /tmp/ok c 1 5 && head -c 2 /tmp/ok | wc -c; mknod /tmp/no b 7 0; head -c 1 /tmp/no; mknod /dev/made c 1 3 && echo > /dev/made && echo made",
    ) else {
        return;
    };
    bundle.privileged();
    let output = bundle.run();
    assert_eq!(text(&output.stdout), "2\nmade\n", "{}", said(&output));
    assert!(text(&output.stderr).contains("not permitted"), "{}", said(&output));
}

#[test]
fn a_bound_dev_is_left_as_it_is() {
    let Some(mut bundle) = Bundle::new("ls -d /dev/null /dev/fd; echo x > /dev/null") else { return };
    bundle.config["mounts"].as_array_mut().expect("a list").remove(2);
    bundle.set(
        "/mounts/1",
        json!({"destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind", "rslave"]}),
    );
    bundle.set(
        "/linux/devices",
        json!([{"path": "/dev/made-by-mistake", "type": "c", "major": 1, "minor": 3}]),
    );
    let before = fs::read_dir("/dev").expect("readable").count();
    bundle.run();
    assert_eq!(fs::read_dir("/dev").expect("readable").count(), before);
    assert!(!Path::new("/dev/made-by-mistake").exists());
}

#[test]
fn a_plain_user_runs_a_bundle_in_a_user_namespace_of_its_own() {
    let Some(mut bundle) =
        Bundle::new("id -u; cat /proc/self/uid_map; echo x > /dev/null; touch /tmp/made; cat /mnt/file")
    else {
        return;
    };
    let (user, group) = (4321_u32, 4322_u32);
    bundle.without_namespace("network").namespace("user", None).namespace("cgroup", None);
    let map = |host: u32| json!([{"containerID": 0, "hostID": host, "size": 1}]);
    bundle.set("/linux/uidMappings", map(user)).set("/linux/gidMappings", map(group));
    bundle.mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]);
    fs::create_dir(bundle.at("source")).expect("mkdir");
    fs::write(bundle.at("source/file"), "mine\n").expect("write");
    bundle.mount("/mnt", "bind", "source", &["bind", "ro"]);
    bundle.write();
    fs::create_dir(bundle.state_root()).expect("mkdir");
    bundle.open_to_all();
    sh(&format!("chown -hR {user}:{group} {}", bundle.path().display()));
    // The build's own directory may be nobody else's to go through.
    let program = bundle.at("oci-spawn");
    testkit::copy_program(&bundle.program, &program);
    bundle.program = program.clone();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &user.to_string(), "--regid", &group.to_string(), "--clear-groups", "--"]);
    command.arg(&program).arg("--root").arg(bundle.state_root()).args(["run", &bundle.id]);
    command.current_dir(bundle.path());
    let output = bundle.output(command);
    let want = format!("0\n{:>10} {user:>10} {:>10}\nmine\n", 0, 1);
    assert_eq!((text(&output.stdout), text(&output.stderr)), (want, String::new()), "{}", said(&output));
    // Only root's own state root is asked when this is cleaned up.
    sh(&format!("chown -hR 0:0 {}", bundle.state_root().display()));
}
