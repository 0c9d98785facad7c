//! What oci-inspect shows of containers that the tools made.

use ocipipe_tests::Hub;
use serde_json::{Value, json};
use testkit::needs;

fn documents(hub: &Hub, names: &[&str]) -> Vec<Value> {
    let args: Vec<&str> = ["--format", "docker"].iter().chain(names).copied().collect();
    let text = hub.world.tool("oci-inspect", &args).ok().text();
    serde_json::from_str(&text).expect("an array")
}

#[test]
fn dockers_document_follows_a_container_through_its_life() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let made = hub.container(&["--name", "web", "-e", "A=1", "-l", "k=v", "-v", "/tmp:/host:ro"]);
    let document = documents(&hub, &["web"]).remove(0);
    assert_eq!((&document["Name"], &document["State"]["Status"]), (&json!("/web"), &json!("created")));
    assert_eq!(document["State"]["StartedAt"], "0001-01-01T00:00:00Z");
    assert_ne!(document["Created"], "0001-01-01T00:00:00Z");
    assert_eq!(document["Image"], json!(hub.image.config));
    assert_eq!(document["HostConfig"]["Binds"], json!(["/tmp:/host:ro"]));
    let env = document["Config"]["Env"].as_array().expect("an environment");
    assert!(env.contains(&json!("A=1")), "{env:?}");

    let script = "echo $$ >/started; while [ ! -e /stop ]; do sleep 0.02; done; exit 3";
    hub.world.feed("oci-spawn", &["-d", "--", "sh", "-c", script], &made.stdout).ok();
    let document = documents(&hub, &["web"]).remove(0);
    let pid = document["State"]["Pid"].as_u64().expect("a pid");
    assert_eq!(document["State"]["Running"], true);
    assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());
    let told = hub.world.tool("oci-inspect", &["-f", "{{.State.Status}} {{.State.Pid}}", "web"]).ok().text();
    assert_eq!(told, format!("running {pid}\n"));
    let top = hub.world.tool("oci-inspect", &["top", "web"]).ok().text();
    assert!(top.contains("while [ ! -e /stop ]"), "{top}");
    let listed = hub.world.tool("oci-inspect", &["ps", "--format", "{{.Names}} {{.State}}"]).ok().text();
    assert_eq!(listed, "web running\n");

    let upper = document["GraphDriver"]["Data"]["MergedDir"].as_str().expect("a path").to_string();
    std::fs::write(format!("{upper}/stop"), "").expect("the root is mounted here");
    hub.world.assert_nothing_runs();
    let document = documents(&hub, &["web"]).remove(0);
    assert_eq!((&document["State"]["Status"], &document["State"]["ExitCode"]), (&json!("exited"), &json!(3)));
    assert_ne!(document["State"]["FinishedAt"], "0001-01-01T00:00:00Z");
    let events = hub.world.tool("oci-inspect", &["events", "--filter", "container=web"]).ok().text();
    assert!(events.contains(" container create "), "{events}");
    hub.world.tool("oci-mount", &["--remove", "web"]).ok();
}

#[test]
fn a_diff_is_what_the_container_did() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let made = hub.container(&["--name", "web"]);
    assert_eq!(hub.world.tool("oci-inspect", &["diff", "web"]).ok().text(), "", "mount points are no change");
    let script =
        "echo 1 >>/etc/os-release; rm /etc/group; mkdir /new; echo 2 >/new/file; rm -r /home; mkdir /home";
    hub.step(&made, script);
    let want = "C /etc\nD /etc/group\nC /etc/os-release\nC /home\nD /home/user\nA /new\nA /new/file\n";
    assert_eq!(hub.world.tool("oci-inspect", &["diff", "web"]).ok().text(), want);
    hub.world.tool("oci-mount", &["--remove", "web"]).ok();
}

#[test]
fn three_containers_take_what_they_wrote_and_share_the_rest() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    for (name, megabytes) in [("a", 5), ("b", 4), ("c", 6)] {
        let made = hub.container(&["--name", name]);
        hub.step(&made, &format!("dd if=/dev/urandom of=/own bs=1000000 count={megabytes} 2>/dev/null"));
    }
    let text = hub.world.tool("oci-inspect", &["df", "-v", "--format", "json"]).ok().text();
    let all: Value = serde_json::from_str(&text).expect("JSON");
    let bytes = |name: &str| {
        let mut rows = all["Containers"].as_array().expect("containers").iter();
        rows.find(|row| row["Names"] == name).expect("a row")["Bytes"].as_u64().expect("bytes")
    };
    for (name, own) in [("a", 5_000_000_u64), ("b", 4_000_000), ("c", 6_000_000)] {
        assert!((own..own + 200_000).contains(&bytes(name)), "{name}: {}", bytes(name));
    }
    let image = all["Images"][0]["Bytes"].as_u64().expect("bytes");
    let sizes =
        hub.world.tool("oci-inspect", &["ps", "-a", "-s", "--format", "{{.Names}} {{.SizeRw}}"]).ok().text();
    assert_eq!(sizes, "c 6000000\nb 4000000\na 5000000\n");
    let rows = hub.world.tool("oci-inspect", &["df", "--format", "json"]).ok().text();
    let row = |kind: &str| {
        let mut rows = rows.lines().map(|row| serde_json::from_str::<Value>(row).expect("JSON"));
        rows.find(|row| row["Type"] == kind).expect("a row")["Bytes"].as_u64().expect("bytes")
    };
    assert!(row("Without sharing") - row("Total") > 2 * image, "three copies and the image's own");
    for name in ["a", "b", "c"] {
        hub.world.tool("oci-mount", &["--remove", name]).ok();
    }
}

#[test]
fn what_containers_use_is_a_row_for_each_that_runs() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    for (name, script) in [("busy", "sleep 600 & while :; do :; done"), ("idle", "exec sleep 600")] {
        let made = hub.container(&["--name", name]);
        hub.world.feed("oci-spawn", &["-d", "--", "sh", "-c", script], &made.stdout).ok();
    }
    hub.container(&["--name", "still"]);
    let stats = |args: &[&str]| {
        let args = [&["stats", "--no-stream", "--format", "json"], args].concat();
        let printed = hub.world.tool("oci-inspect", &args).ok().text();
        let mut rows: Vec<Value> =
            printed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        rows.sort_by_key(|row| row["Name"].to_string());
        rows
    };
    let rows = stats(&[]);
    let text = |row: usize, key: &str| rows[row][key].as_str().expect(key).to_string();
    let number = |row: usize, key: &str| text(row, key).trim_end_matches('%').parse::<f64>().expect(key);
    assert_eq!((rows.len(), text(0, "Name"), text(1, "Name")), (2, "busy".into(), "idle".into()), "{rows:?}");
    assert!(number(0, "CPUPerc") > 1.0 && number(1, "CPUPerc") < 1.0, "{rows:?}");
    assert_eq!((number(0, "PIDs"), number(1, "PIDs")), (2.0, 1.0), "{rows:?}");
    for row in 0..2 {
        let usage = text(row, "MemUsage");
        assert!(usage.contains("iB / ") && !usage.starts_with("0B"), "{usage}");
        assert_eq!(text(row, "NetIO"), "0B / 0B", "no interface but the loopback one");
    }
    assert_eq!(stats(&["still"])[0]["CPUPerc"], "--", "it does not run");
    assert_eq!(stats(&["-a"]).len(), 3);
    for name in ["busy", "idle", "still"] {
        hub.world.tool("oci-mount", &["--remove", "--force", name]).ok();
    }
}
