//! c15: configurations that are nonsense (CVE-2021-43784, CVE-2024-23650). c16: output that nobody reads (CVE-2022-1708).

use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::Bundle;

use crate::rounds;

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % sides
    }
}

/// Every place of a document.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(key, value)| places(value, &format!("{at}/{key}"), found))
        }
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(n, value)| places(value, &format!("{at}/{n}"), found))
        }
        _ => {}
    }
}

/// Puts something else into a place or two.
fn mutated(config: &Value, dice: &mut Dice) -> Value {
    let mut config = config.clone();
    for _ in 0..=dice.roll(2) {
        let mut all = Vec::new();
        places(&config, "", &mut all);
        let place = &all[1 + dice.roll(all.len() - 1)];
        let values = [
            Value::Null,
            json!(true),
            json!(-1),
            json!(u64::MAX),
            json!(i64::MIN),
            json!(1.5e300),
            json!(""),
            json!("/"),
            json!("../../../.."),
            json!("\u{0}"),
            json!("x".repeat(5000)),
            json!([]),
            json!({}),
            json!([[[[]]]]),
            json!({"": {"": null}}),
            json!(4_294_967_295_u32),
            json!("/proc/self/exe"),
            json!(["a", 1, null]),
            json!("\u{feff}ä\u{10ffff}"),
        ];
        if let Some(slot) = config.pointer_mut(place) {
            *slot = values[dice.roll(values.len())].clone();
        }
    }
    config
}

#[test]
fn c15_no_mutated_configuration_is_a_panic_or_leaves_anything() {
    let Some(mut bundle) = Bundle::new() else { return };
    bundle.config["linux"]["resources"] =
        json!({"pids": {"limit": 20}, "devices": [{"allow": false, "access": "rwm"}]});
    bundle.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]}]});
    bundle.config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 100}]);
    bundle.config["linux"]["devices"] = json!([{"type": "c", "path": "/dev/x", "major": 1, "minor": 3}]);
    let good = bundle.config.clone();
    let mut dice = Dice(1);
    let (count, mut refused) = (rounds(300, 10_000), 0);
    for round in 0..count {
        bundle.config = mutated(&good, &mut dice);
        // Never the host's own: a path that is "/" would make it the root.
        if bundle
            .config
            .pointer("/root/path")
            .and_then(Value::as_str)
            .is_some_and(|path| path.starts_with('/') || path.contains(".."))
        {
            continue;
        }
        // The outcome's own check is that nothing panicked.
        let said = bundle.create();
        if said.code == 0 {
            bundle.verb(&["delete", "--force", bundle.id()]).ok();
        } else {
            refused += 1;
            assert!(
                said.code == 1 && !said.stderr.trim().is_empty(),
                "round {round}: {said} {}",
                bundle.config
            );
        }
        if round % 50 == 49 {
            bundle.assert_nothing_left();
        }
    }
    bundle.assert_nothing_left();
    eprintln!("{refused} of {count} mutated configurations were refused");
    assert!(refused > count / 4 && refused < count);
}

#[test]
fn c15_configurations_of_absurd_size_are_answered() {
    let Some(mut bundle) = Bundle::new() else { return };
    let good = bundle.config.clone();
    let begun = Instant::now();
    let mount = json!({"destination": "/tmp/x", "type": "bind", "source": "/no/such", "options": ["bind"]});
    bundle.config["mounts"] = json!(vec![mount; 100_000]);
    bundle.create().fails(1);
    bundle.config = good.clone();
    bundle.config["hostname"] = json!("x".repeat(1 << 20));
    bundle.create().fails(1);
    bundle.config = good.clone();
    bundle.namespaces().push(json!({"type": "user"}));
    let maps: Vec<Value> =
        (0..341).map(|n| json!({"containerID": n, "hostID": 100_000 + 2 * n, "size": 1})).collect();
    bundle.config["linux"]["uidMappings"] = json!(maps);
    bundle.config["linux"]["gidMappings"] = json!(maps);
    bundle.create().fails(1);
    bundle.config = good.clone();
    bundle.config["process"]["env"] = json!(vec!["A=".to_owned() + &"x".repeat(200_000); 40]);
    bundle.create();
    bundle.verb(&["delete", "--force", bundle.id()]).ok();
    bundle.assert_nothing_left();
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}

#[test]
fn c15_texts_that_are_hardly_json_are_refused() {
    let Some(bundle) = Bundle::new() else { return };
    let good = bundle.config.to_string();
    let texts = [
        Vec::new(),
        b"{".to_vec(),
        b"null".to_vec(),
        "[".repeat(1_000_000).into_bytes(),
        format!("{{\"x\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000)).into_bytes(),
        good.replacen("\"root\"", "\"root\":{\"path\":\"/\"},\"root\"", 1).into_bytes(),
        good.replacen("\"path\":\"rootfs\"", "\"path\":\"rootfs\",\"path\":\"/etc\"", 1).into_bytes(),
        good.clone().into_bytes().into_iter().chain(*b"trailing").collect(),
        vec![0xff; 1000],
        vec![b' '; 17 << 20],
    ];
    for text in texts {
        std::fs::write(bundle.path("config.json"), &text).expect("write");
        let mut command = bundle.command(&["create", "-b"]);
        command.arg(bundle.dir()).arg(bundle.id());
        let said = bundle.finish(command);
        assert_eq!(said.code, 1, "{said} {:?}", String::from_utf8_lossy(&text[..text.len().min(100)]));
        bundle.assert_nothing_left();
    }
    std::fs::remove_file(bundle.path("config.json")).expect("unlink");
    let mut command = bundle.world().command("mkfifo");
    command.arg(bundle.path("config.json"));
    bundle.finish(command).ok();
    let mut command = bundle.command(&["create", "-b"]);
    command.arg(bundle.dir()).arg(bundle.id());
    bundle.finish(command).fails(1);
}

#[test]
fn c16_a_terminals_output_is_held_back_and_never_piled_up() {
    testkit::needs!(Program("script"));
    let Some(mut bundle) = Bundle::new() else { return };
    let bytes: u64 = if std::env::var_os("OCIPIPE_FULL").is_some() { 1 << 30 } else { 128 << 20 };
    bundle.config["process"]["terminal"] = json!(true);
    bundle.sh(&format!("stty raw -opost; head -c {bytes} /dev/zero; sleep 1"));
    bundle.write();
    let pid_file = bundle.path("pid");
    let line = format!(
        "echo $$ >{}; exec oci-spawn --root {} run -b {} {}",
        pid_file.display(),
        bundle.states().display(),
        bundle.dir().display(),
        bundle.id()
    );
    let mut command = bundle.world().command("script");
    command
        .args(["-qec", &line, "/dev/null"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().expect("script");
    // At first nobody reads at all.
    std::thread::sleep(Duration::from_secs(1));
    let pid = || std::fs::read_to_string(&pid_file).unwrap_or_default().trim().to_owned();
    bundle.until("a pid", || !pid().is_empty());
    let resident = || -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", pid())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default().to_owned();
        line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
    };
    let mut out = child.stdout.take().expect("piped");
    let (mut buffer, mut read, mut most) = (vec![0; 1 << 20], 0_u64, 0);
    let mut looks = 0_u32;
    loop {
        let got = out.read(&mut buffer).expect("read");
        if got == 0 {
            break;
        }
        read += got as u64;
        looks += 1;
        if looks.is_multiple_of(64) {
            most = most.max(resident());
        }
    }
    child.wait().expect("wait");
    assert!(read >= bytes, "{read} of {bytes}");
    assert!(most > 0 && most < 64 << 10, "{most} KiB resident");
    eprintln!("{read} bytes relayed, at most {most} KiB resident");
}
