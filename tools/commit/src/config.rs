//! The configuration of the new image: the base's own, edited in place, with everything unknown kept.
//!
//! Works on the JSON itself (image-spec v1.1, config.md), as other tools keep members of their own in it.

use descriptor::{Digest, Platform};
use serde_json::{Map, Value, json};

use crate::change::{Before, Change};

/// An image configuration under way.
#[derive(Debug, Clone)]
pub(crate) struct Config(Map<String, Value>);

/// What the history says of the new layer (config.md, "history").
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// RFC 3339.
    pub(crate) created: String,
    pub(crate) created_by: String,
    pub(crate) author: Option<String>,
    pub(crate) comment: Option<String>,
}

/// What the base was, where that cannot be edited.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the configuration's {0:?} is not what image-spec says")]
pub(crate) struct BadConfig(&'static str);

impl Config {
    /// One of an image without a base.
    pub(crate) fn new(platform: &Platform) -> Self {
        let mut members = Map::new();
        members.insert("architecture".into(), json!(platform.architecture));
        members.insert("os".into(), json!(platform.os));
        if let Some(variant) = &platform.variant {
            members.insert("variant".into(), json!(variant));
        }
        Self(members)
    }

    /// The configuration of a base.
    pub(crate) fn of(value: Value) -> Result<Self, BadConfig> {
        let Value::Object(members) = value else { return Err(BadConfig("")) };
        for (name, fits) in [
            ("config", Value::is_object as fn(&Value) -> bool),
            ("history", Value::is_array),
            ("rootfs", Value::is_object),
        ] {
            if members.get(name).is_some_and(|value| !value.is_null() && !fits(value)) {
                return Err(BadConfig(name));
            }
        }
        Ok(Self(members))
    }

    /// Makes the changes, in their order. An ENTRYPOINT without a CMD beside it clears the base's CMD, which was its
    /// argument, as docker's builder does.
    pub(crate) fn apply(&mut self, changes: &[Change]) -> Result<(), BadConfig> {
        let sets_cmd = changes.iter().any(|change| matches!(change, Change::Cmd(_)));
        if !sets_cmd && changes.iter().any(|change| matches!(change, Change::Entrypoint(_))) {
            self.process()?.remove("Cmd");
        }
        changes.iter().try_for_each(|change| self.change(change))
    }

    fn change(&mut self, change: &Change) -> Result<(), BadConfig> {
        match change {
            Change::Env(key, value) => self.set_env(key, value),
            Change::Label(key, value) => self.set_member("Labels", key, json!(value)),
            Change::Expose(port) => self.set_member("ExposedPorts", port, json!({})),
            Change::Volume(path) => self.set_member("Volumes", path, json!({})),
            Change::Cmd(words) => self.set_words("Cmd", words),
            Change::Entrypoint(words) => self.set_words("Entrypoint", words),
            Change::User(user) => self.set("User", json!(user)),
            Change::StopSignal(signal) => self.set("StopSignal", json!(signal)),
            Change::Health(check) => self.set("Healthcheck", check.clone()),
            Change::Shell(words) => self.set_words("Shell", words),
            Change::WorkingDir(dir) => self.set_working_dir(dir),
            Change::OnBuild(trigger) => {
                let triggers = self.process()?.entry("OnBuild").or_insert(Value::Null);
                list_of(triggers).ok_or(BadConfig("OnBuild"))?.push(json!(trigger));
                Ok(())
            }
        }
    }

    /// What instructions refer to.
    pub(crate) fn before(&self) -> Before {
        Before { env: self.strings("Env"), shell: self.strings("Shell") }
    }

    fn strings(&self, name: &str) -> Vec<String> {
        let list = self.0.get("config").and_then(|config| config.get(name)).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).map(String::from).collect()
    }

    /// The layers' diffIDs, the lowest first.
    pub(crate) fn set_diff_ids(&mut self, diff_ids: &[Digest]) {
        let ids: Vec<String> = diff_ids.iter().map(ToString::to_string).collect();
        self.0.insert("rootfs".into(), json!({"type": "layers", "diff_ids": ids}));
    }

    /// Replaces the history: the image has one layer, and this is how it came to be.
    pub(crate) fn begin_history(&mut self, event: &Event) {
        self.0.insert("history".into(), json!([event.to_json()]));
        self.stamp(event);
    }

    /// Adds to the history, which before told of `layers` layers, or too few: then entries without a word fill it up,
    /// as readers count them.
    pub(crate) fn extend_history(&mut self, event: &Event, layers: usize) -> Result<(), BadConfig> {
        let history = list_of(self.0.entry("history").or_insert(Value::Null)).ok_or(BadConfig("history"))?;
        let told = history.iter().filter(|entry| entry.get("empty_layer") != Some(&json!(true))).count();
        history.extend((told..layers).map(|_| json!({})));
        history.push(event.to_json());
        self.stamp(event);
        Ok(())
    }

    /// Takes out of the history what tells of layers above the first `layers`; what changed the configuration alone stays.
    pub(crate) fn cut_history(&mut self, layers: usize) -> Result<(), BadConfig> {
        let history = list_of(self.0.entry("history").or_insert(Value::Null)).ok_or(BadConfig("history"))?;
        let mut told = 0;
        history.retain(|entry| {
            let is_layer = entry.get("empty_layer") != Some(&json!(true));
            told += usize::from(is_layer);
            !is_layer || told <= layers
        });
        Ok(())
    }

    fn stamp(&mut self, event: &Event) {
        self.0.insert("created".into(), json!(event.created));
        if let Some(author) = &event.author {
            self.0.insert("author".into(), json!(author));
        }
    }

    /// The bytes of the document.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        Value::Object(self.0.clone()).to_string().into_bytes()
    }

    /// The member `config`: how a container of the image runs.
    fn process(&mut self) -> Result<&mut Map<String, Value>, BadConfig> {
        map_of(self.0.entry("config").or_insert(Value::Null)).ok_or(BadConfig("config"))
    }

    fn set(&mut self, name: &str, value: Value) -> Result<(), BadConfig> {
        self.process()?.insert(name.into(), value);
        Ok(())
    }

    /// No words take the member away: an empty array is not the same to all readers.
    fn set_words(&mut self, name: &str, words: &[String]) -> Result<(), BadConfig> {
        if words.is_empty() {
            self.process()?.remove(name);
            return Ok(());
        }
        self.set(name, json!(words))
    }

    fn set_member(&mut self, name: &'static str, key: &str, value: Value) -> Result<(), BadConfig> {
        let members = map_of(self.process()?.entry(name).or_insert(Value::Null)).ok_or(BadConfig(name))?;
        members.insert(key.into(), value);
        Ok(())
    }

    fn set_env(&mut self, key: &str, value: &str) -> Result<(), BadConfig> {
        let list = list_of(self.process()?.entry("Env").or_insert(Value::Null)).ok_or(BadConfig("Env"))?;
        let entry = json!(format!("{key}={value}"));
        let of_key = |old: &Value| {
            old.as_str().is_some_and(|old| old.strip_prefix(key).is_some_and(|rest| rest.starts_with('=')))
        };
        // Of a name that stands there twice the last one counts: only one of them may stay.
        let place = list.iter().position(of_key).unwrap_or(list.len());
        list.retain(|old| !of_key(old));
        list.insert(place, entry);
        Ok(())
    }

    /// A relative path goes on from the one before, as in a Dockerfile, and `.` and `..` are taken as written.
    fn set_working_dir(&mut self, dir: &str) -> Result<(), BadConfig> {
        let before = self.process()?.get("WorkingDir").and_then(Value::as_str).unwrap_or("/");
        let mut names: Vec<&str> = Vec::new();
        for name in (if dir.starts_with('/') { "" } else { before }).split('/').chain(dir.split('/')) {
            match name {
                "" | "." => {}
                ".." => drop(names.pop()),
                name => names.push(name),
            }
        }
        let dir = format!("/{}", names.join("/"));
        self.set("WorkingDir", json!(dir))
    }
}

impl Event {
    fn to_json(&self) -> Value {
        let mut members = Map::new();
        members.insert("created".into(), json!(self.created));
        members.insert("created_by".into(), json!(self.created_by));
        for (name, text) in [("author", &self.author), ("comment", &self.comment)] {
            if let Some(text) = text {
                members.insert(name.into(), json!(text));
            }
        }
        Value::Object(members)
    }
}

/// The object that a member is, or becomes where Go wrote `null` for none.
fn map_of(value: &mut Value) -> Option<&mut Map<String, Value>> {
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut()
}

/// As [`map_of`], for arrays.
fn list_of(value: &mut Value) -> Option<&mut Vec<Value>> {
    if value.is_null() {
        *value = Value::Array(Vec::new());
    }
    value.as_array_mut()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Config {
        Config::of(json!({
            "architecture": "amd64",
            "os": "linux",
            "docker_version": "20",
            "config": {
                "Env": ["PATH=/bin", "A=1=2", "AB=3"],
                "Cmd": ["sh"],
                "WorkingDir": "/srv",
                "Labels": null,
                "ArgsEscaped": true,
            },
            "rootfs": {"type": "layers", "diff_ids": []},
            "history": [{"created_by": "x"}, {"created_by": "y", "empty_layer": true}],
        }))
        .expect("a configuration")
    }

    fn event() -> Event {
        Event {
            created: "1970-01-01T00:00:00Z".into(),
            created_by: "oci-commit".into(),
            author: None,
            comment: None,
        }
    }

    fn changed(changes: &[Change]) -> Value {
        let mut config = base();
        config.apply(changes).expect("apply");
        Value::Object(config.0)["config"].clone()
    }

    #[test]
    fn what_is_not_changed_stays_as_it_was() {
        let mut config = base();
        config.apply(&[Change::User("me".into())]).expect("apply");
        let (before, after) = (base().0, config.0);
        assert_eq!(after["docker_version"], "20");
        assert_eq!(after["config"]["ArgsEscaped"], true);
        assert_eq!(after["config"]["Env"], before["config"]["Env"]);
        assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    }

    #[test]
    fn a_variable_is_replaced_where_it_stands_and_only_it() {
        let env =
            changed(&[Change::Env("A".into(), "x=y".into()), Change::Env("N".into(), String::new())])["Env"]
                .clone();
        assert_eq!(env, json!(["PATH=/bin", "A=x=y", "AB=3", "N="]));
        let twice = json!({"config": {"Env": ["A=1", "B=2", "A=3"]}});
        let mut config = Config::of(twice).expect("a configuration");
        config.apply(&[Change::Env("A".into(), "4".into())]).expect("apply");
        assert_eq!(config.before().env, ["A=4", "B=2"]);
    }

    #[test]
    fn an_entrypoint_clears_the_command_that_was_its_argument() {
        let entrypoint = Change::Entrypoint(vec!["/e".into()]);
        assert_eq!(changed(std::slice::from_ref(&entrypoint)).get("Cmd"), None);
        let both = changed(&[Change::Cmd(vec!["c".into()]), entrypoint]);
        assert_eq!((&both["Cmd"], &both["Entrypoint"]), (&json!(["c"]), &json!(["/e"])));
    }

    #[test]
    fn members_that_go_wrote_as_null_can_be_filled() {
        let labels = changed(&[Change::Label("k".into(), "v".into())])["Labels"].clone();
        assert_eq!(labels, json!({"k": "v"}));
        assert!(Config::of(json!({"config": null, "history": null})).is_ok());
        assert!(Config::of(json!({"config": []})).is_err());
    }

    #[test]
    fn a_relative_working_directory_goes_on_from_the_one_before() {
        let dirs = ["sub", "/other", "x"].map(|dir| Change::WorkingDir(dir.into()));
        assert_eq!(changed(&dirs[..1])["WorkingDir"], "/srv/sub");
        assert_eq!(changed(&dirs)["WorkingDir"], "/other/x");
        assert_eq!(changed(&[Change::WorkingDir("../a/./b//".into())])["WorkingDir"], "/a/b");
        assert_eq!(changed(&[Change::WorkingDir("../../..".into())])["WorkingDir"], "/");
    }

    #[test]
    fn the_history_counts_as_many_layers_as_the_image_has() {
        let mut config = base();
        config.extend_history(&event(), 3).expect("extend");
        let history = config.0["history"].as_array().expect("an array").clone();
        let layers = history.iter().filter(|entry| entry.get("empty_layer").is_none()).count();
        assert_eq!((layers, history.len()), (4, 5));
        config.cut_history(1).expect("cut");
        assert_eq!(
            config.0["history"],
            json!([{"created_by": "x"}, {"created_by": "y", "empty_layer": true}])
        );
        config.begin_history(&event());
        assert_eq!(config.0["history"].as_array().map(Vec::len), Some(1));
    }
}
