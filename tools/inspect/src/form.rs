//! What form the answer has: `--format`, and `--field` for scripts.

use std::str::FromStr;

use cli::Failure;
use descriptor::Exit;
use serde_json::Value;

/// What of Go's templates is understood, for messages.
const SUPPORTED: &str = "only members are understood, {{.A.B}} and {{json .A}}, with text around them";

/// What `--format` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Format {
    /// Lines, also on a terminal.
    Line,
    /// A table or a report, also in a pipe.
    Table,
    /// All there is to say, as JSON.
    Json,
    /// The documents of docker's interface, an array of them.
    Docker,
    /// A text with members in it.
    Template(Template),
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "line" => Ok(Self::Line),
            "table" => Ok(Self::Table),
            "json" => Ok(Self::Json),
            "docker" => Ok(Self::Docker),
            other if other.contains("{{") => other.parse().map(Self::Template),
            _ => Err(format!("it is line, table, json, docker or a template: {SUPPORTED}")),
        }
    }
}

/// A text with members of a document in it: the plainest of Go's templates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    /// As Go prints it.
    Member(Path),
    /// As JSON.
    Json(Path),
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (inside, behind) = after.split_once("}}").ok_or("a {{ without its }}")?;
            parts.push(Part::Text(before.into()));
            parts.push(action(inside.trim()).ok_or_else(|| format!("{{{{{inside}}}}}: {SUPPORTED}"))?);
            rest = behind;
        }
        parts.push(Part::Text(rest.into()));
        parts.retain(|part| *part != Part::Text(String::new()));
        Ok(Self(parts))
    }
}

/// `.A.B` or `json .A.B`; `.` alone is the whole.
fn action(text: &str) -> Option<Part> {
    let (json, path) = match text.split_once(char::is_whitespace) {
        Some(("json", path)) => (true, path.trim()),
        None => (false, text),
        Some(_) => return None,
    };
    let inner = path.strip_prefix('.')?;
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    let is_path = inner.is_empty()
        || inner.split('.').all(|name| name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_'));
    if !inner.chars().all(legal) || !is_path {
        return None;
    }
    let path = Path(inner.into());
    Some(if json { Part::Json(path) } else { Part::Member(path) })
}

impl Template {
    /// The text for a document.
    ///
    /// # Errors
    /// Exit 3 for a member that the document does not have.
    pub(crate) fn fill(&self, document: &Value) -> Result<String, Failure> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Member(path) => text.push_str(&as_go(path.of(document)?)),
                Part::Json(path) => text.push_str(&path.of(document)?.to_string()),
            }
        }
        Ok(text)
    }

    /// Whether any member it names begins so.
    pub(crate) fn mentions(&self, name: &str) -> bool {
        let path = |part: &Part| match part {
            Part::Text(_) => false,
            Part::Member(path) | Part::Json(path) => path.0.is_empty() || path.0.starts_with(name),
        };
        self.0.iter().any(path)
    }

    /// With `\t` and `\n` as docker's lists understand them.
    pub(crate) fn with_escapes(mut self) -> Self {
        for part in &mut self.0 {
            if let Part::Text(text) = part {
                *text = text.replace("\\t", "\t").replace("\\n", "\n");
            }
        }
        self
    }
}

/// A value as Go's `fmt` prints it.
fn as_go(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".into(),
        Value::String(text) => text.clone(),
        Value::Array(all) => format!("[{}]", all.iter().map(as_go).collect::<Vec<_>>().join(" ")),
        Value::Object(all) => {
            let mut members: Vec<String> = all.iter().map(|(k, v)| format!("{k}:{}", as_go(v))).collect();
            members.sort();
            format!("map[{}]", members.join(" "))
        }
        other => other.to_string(),
    }
}

/// A way to a member: names with dots between them, a number for an element of an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path(String);

impl FromStr for Path {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let inner = text.strip_prefix('.').unwrap_or(text);
        if text.is_empty() || (inner.is_empty() && text != ".") {
            return Err("a member's name is wanted, State.Status say".into());
        }
        Ok(Self(inner.into()))
    }
}

impl Path {
    /// The member.
    ///
    /// # Errors
    /// Exit 3 where the document does not have it.
    pub(crate) fn of<'a>(&self, document: &'a Value) -> Result<&'a Value, Failure> {
        descend(document, &self.0).ok_or_else(|| {
            let (above, inner) = self.nearest(document);
            let hint = match inner {
                Value::Object(all) => {
                    format!("{above} has {}", all.keys().map(String::as_str).collect::<Vec<_>>().join(", "))
                }
                Value::Array(all) => format!("{above} has {} elements, from 0 on", all.len()),
                _ => format!("{above} has no members"),
            };
            Failure::new(Exit::NotFound, format!("member {:?}", self.0), "there is none of this name")
                .with_hint(hint)
        })
    }
}

impl Path {
    /// The innermost member on the way that is there, and what it is called.
    fn nearest<'a>(&self, document: &'a Value) -> (&str, &'a Value) {
        let ends: Vec<usize> = self.0.match_indices('.').map(|(at, _)| at).collect();
        let found = ends.into_iter().rev().find_map(|end| {
            let above = &self.0[..end];
            Some((above, descend(document, above)?))
        });
        found.unwrap_or(("it", document))
    }
}

/// The names of a label or an annotation have dots themselves: the longest name that fits is the one that is meant.
fn descend<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    if path.is_empty() {
        return Some(value);
    }
    let ends = path.match_indices('.').map(|(at, _)| at).chain([path.len()]);
    ends.collect::<Vec<_>>().into_iter().rev().find_map(|end| {
        let (name, rest) = (&path[..end], path.get(end + 1..).unwrap_or_default());
        let inner = match value {
            Value::Object(all) => all.get(name)?,
            Value::Array(all) => all.get(name.parse::<usize>().ok()?)?,
            _ => return None,
        };
        descend(inner, rest)
    })
}

/// A member for a script: a string as it is, everything else as JSON.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document() -> Value {
        json!({"Name": "/web", "State": {"Pid": 7, "Running": true, "Error": ""}, "None": null,
            "Mounts": [{"Source": "/a"}], "Labels": {"a.b": "c", "a": {"b": "d", "x": "y"}}, "Cmd": ["sh", "-c"]})
    }

    #[test]
    fn a_template_is_text_with_members_in_it() {
        for (template, want) in [
            ("{{.Name}}", "/web"),
            ("{{ .State.Pid }} of {{.Name}}!", "7 of /web!"),
            ("{{json .State}}", r#"{"Pid":7,"Running":true,"Error":""}"#),
            ("{{json .Name}}", r#""/web""#),
            ("{{.Cmd}} {{.State.Running}} {{.None}}", "[sh -c] true <no value>"),
            ("{{.State}}", "map[Error: Pid:7 Running:true]"),
            ("a\\tb{{.Name}}", "a\\tb/web"),
        ] {
            let parsed: Template = template.parse().expect(template);
            assert_eq!(parsed.fill(&document()).expect(template), want);
        }
        let tabs: Template = "{{.Name}}\\t.".parse().expect("a template");
        assert_eq!(tabs.with_escapes().fill(&document()).expect("filled"), "/web\t.");
    }

    #[test]
    fn what_is_more_than_a_member_is_refused() {
        for text in [
            "{{range .Mounts}}{{.Source}}{{end}}",
            "{{index .Labels \"a.b\"}}",
            "{{.A | upper}}",
            "{{len .A}}",
            "{{.A",
            "{{if .A}}",
            "{{A}}",
            "{{}}",
            "{{.A..B}}",
            "{{json}}",
            "yaml",
        ] {
            let why = text.parse::<Format>().expect_err(text);
            assert!(why.contains("{{"), "{why}");
        }
    }

    #[test]
    fn a_path_leads_through_names_with_dots_and_arrays() {
        for (path, want) in [
            ("Name", json!("/web")),
            (".State.Pid", json!(7)),
            ("Mounts.0.Source", json!("/a")),
            ("Labels.a.b", json!("c")),
            ("Labels.a.x", json!("y")),
            ("None", Value::Null),
        ] {
            let parsed: Path = path.parse().expect(path);
            assert_eq!(parsed.of(&document()).expect(path), &want);
        }
        for path in ["Nothing", "Mounts.1", "Mounts.x", "State.Pid.x", "Labels.a.b.c", "name"] {
            let failure = path.parse::<Path>().expect(path).of(&document()).expect_err(path);
            assert_eq!(failure.exit(), 3, "{path}");
        }
        for (path, want) in [
            ("Nothing", "it has Name, State"),
            ("State.Nothing", "State has Pid, Running, Error"),
            ("Mounts.7", "Mounts has 1 elements"),
            ("State.Pid.x", "State.Pid has no members"),
        ] {
            let failure = path.parse::<Path>().expect(path).of(&document()).expect_err(path);
            let hint = failure.to_line("t").and_then(|line| line.hint).expect("a hint");
            assert!(hint.starts_with(want), "{path}: {hint}");
        }
        assert!("".parse::<Path>().is_err());
        assert_eq!(".".parse::<Path>().expect("all").of(&document()).expect("all"), &document());
    }
}
