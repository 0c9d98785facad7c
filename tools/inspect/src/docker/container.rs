//! A container.

use std::path::{Path, PathBuf};

use cli::{During, Failure};
use descriptor::Status;
use serde_json::{Value, json};
use store::{Container, CreateDoc, Image, State, Store};

use crate::docker::{host_config, image, with_all_members};
use crate::survey;
use crate::text::{NEVER, familiar};

/// What a document is made of, read once.
struct Parts<'a> {
    container: &'a Container,
    create: CreateDoc,
    state: State,
    /// config.json, an empty object where there is none.
    spec: Value,
    image: Option<Image>,
    /// The configuration of its image.
    image_config: Value,
}

/// Docker's document of a container; with sizes where they are asked for.
pub(crate) fn container(container: &Container, sizes: bool) -> Result<Value, Failure> {
    let what = || format!("container {}", container.name());
    let create = container.create().during(what)?;
    // The image may be gone: its layers are what the container needs.
    let image = create.image.as_ref().and_then(|digest| container.store().image(digest, None).ok());
    let config = image.as_ref().and_then(|one| image::config(container.store(), one).ok());
    let parts = Parts {
        container,
        state: container.settle().during(what)?,
        spec: container.document("config.json").during(what)?.unwrap_or_else(|| json!({})),
        image_config: config.map(|config| config["config"].clone()).unwrap_or_default(),
        create,
        image,
    };
    let mut value = parts.head();
    value["HostConfig"] = host_config::host_config(&parts.create, &parts.spec);
    value["GraphDriver"] = json!({"Data": parts.directories(), "Name": "overlay2"});
    if sizes {
        let own = container.written().during(what)?.content;
        let below = parts.image.as_ref().map_or(0, |one| image::size_of(container.store(), one));
        value["SizeRw"] = json!(own);
        value["SizeRootFs"] = json!(own + below);
    }
    value["Mounts"] = parts.create.mounts.iter().map(|mount| parts.mount_point(mount)).collect();
    value["Config"] = parts.config();
    value["NetworkSettings"] = network(&parts.create.network);
    Ok(value)
}

impl Parts<'_> {
    fn head(&self) -> Value {
        let args = self.spec["process"]["args"].as_array().cloned().unwrap_or_default();
        let file = |name: &str| self.container.path().join(name).display().to_string();
        let log = self.container.root().is_ok_and(|root| root.lstat("log").is_ok());
        let image = self.image.as_ref().map(|one| one.config_digest).or(self.create.image);
        json!({
            "Id": self.container.id(),
            "Created": self.state.created_at.as_deref().unwrap_or(NEVER),
            "Path": args.first().cloned().unwrap_or_else(|| json!("")),
            "Args": args.get(1..).unwrap_or_default(),
            "State": state(&self.state),
            "Image": image.map(|digest| digest.to_string()).unwrap_or_default(),
            "ResolvConfPath": file("files/resolv.conf"), "HostnamePath": file("files/hostname"),
            "HostsPath": file("files/hosts"), "LogPath": if log { file("log") } else { String::new() },
            "Name": format!("/{}", self.container.name()), "RestartCount": 0, "Driver": "overlay2",
            "Platform": "linux", "MountLabel": "", "ProcessLabel": "",
            "AppArmorProfile": self.create.security.apparmor.as_deref().unwrap_or_default(), "ExecIDs": null,
        })
    }

    fn directories(&self) -> Value {
        let dir = |name: &str| self.container.path().join(name).display().to_string();
        let plan = self.container.document("plan.json").ok().flatten().unwrap_or_default();
        let store = self.container.store().path();
        let trees = plan["image"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let lowers =
            std::iter::once(dir("init")).chain(trees.map(|tree| store.join(tree).display().to_string()));
        json!({
            "LowerDir": lowers.collect::<Vec<_>>().join(":"), "MergedDir": dir("rootfs"),
            "UpperDir": dir("upper"), "WorkDir": dir("work"),
        })
    }

    fn mount_point(&self, mount: &store::create::Mount) -> Value {
        let is_volume = mount.kind == "volume";
        let mut value = json!({"Type": mount.kind});
        if is_volume {
            let path = self.volume(mount);
            // _data lies in the directory that has the volume's name.
            let name = path.parent().and_then(Path::file_name).unwrap_or_default();
            value["Name"] = json!(name.to_string_lossy());
            value["Source"] = json!(path.display().to_string());
        } else {
            value["Source"] = json!(mount.source.as_deref().unwrap_or_default());
        }
        value["Destination"] = json!(mount.target);
        if is_volume {
            value["Driver"] = json!("local");
        }
        value["Mode"] = json!(if mount.read_only { "ro" } else { "" });
        value["RW"] = json!(!mount.read_only && mount.kind != "image");
        let is_propagation = |option: &&String| {
            ["shared", "slave", "private"].iter().any(|kind| option.trim_start_matches('r') == *kind)
        };
        let default = if mount.kind == "bind" { "rprivate" } else { "" };
        value["Propagation"] =
            json!(mount.options.iter().find(is_propagation).map_or(default, String::as_str));
        value
    }

    /// Where a volume's files are: one without a name is known by where config.json mounts it from.
    fn volume(&self, mount: &store::create::Mount) -> PathBuf {
        if let Some(name) = &mount.source {
            return self.container.store().path().join("volumes").join(name).join("_data");
        }
        let mut mounts = self.spec["mounts"].as_array().into_iter().flatten();
        let here = mounts.rfind(|one| one["destination"].as_str() == Some(&mount.target));
        here.and_then(|one| one["source"].as_str()).map(PathBuf::from).unwrap_or_default()
    }

    fn config(&self) -> Value {
        let (create, process) = (&self.create, &self.create.process);
        let mut config = with_all_members(&self.image_config);
        config["Hostname"] = self.spec["hostname"].as_str().unwrap_or_default().into();
        config["Domainname"] = json!(create.names.domain.as_deref().unwrap_or_default());
        if let Some(user) = &process.user {
            config["User"] = json!(user);
        }
        let terminal = self.spec["process"]["terminal"].as_bool().unwrap_or_default();
        config["Tty"] = json!(terminal || self.state.tty);
        config["OpenStdin"] = json!(self.state.open_stdin);
        config["Env"] = self.env();
        match (&process.entrypoint, &process.args) {
            (Some(entrypoint), args) => {
                config["Entrypoint"] = super::list_or_null(entrypoint);
                config["Cmd"] = json!(args);
            }
            (None, Some(args)) => config["Cmd"] = json!(args),
            (None, None) => {}
        }
        config["Image"] = json!(image_name(self.container.store(), create, &self.state));
        if let Some(cwd) = &process.cwd {
            config["WorkingDir"] = json!(cwd);
        }
        let mut labels = self.image_config["Labels"].as_object().cloned().unwrap_or_default();
        labels.extend(create.labels.iter().map(|(key, value)| (key.clone(), json!(value))));
        config["Labels"] = labels.into();
        if let Some(signal) = &create.stop_signal {
            config["StopSignal"] = json!(signal);
        }
        if let Some(seconds) = create.stop_timeout {
            config["StopTimeout"] = json!(seconds);
        }
        config
    }

    /// The environment without the host name, which docker adds only when the container starts.
    fn env(&self) -> Value {
        let chosen = self.create.process.env.iter().any(|entry| entry.starts_with("HOSTNAME="));
        let all = self.spec["process"]["env"].as_array().cloned().unwrap_or_default();
        let keep =
            |entry: &Value| chosen || !entry.as_str().is_some_and(|text| text.starts_with("HOSTNAME="));
        all.into_iter().filter(keep).collect()
    }
}

/// The name of its image: what its maker called it while that is the image's name, else another one, the digest where it
/// has none any more.
pub(crate) fn image_name(store: &Store, create: &CreateDoc, state: &State) -> String {
    let Some(digest) = &create.image else { return String::new() };
    if let Some(name) = &state.image_name
        && let Ok(Some(image)) = store.resolve(name)
        && survey::is_or_has(store, &image, digest)
    {
        return familiar(name).to_string();
    }
    survey::name_of(store, digest).map_or_else(|| digest.to_string(), |name| familiar(&name).to_string())
}

/// The word that docker has for a status.
pub(crate) fn status(status: Status) -> &'static str {
    match status {
        Status::Created => "created",
        Status::Running => "running",
        Status::Paused => "paused",
        Status::Stopped => "exited",
    }
}

/// How its last process ended; 0 where none did.
pub(crate) fn exit_code(state: &State) -> u8 {
    match state.now() {
        Status::Stopped => state.exit_code.unwrap_or(store::state::UNSEEN),
        _ => 0,
    }
}

fn state(state: &State) -> Value {
    let now = state.now();
    let lives = matches!(now, Status::Running | Status::Paused);
    json!({
        "Status": status(now), "Running": lives, "Paused": now == Status::Paused, "Restarting": false,
        "OOMKilled": state.oom_killed, "Dead": false,
        "Pid": if lives { state.pid.unwrap_or_default() } else { 0 }, "ExitCode": exit_code(state),
        "Error": state.error.as_deref().unwrap_or_default(),
        "StartedAt": state.started_at.as_deref().unwrap_or(NEVER),
        "FinishedAt": state.finished_at.as_deref().unwrap_or(NEVER),
    })
}

/// What docker tells of networks: here a container has none, the host's, or another container's.
fn network(mode: &str) -> Value {
    let endpoint = json!({
        "IPAMConfig": null, "Links": null, "Aliases": null, "MacAddress": "", "DriverOpts": null, "NetworkID": "",
        "EndpointID": "", "Gateway": "", "IPAddress": "", "IPPrefixLen": 0, "IPv6Gateway": "",
        "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "DNSNames": null,
    });
    let networks = match mode {
        "" => json!({}),
        shared if shared.starts_with("container:") => json!({}),
        name => json!({name: endpoint}),
    };
    json!({
        "Bridge": "", "SandboxID": "", "SandboxKey": "", "Ports": {}, "HairpinMode": false,
        "LinkLocalIPv6Address": "", "LinkLocalIPv6PrefixLen": 0, "SecondaryIPAddresses": null,
        "SecondaryIPv6Addresses": null, "EndpointID": "", "Gateway": "", "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0, "IPAddress": "", "IPPrefixLen": 0, "IPv6Gateway": "", "MacAddress": "",
        "Networks": networks,
    })
}
