//! `--mount` and `--tmpfs` of a run: what they give, and that nothing of them is recorded. Needs root.

mod world;

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use descriptor::Status;
use store::Container;
use world::{World, code, line, text, wait_for};

/// Nobody else's bytes look like this.
const TOKEN: &str = "hunter2-4f1c9a7e";

fn run(world: &World, container: &Container, args: &[&str]) -> Output {
    world.spawn(&line(container), args)
}

/// A run whose command is a script.
fn script(world: &World, container: &Container, mounts: &[&str], script: &str) -> Output {
    run(world, container, &[mounts, &["--", "sh", "-c", script]].concat())
}

fn has(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|part| part == needle)
}

/// Whether any file of the store, its name included, has these bytes.
fn is_in(dir: &Path, needle: &[u8]) -> bool {
    fs::read_dir(dir).expect("read").flatten().any(|entry| {
        let kind = entry.file_type().expect("type");
        has(entry.file_name().as_encoded_bytes(), needle)
            || (kind.is_dir() && is_in(&entry.path(), needle))
            || (kind.is_file() && has(&fs::read(entry.path()).expect("read"), needle))
    })
}

/// Whether the memory of a process has these bytes.
fn is_in_memory(pid: u32, needle: &[u8]) -> bool {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("maps");
    let mut memory = fs::File::open(format!("/proc/{pid}/mem")).expect("mem");
    maps.lines().filter(|map| map.contains(" rw")).any(|map| {
        let (from, to) = map.split(' ').next().and_then(|range| range.split_once('-')).expect("a range");
        let number = |text| u64::from_str_radix(text, 16).expect("hexadecimal");
        let mut bytes = vec![0; usize::try_from(number(to) - number(from)).expect("a size")];
        memory.seek(SeekFrom::Start(number(from))).expect("seek");
        memory.read_exact(&mut bytes).is_ok() && has(&bytes, needle)
    })
}

/// All that a container's own directories have, with the times of directories.
fn listing(container: &Container) -> Vec<String> {
    fn add(dir: &Path, list: &mut Vec<String>) {
        let stat = fs::metadata(dir).expect("stat");
        list.push(format!("{} {:o} {}", dir.display(), stat.mode(), stat.mtime()));
        for entry in fs::read_dir(dir).expect("read").flatten() {
            if entry.file_type().expect("type").is_dir() {
                add(&entry.path(), list);
            } else {
                list.push(entry.path().display().to_string());
            }
        }
    }
    let mut list = Vec::new();
    add(&container.path().join("init"), &mut list);
    // Seen by nobody: the root is the writable layer's.
    list.remove(0);
    add(&container.path().join("upper"), &mut list);
    list.push(format!("{}", container.path().join("points.json").exists()));
    list.sort();
    list
}

fn token_file(world: &World) -> String {
    let file = world.dir.path().join("token");
    fs::write(&file, TOKEN).expect("write");
    file.display().to_string()
}

#[test]
fn a_secret_is_a_read_only_file_in_memory_and_recorded_nowhere() {
    let Some(world) = World::new() else { return };
    let container = world.plain("a");
    let before = listing(&container);
    let from_file = format!("type=secret,id=token,src={}", token_file(&world));
    let look = "cat /run/secrets/token; ls -ln /run/secrets/token; grep ' /run/secrets/token ' /proc/self/mountinfo; echo x > /run/secrets/token";
    let output = script(&world, &container, &["--mount", &from_file], look);
    let out = text(&output.stdout);
    assert!(out.starts_with(TOKEN), "{output:?}");
    assert!(out.contains("-r--------") && out.contains("tmpfs"), "{out}");
    assert!(out.contains("ro,nosuid,nodev,noexec"), "{out}");
    assert!(text(&output.stderr).contains("Read-only"), "{output:?}");
    assert_eq!(listing(&container), before, "what it was mounted on is gone again");
    // A variable, elsewhere, for somebody else.
    let mount = "type=secret,id=TOKEN,target=/home/.token,mode=440,uid=1000,gid=7";
    let look = "[ $(wc -c < /home/.token) = 16 ] && [ $(id -u) = 1000 ] && ls -ln /home/.token";
    let mut command = world.command(&["-u", "user", "--mount", mount, "--", "sh", "-c", look]);
    command.env("TOKEN", TOKEN).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("spawn");
    child.stdin.take().expect("piped").write_all(&line(&container)).expect("write");
    let output = child.wait_with_output().expect("wait");
    assert_eq!(code(&output), 0, "{output:?}");
    assert!(text(&output.stdout).contains("-r--r-----    1 1000     7"), "{output:?}");
    // The next run has none, and the store has never had one.
    let output = run(&world, &container, &["--", "ls", "/run", "/home"]);
    assert_eq!((code(&output), text(&output.stdout)), (1, String::new()), "{output:?}");
    assert_eq!(listing(&container), before);
    assert!(!is_in(world.store.path(), TOKEN.as_bytes()), "the store has the secret");
}

#[test]
fn a_container_in_the_background_has_its_secret_and_its_monitor_does_not() {
    let Some(world) = World::new() else { return };
    let container = world.plain("a");
    let before = listing(&container);
    let secret = format!("type=secret,src={}", token_file(&world));
    let wait = "wc -c < /run/secrets/token; while [ -e /run/secrets/token ] && [ ! -e /tmp/end ]; do sleep 0.05; done";
    let output = script(&world, &container, &["-d", "--mount", &secret], wait);
    assert_eq!(code(&output), 0, "{output:?}");
    let state = container.state().expect("state");
    let monitor = state.monitor.as_ref().expect("a monitor").pid;
    assert!(!is_in_memory(monitor, TOKEN.as_bytes()), "the monitor knows the secret");
    let kept = fs::read_dir(format!("/proc/{monitor}/fd")).expect("fd").flatten();
    let links: Vec<_> = kept.filter_map(|fd| fs::read_link(fd.path()).ok()).collect();
    assert!(!links.iter().any(|link| link.ends_with("secret") || link == Path::new("/")), "{links:?}");
    fs::write(format!("/proc/{}/root/tmp/end", state.pid.expect("it runs")), "").expect("write");
    assert_eq!(text(&world.spawn(b"", &["wait", "a"]).stdout), "0\n");
    let log = fs::read_to_string(container.path().join("log")).expect("log");
    assert!(log.contains(&TOKEN.len().to_string()), "{log}");
    assert!(!is_in(world.store.path(), TOKEN.as_bytes()));
    fs::remove_file(container.path().join("upper/tmp/end")).expect("rm");
    fs::remove_dir(container.path().join("upper/tmp")).expect("rmdir");
    let names = |list: Vec<String>| -> Vec<String> {
        list.into_iter().map(|one| one.split(' ').next().unwrap_or_default().into()).collect()
    };
    assert_eq!(names(listing(&container)), names(before));
    // Started again it runs as it was made.
    let output = world.spawn(b"", &["start", "-a", "a"]);
    assert_eq!(text(&output.stdout), "default\n", "{output:?}");
}

#[test]
fn what_is_missing_or_misspelt_ends_the_run_before_it_begins_and_a_one_off_with_it() {
    let Some(world) = World::new() else { return };
    let container = world.plain("a");
    for (mount, last, passing) in [
        ("type=secret,id=none,src=/none", 125, 3),
        ("type=secret,id=none,env=OCIPIPE_NO_SUCH", 125, 3),
        ("type=secret,id=none,src=/none,required=false", 0, 0),
        ("type=bind,src=/none,dst=/x", 125, 3),
        ("type=volume,src=a,dst=/x", 2, 2),
        ("type=bind,src=/etc,dst=/x,from=alpine", 2, 2),
        ("type=secret,id=a,color=red", 2, 2),
    ] {
        let output = run(&world, &container, &["--mount", mount, "--", "ls", "/proc/self"]);
        assert_eq!(code(&output), last, "{mount} {output:?}");
        let output = run(&world, &container, &["--pass", "--mount", mount, "--", "ls", "/proc/self"]);
        assert_eq!(code(&output), passing, "{mount} {output:?}");
    }
    let twice = ["--tmpfs", "/x", "--mount", "type=tmpfs,dst=/x", "--", "ls"];
    assert_eq!(code(&run(&world, &container, &twice)), 2);
    for how in ["--pass", "-d"] {
        let once = world.one_off("once", false);
        let output = run(&world, &once, &[how, "--mount", "type=secret,id=none,src=/none", "--", "ls"]);
        assert_eq!((code(&output), world.exists("once")), (3, false), "{how} {output:?}");
    }
}

#[test]
fn binds_and_file_systems_in_memory_are_those_of_the_run() {
    let Some(world) = World::new() else { return };
    let container = world.plain("a");
    let before = listing(&container);
    let config = fs::read(container.path().join("config.json")).expect("read");
    let host = world.dir.path().join("host");
    fs::create_dir(&host).expect("mkdir");
    fs::write(host.join("f"), "from the host").expect("write");
    let writable = format!("type=bind,src={},dst=/srv/rw", host.display());
    let read_only = format!("type=bind,src={},dst=/srv/ro,ro", host.join("f").display());
    let mounts = ["--mount", &writable, "--mount", &read_only, "--mount", "type=tmpfs,dst=/srv/mem,size=1m"];
    let mounts = [&mounts[..], &["--tmpfs", "/scratch:mode=700", "-w", "/srv/rw/work"]].concat();
    let look = "cat /srv/ro; pwd; touch /srv/rw/made /srv/mem/x /scratch/y; ls -ld /scratch /srv/mem; head -c 2000000 /dev/zero > /srv/mem/big || echo full; echo x > /srv/ro";
    fs::create_dir(host.join("work")).expect("mkdir");
    let output = script(&world, &container, &mounts, look);
    let out = text(&output.stdout);
    assert!(out.starts_with("from the host/srv/rw/work\n"), "{output:?}");
    assert!(out.contains("drwx------") && out.contains("drwxrwxrwt") && out.contains("full"), "{output:?}");
    assert!(text(&output.stderr).contains("Read-only"), "{output:?}");
    assert!(host.join("made").exists());
    assert_eq!(fs::read(container.path().join("config.json")).expect("read"), config);
    assert_eq!(listing(&container), before);
}

#[test]
fn a_run_has_its_own_network_variables_and_shared_memory_and_nothing_records_them() {
    let Some(world) = World::new() else { return };
    let container = world.plain("a");
    let recorded = |name: &str| fs::read(container.path().join(name)).expect("read");
    let before = (recorded("config.json"), recorded("create.json"));
    let file = world.dir.path().join("env");
    fs::write(&file, "OF_THE_RUN=yes\n").expect("write");
    let args = ["--env-file", &file.display().to_string(), "--net", "none", "--shm-size", "2m"];
    let look = "echo $OF_THE_RUN; grep ' /dev/shm ' /proc/mounts; wc -l < /proc/net/dev";
    let output = script(&world, &container, &args, look);
    let out = text(&output.stdout);
    assert!(out.starts_with("yes\n") && out.contains("size=2048k"), "{output:?}");
    assert!(out.ends_with("\n3\n"), "two lines of head and lo: {output:?}");
    let output = script(&world, &container, &[], look);
    let out = text(&output.stdout);
    assert!(out.starts_with("\nshm /dev/shm") && out.contains("size=65536k"), "{output:?}");
    assert_eq!((recorded("config.json"), recorded("create.json")), before);
    assert!(!is_in(&container.path(), b"OF_THE_RUN"));
    let shared = script(&world, &container, &["--shm-size", "x"], "");
    assert_eq!(code(&shared), 2, "{shared:?}");
}

#[test]
fn links_of_the_container_lead_a_target_nowhere_else() {
    let Some(world) = World::new() else { return };
    let container = world.plain("a");
    let host = world.dir.path().join("host");
    fs::create_dir(&host).expect("mkdir");
    symlink(&host, container.path().join("upper/link")).expect("symlink");
    symlink("../../../../../..", container.path().join("upper/up")).expect("symlink");
    let file = token_file(&world);
    let secret = format!("type=secret,target=/link/x,src={file}");
    let cache = "type=cache,id=c,target=/link/c";
    let bind = format!("type=bind,src={file},target=/up/{}/b", host.display());
    let mounts =
        ["--mount", &secret, "--mount", cache, "--mount", &bind, "--mount", "type=tmpfs,target=/link/t"];
    let look = format!("cat {0}/x {0}/b; ls {0}", host.display());
    let output = script(&world, &container, &mounts, &look);
    assert_eq!(text(&output.stdout), format!("{TOKEN}{TOKEN}b\nc\nt\nx\n"), "{output:?}");
    assert_eq!(fs::read_dir(&host).expect("read").count(), 0, "something was made on the host");
    let output = script(&world, &container, &[], &format!("ls {}", host.display()));
    assert_ne!(code(&output), 0, "what led there is gone: {output:?}");
}

#[test]
fn where_the_writable_layer_hides_the_place_it_is_as_before_afterwards() {
    let Some(world) = World::new() else { return };
    let container = world.plain("a");
    assert_eq!(
        code(&script(&world, &container, &[], "busybox rm -r /tmp; busybox mkdir /srv; touch /srv/own")),
        0
    );
    let before = listing(&container);
    let secret = format!("type=secret,target=/tmp/deep/x,src={}", token_file(&world));
    let mounts = ["--mount", &secret, "--tmpfs", "/srv/mem"];
    let output = script(&world, &container, &mounts, "cat /tmp/deep/x; touch /srv/mem/y /srv/later");
    assert_eq!(text(&output.stdout), TOKEN, "{output:?}");
    let upper = container.path().join("upper");
    assert!(
        fs::symlink_metadata(upper.join("tmp")).expect("stat").file_type().is_char_device(),
        "a whiteout"
    );
    fs::remove_file(upper.join("srv/later")).expect("what the run wrote stayed");
    let names = |list: &[String]| -> Vec<String> {
        list.iter().map(|one| one.split(' ').next().unwrap_or_default().into()).collect()
    };
    assert_eq!(names(&listing(&container)), names(&before));
}

#[test]
fn what_a_killed_run_left_goes_with_the_next_start() {
    let Some(world) = World::new() else { return };
    let container = world.plain("a");
    let before = listing(&container);
    let mut holder = holding(&world, &container, "locked");
    // Its command may run before that is recorded.
    wait_for(&container, Status::Running);
    assert!(container.path().join("points.json").exists() && container.path().join("init/c").exists());
    // Its input stays open: at the end of that its command would take away the file.
    let input = holder.stdin.take();
    holder.kill().expect("kill");
    holder.wait().expect("wait");
    wait_for(&container, Status::Stopped);
    drop(input);
    let output = script(&world, &container, &[], "ls -d /c");
    assert_eq!(text(&output.stdout), "", "{output:?}");
    assert_eq!(listing(&container), before);
    // And its cache is free.
    let mount = "type=cache,id=c,target=/c,sharing=locked";
    let output = run(&world, &container, &["--mount", mount, "--", "ls", "/c"]);
    assert_eq!(text(&output.stdout), "held\n", "{output:?}");
    assert!(!text(&output.stderr).contains("waiting"), "{output:?}");
}

#[test]
fn a_cache_outlives_runs_and_containers() {
    let Some(world) = World::new() else { return };
    let (a, b) = (world.plain("a"), world.plain("b"));
    let before = listing(&a);
    let cache = ["--mount", "type=cache,target=/var/cache/x,mode=700,uid=1000"];
    assert_eq!(code(&script(&world, &a, &cache, "echo kept > /var/cache/x/f")), 0);
    let output = script(&world, &b, &cache, "cat /var/cache/x/f; ls -ldn /var/cache/x");
    let out = text(&output.stdout);
    assert!(out.starts_with("kept\n") && out.contains("drwx------") && out.contains("1000"), "{output:?}");
    let caches = world.store.caches().expect("caches");
    assert_eq!(caches.iter().map(store::Cache::id).collect::<Vec<_>>(), ["/var/cache/x"]);
    assert_eq!(listing(&a), before, "nothing of it is the container's");
    let other = ["--mount", "type=cache,id=other,target=/var/cache/x"];
    assert_eq!(text(&script(&world, &b, &other, "ls /var/cache/x").stdout), "", "another cache is empty");
    let read_only = ["--mount", "type=cache,target=/var/cache/x,ro"];
    let output = script(&world, &b, &read_only, "touch /var/cache/x/y");
    assert!(text(&output.stderr).contains("Read-only"), "{output:?}");
}

/// A run that has the cache until its stdin ends.
fn holding(world: &World, container: &Container, sharing: &str) -> Child {
    let mount = format!("type=cache,id=c,target=/c,sharing={sharing}");
    let script = "touch /c/held; cat; busybox rm /c/held";
    let mut command = world.command(&["-i", "--mount", &mount, "--", "sh", "-c", script]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("spawn");
    child.stdin.as_mut().expect("piped").write_all(&line(container)).expect("write");
    let held = world.store.path().join("caches/c/0/held");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !held.exists() {
        assert!(Instant::now() < deadline, "the first run never began");
        std::thread::sleep(Duration::from_millis(10));
    }
    child
}

#[test]
fn a_cache_in_use_is_waited_for_shared_or_left_to_who_has_it() {
    let Some(world) = World::new() else { return };
    let (a, b) = (world.plain("a"), world.plain("b"));
    for (first, second, sees, waits) in [
        ("shared", "shared", true, false),
        ("private", "private", false, false),
        ("locked", "locked", false, true),
        ("shared", "locked", false, true),
    ] {
        let what = format!("{first}, then {second}");
        let mut holder = holding(&world, &a, first);
        let mount = format!("type=cache,id=c,target=/c,sharing={second}");
        let mut command = world.command(&["--mount", &mount, "--", "ls", "/c"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("spawn");
        child.stdin.take().expect("piped").write_all(&line(&b)).expect("write");
        let mut said = String::new();
        if waits {
            let mut stderr = child.stderr.take().expect("piped");
            let mut bytes = [0; 512];
            let count = stderr.read(&mut bytes).expect("read");
            said = text(&bytes[..count]);
            assert!(child.try_wait().expect("wait").is_none(), "{what}: it does not wait");
            drop(holder.stdin.take());
        }
        let output = child.wait_with_output().expect("wait");
        assert_eq!(code(&output), 0, "{what} {output:?}");
        assert_eq!(text(&output.stdout).contains("held"), sees, "{what} {output:?}");
        assert_eq!(said.contains("is in use, waiting for it"), waits, "{what} {said} {output:?}");
        drop(holder.stdin.take());
        holder.wait().expect("wait");
    }
}

#[test]
fn a_container_in_the_background_has_its_cache_until_it_ends() {
    let Some(world) = World::new() else { return };
    let container = world.plain("a");
    let mount = "type=cache,id=c,target=/c,sharing=locked";
    let wait = "while [ ! -e /c/end ]; do sleep 0.05; done";
    let output = script(&world, &container, &["-d", "--mount", mount], wait);
    assert_eq!(code(&output), 0, "{output:?}");
    let cache = world.store.caches().expect("caches").pop().expect("one");
    assert!(cache.is_in_use().expect("look") && !world.store.remove_cache(&cache).expect("remove"));
    fs::write(world.store.path().join("caches/c/0/end"), "").expect("write");
    wait_for(&container, Status::Stopped);
    let deadline = Instant::now() + Duration::from_secs(20);
    while cache.is_in_use().expect("look") {
        assert!(Instant::now() < deadline, "it is never free");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_read_only_container_has_the_mounts_of_a_run_as_well() {
    let Some(world) = World::new() else { return };
    let container = world.plain("a");
    let path = container.path().join("config.json");
    let config = fs::read_to_string(&path).expect("read");
    let (writable, read_only) = ("\"readonly\": false", "\"readonly\": true");
    assert!(config.contains(writable), "{config}");
    fs::write(&path, config.replace(writable, read_only)).expect("write");
    let before = listing(&container);
    let secret = format!("type=secret,src={}", token_file(&world));
    let mounts = ["--mount", &secret, "--mount", "type=cache,target=/srv/cache", "--tmpfs", "/srv/mem"];
    let look = "cat /run/secrets/token; touch /srv/cache/x /srv/mem/x && echo done; touch /no";
    let output = script(&world, &container, &mounts, look);
    assert_eq!(text(&output.stdout), format!("{TOKEN}done\n"), "{output:?}");
    assert!(text(&output.stderr).contains("Read-only"), "{output:?}");
    assert_eq!(listing(&container), before);
}
