//! Changes to an image's configuration: one type for flags and for docker's instructions (`--change`).
//!
//! The instructions' syntax is the Dockerfile's (docs.docker.com/reference/dockerfile); members are those of image-spec
//! v1.1, config.md, and docker's `Healthcheck` and `OnBuild`, which other tools read too.

use std::str::FromStr;

use serde_json::{Value, json};

use crate::words::{one, words};

/// Why a change cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChangeError {
    #[error("{0:?} is no instruction that changes a configuration ({KNOWN})")]
    Unknown(String),
    #[error("{0} needs a value")]
    Empty(&'static str),
    #[error("{0:?} is not KEY=VALUE")]
    NotAPair(String),
    #[error("a quote in {0:?} is not closed")]
    Quote(String),
    #[error("{0:?} is no port: write 80, 80/tcp, 53/udp or 8000-8010")]
    Port(String),
    #[error("{0:?} is no health check: write NONE, or [--interval=30s ...] CMD COMMAND")]
    Health(String),
    #[error(
        "{0:?} is no duration: write 30s, 1m30s, 1.5s or 500ms; the least is 1ms, and 0s for the usual one"
    )]
    Duration(String),
    #[error("SHELL {0:?} is no JSON array of strings: write [\"/bin/bash\", \"-c\"]")]
    Shell(String),
    #[error("ONBUILD takes no {0}")]
    Trigger(String),
    #[error(
        "{0:?} has a variable that cannot be read: write $NAME, ${{NAME}}, ${{NAME:-DEFAULT}} or ${{NAME:+INSTEAD}}"
    )]
    Variable(String),
    #[error("{0:?} is not set in the environment")]
    Unset(String),
}

const KNOWN: &str =
    "CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME, WORKDIR";

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    Env(String, String),
    Label(String, String),
    Cmd(Vec<String>),
    Entrypoint(Vec<String>),
    WorkingDir(String),
    User(String),
    Expose(String),
    Volume(String),
    StopSignal(String),
    Health(Value),
    OnBuild(String),
    Shell(Vec<String>),
}

/// What instructions refer to: the image's environment, `K=V` each, and its shell, none for the usual one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Before {
    pub(crate) env: Vec<String>,
    pub(crate) shell: Vec<String>,
}

impl Before {
    /// What it is after a change. The last one of a name counts.
    pub(crate) fn note(&mut self, change: &Change) {
        match change {
            Change::Env(key, value) => self.env.push(format!("{key}={value}")),
            Change::Shell(words) => self.shell.clone_from(words),
            _ => {}
        }
    }
}

/// The changes of one flag or instruction: `8000-8010` makes eleven.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Changes(pub(crate) Vec<Change>);

/// An instruction as it was given: what its variables stand for is not known before the image is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Instruction(String);

impl FromStr for Instruction {
    type Err = ChangeError;

    fn from_str(text: &str) -> Result<Self, ChangeError> {
        let instruction = Self(text.trim().into());
        match instruction.changes(&Before::default()) {
            // The image's environment may make sense of it.
            Err(e) if !text.contains('$') || matches!(e, ChangeError::Unknown(_)) => Err(e),
            _ => Ok(instruction),
        }
    }
}

impl Instruction {
    /// Its changes, with what it refers to as it is by then: `ENV a=1 b=2` makes two.
    pub(crate) fn changes(&self, before: &Before) -> Result<Vec<Change>, ChangeError> {
        let (text, env) = (&*self.0, &*before.env);
        let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let rest = rest.trim();
        let one = |change| Ok(vec![change]);
        let changes = match &*name.to_ascii_uppercase() {
            "CMD" => one(Change::Cmd(command(rest, before))),
            "ENTRYPOINT" => one(Change::Entrypoint(command(rest, before))),
            "ENV" => pairs("ENV", rest, env, Change::Env),
            "LABEL" => pairs("LABEL", rest, env, Change::Label),
            "WORKDIR" => one(Change::WorkingDir(single("WORKDIR", rest, env)?)),
            "USER" => one(Change::User(single("USER", rest, env)?)),
            "STOPSIGNAL" => one(Change::StopSignal(single("STOPSIGNAL", rest, env)?)),
            "SHELL" => one(Change::Shell(shell(rest)?)),
            // A variable may hold several ports.
            "EXPOSE" => {
                let words = words(rest, env)?.join(" ");
                let ports = words.split_whitespace().map(expose).collect::<Result<Vec<_>, _>>()?.concat();
                if ports.is_empty() { Err(ChangeError::Port(rest.into())) } else { Ok(ports) }
            }
            "VOLUME" => Ok(volumes(rest, env)?.into_iter().map(Change::Volume).collect()),
            "HEALTHCHECK" => one(Change::Health(health(rest)?)),
            "ONBUILD" => one(Change::OnBuild(trigger(rest)?)),
            _ => Err(ChangeError::Unknown(name.into())),
        }?;
        if changes.is_empty() { Err(ChangeError::Unknown(text.into())) } else { Ok(changes) }
    }
}

/// Docker's shell where an image says nothing of one.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// A command: a JSON array of strings as it is, anything else for the shell, nothing for none.
pub(crate) fn command(text: &str, before: &Before) -> Vec<String> {
    if text.is_empty() {
        return Vec::new();
    }
    // Docker reads what is not quite an array for the shell too, where `[` is a command.
    match serde_json::from_str::<Vec<String>>(text) {
        Ok(words) => words,
        Err(_) if before.shell.is_empty() => SHELL.into_iter().chain([text]).map(String::from).collect(),
        Err(_) => before.shell.iter().cloned().chain([text.into()]).collect(),
    }
}

/// The shell of commands that are a line: there is no other way to write it than an array.
fn shell(text: &str) -> Result<Vec<String>, ChangeError> {
    match serde_json::from_str::<Vec<String>>(some("SHELL", text)?) {
        Ok(words) if !words.is_empty() => Ok(words),
        _ => Err(ChangeError::Shell(text.into())),
    }
}

/// What a build from the image is to begin with. Docker takes all but these three.
fn trigger(text: &str) -> Result<String, ChangeError> {
    let name = some("ONBUILD", text)?.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    match &*name {
        "ONBUILD" | "FROM" | "MAINTAINER" => Err(ChangeError::Trigger(name)),
        _ => Ok(text.into()),
    }
}

/// `KEY=VALUE`; all after the first `=` belongs to the value.
pub(crate) fn pair(text: &str) -> Result<(String, String), ChangeError> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err(ChangeError::NotAPair(text.into())),
    }
}

/// `KEY=VALUE`, or `KEY` with the value it has in the environment of the caller.
pub(crate) fn env_flag(text: &str) -> Result<(String, String), ChangeError> {
    if text.contains('=') {
        return pair(text);
    }
    match std::env::var(text) {
        Ok(value) if !text.is_empty() => Ok((text.into(), value)),
        _ => Err(ChangeError::Unset(text.into())),
    }
}

/// `KEY=VALUE...`, or `KEY VALUE WITH BLANKS`, the older form of a single pair.
fn pairs(
    name: &'static str,
    text: &str,
    env: &[String],
    change: impl Fn(String, String) -> Change,
) -> Result<Vec<Change>, ChangeError> {
    let words = words(some(name, text)?, env)?;
    if words[0].contains('=') {
        let pairs = words.iter().map(|word| pair(word).map(|(key, value)| change(key, value)));
        return pairs.collect();
    }
    match text.split_once(char::is_whitespace) {
        Some((key, value)) => Ok(vec![change(one(key, env)?, one(value.trim(), env)?)]),
        None => Err(ChangeError::NotAPair(text.into())),
    }
}

fn some<'a>(name: &'static str, text: &'a str) -> Result<&'a str, ChangeError> {
    if text.is_empty() { Err(ChangeError::Empty(name)) } else { Ok(text) }
}

fn single(name: &'static str, text: &str, env: &[String]) -> Result<String, ChangeError> {
    one(some(name, text)?, env)
}

/// A port, a port and its protocol, or a range of them.
fn expose(text: &str) -> Result<Vec<Change>, ChangeError> {
    let bad = || ChangeError::Port(text.into());
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(&*protocol, "tcp" | "udp" | "sctp") {
        return Err(bad());
    }
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let number = |text: &str| text.parse::<u16>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    let (first, last) = (number(first).ok_or_else(bad)?, number(last).ok_or_else(bad)?);
    if first == 0 || first > last {
        return Err(bad());
    }
    Ok((first..=last).map(|port| Change::Expose(format!("{port}/{protocol}"))).collect())
}

/// One word of [`expose`].
pub(crate) fn expose_flag(text: &str) -> Result<Changes, ChangeError> {
    expose(text).map(Changes)
}

/// A JSON array of paths, or paths.
fn volumes(text: &str, env: &[String]) -> Result<Vec<String>, ChangeError> {
    match serde_json::from_str::<Vec<String>>(some("VOLUME", text)?) {
        Ok(paths) => Ok(paths),
        Err(_) => words(text, env),
    }
}

/// Docker's `Healthcheck`: the test and its times in nanoseconds.
fn health(text: &str) -> Result<Value, ChangeError> {
    let bad = || ChangeError::Health(text.into());
    let mut check = serde_json::Map::new();
    let mut rest = text;
    while let Some(option) = rest.strip_prefix("--") {
        let (option, after) = option.split_once(char::is_whitespace).ok_or_else(bad)?;
        let (key, value) = option.split_once('=').ok_or_else(bad)?;
        let (member, value) = match key {
            "interval" => ("Interval", nanoseconds(value)?),
            "timeout" => ("Timeout", nanoseconds(value)?),
            "start-period" => ("StartPeriod", nanoseconds(value)?),
            "start-interval" => ("StartInterval", nanoseconds(value)?),
            "retries" => ("Retries", value.parse().map_err(|_| bad())?),
            _ => return Err(bad()),
        };
        // Zero means the usual value, as the member's absence does.
        if value > 0 {
            check.insert(member.into(), value.into());
        }
        rest = after.trim_start();
    }
    let test = match rest.split_once(char::is_whitespace) {
        None if rest.eq_ignore_ascii_case("none") => vec!["NONE".to_string()],
        Some((cmd, line)) if cmd.eq_ignore_ascii_case("cmd") => {
            match serde_json::from_str::<Vec<String>>(line.trim()) {
                Ok(words) => [vec!["CMD".to_string()], words].concat(),
                Err(_) => vec!["CMD-SHELL".into(), line.trim().into()],
            }
        }
        _ => return Err(bad()),
    };
    check.insert("Test".into(), json!(test));
    Ok(Value::Object(check))
}

/// The shortest time of a health check, docker's.
const SHORTEST: u64 = 1_000_000;

/// A duration in Go's notation (`time.ParseDuration`): numbers, with a fraction or not, each with its unit; or zero.
fn nanoseconds(text: &str) -> Result<u64, ChangeError> {
    let bad = || ChangeError::Duration(text.into());
    let mut total = 0_u64;
    let mut rest = text;
    if text == "0" {
        return Ok(0);
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let (number, unit) = rest.split_at(end);
        let length = unit.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(unit.len());
        let factor: u64 = match &unit[..length] {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ns" => 1,
            _ => return Err(bad()),
        };
        let part = scaled(number, factor).ok_or_else(bad)?;
        total = total.checked_add(part).ok_or_else(bad)?;
        rest = &unit[length..];
    }
    if text.is_empty() || (total > 0 && total < SHORTEST) { Err(bad()) } else { Ok(total) }
}

/// `NUMBER[.FRACTION]` of a unit, in whole nanoseconds.
fn scaled(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    whole.checked_mul(factor)?.checked_add(fraction_of(fraction, factor))
}

/// The digits after a point, of a unit of `factor` nanoseconds; what is less than one is left out.
fn fraction_of(digits: &str, factor: u64) -> u64 {
    let (mut numerator, mut scale) = (0_u128, 1_u128);
    // An hour's thousandth of a billionth is less than a nanosecond.
    for digit in digits.bytes().take(15) {
        numerator = numerator * 10 + u128::from(digit - b'0');
        scale *= 10;
    }
    u64::try_from(numerator * u128::from(factor) / scale).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<Change> {
        text.parse::<Instruction>().expect(text).changes(&Before::default()).expect(text)
    }

    fn list(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.into()).collect()
    }

    #[test]
    fn instructions_are_read_as_docker_reads_them() {
        let env = |key: &str, value: &str| Change::Env(key.into(), value.into());
        for (text, want) in [
            ("CMD [\"a\", \"b c\"]", vec![Change::Cmd(list(&["a", "b c"]))]),
            ("cmd echo \"hi\"  there", vec![Change::Cmd(list(&["/bin/sh", "-c", "echo \"hi\"  there"]))]),
            ("CMD [ -f x ]", vec![Change::Cmd(list(&["/bin/sh", "-c", "[ -f x ]"]))]),
            ("CMD []", vec![Change::Cmd(vec![])]),
            ("ENTRYPOINT [\"/init\"]", vec![Change::Entrypoint(list(&["/init"]))]),
            (
                "ENV A=1 B=\"two words\" C=x\\ y D=a=b",
                vec![env("A", "1"), env("B", "two words"), env("C", "x y"), env("D", "a=b")],
            ),
            ("ENV KEY \"some\" value", vec![env("KEY", "some value")]),
            ("ENV E=", vec![env("E", "")]),
            ("LABEL \"com.example\"='v'", vec![Change::Label("com.example".into(), "v".into())]),
            ("WORKDIR /a  b", vec![Change::WorkingDir("/a  b".into())]),
            ("WORKDIR \"/a b\"", vec![Change::WorkingDir("/a b".into())]),
            ("SHELL [\"/bin/bash\", \"-c\"]", vec![Change::Shell(list(&["/bin/bash", "-c"]))]),
            ("HEALTHCHECK CMD [\"a\", \"b c\"]", vec![Change::Health(json!({"Test": ["CMD", "a", "b c"]}))]),
            (
                "HEALTHCHECK --timeout=1.5s --start-period=1h0.5ms --interval=0s --start-interval=2000us CMD x",
                vec![Change::Health(json!({
                    "Timeout": 1_500_000_000_u64, "StartPeriod": 3_600_000_500_000_u64, "StartInterval": 2_000_000,
                    "Test": ["CMD-SHELL", "x"],
                }))],
            ),
            ("USER 1000:1000", vec![Change::User("1000:1000".into())]),
            ("EXPOSE 80 53/UDP", vec![Change::Expose("80/tcp".into()), Change::Expose("53/udp".into())]),
            ("EXPOSE 8-9/tcp", vec![Change::Expose("8/tcp".into()), Change::Expose("9/tcp".into())]),
            ("VOLUME /data /x", vec![Change::Volume("/data".into()), Change::Volume("/x".into())]),
            ("VOLUME [\"/a b\"]", vec![Change::Volume("/a b".into())]),
            ("STOPSIGNAL SIGQUIT", vec![Change::StopSignal("SIGQUIT".into())]),
            ("HEALTHCHECK NONE", vec![Change::Health(json!({"Test": ["NONE"]}))]),
            (
                "HEALTHCHECK --interval=1m30s --retries=3 CMD curl -f x",
                vec![Change::Health(
                    json!({"Interval": 90_000_000_000_u64, "Retries": 3, "Test": ["CMD-SHELL", "curl -f x"]}),
                )],
            ),
            ("ONBUILD RUN make", vec![Change::OnBuild("RUN make".into())]),
        ] {
            assert_eq!(read(text), want, "{text:?}");
        }
    }

    #[test]
    fn a_line_is_for_the_shell_that_the_image_has_by_then() {
        let mut before = Before { shell: list(&["/bin/ash", "-ec"]), ..Before::default() };
        let cmd: Instruction = "CMD a  b".parse().expect("an instruction");
        assert_eq!(cmd.changes(&before), Ok(vec![Change::Cmd(list(&["/bin/ash", "-ec", "a  b"]))]));
        before.note(&Change::Shell(list(&["/bin/bash"])));
        assert_eq!(cmd.changes(&before), Ok(vec![Change::Cmd(list(&["/bin/bash", "a  b"]))]));
    }

    #[test]
    fn variables_wait_for_the_image() {
        let ports: Instruction = "EXPOSE $PORT".parse().expect("an instruction");
        assert!(ports.changes(&Before::default()).is_err());
        let before = Before { env: vec!["PORT=80 81".into()], ..Before::default() };
        let each = ["80/tcp", "81/tcp"].map(|port| Change::Expose(port.into()));
        assert_eq!(ports.changes(&before), Ok(each.into()));
        assert_eq!(read("CMD echo $A"), [Change::Cmd(list(&["/bin/sh", "-c", "echo $A"]))]);
        assert!("COPY $A b".parse::<Instruction>().is_err());
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for text in [
            "",
            "RUN make",
            "COPY a b",
            "ENV",
            "ENV A",
            "ENV A=\"x",
            "ENV =x",
            "LABEL a",
            "EXPOSE",
            "EXPOSE http",
            "EXPOSE 0",
            "EXPOSE 70000",
            "EXPOSE 9-8",
            "EXPOSE +80",
            "USER",
            "WORKDIR",
            "VOLUME",
            "HEALTHCHECK",
            "HEALTHCHECK curl",
            "HEALTHCHECK --interval=5 CMD x",
            "HEALTHCHECK --interval=5s",
            "HEALTHCHECK --interval=1us CMD x",
            "HEALTHCHECK --interval=1..5s CMD x",
            "HEALTHCHECK --interval=.s CMD x",
            "HEALTHCHECK --retries=-1 CMD x",
            "HEALTHCHECK NONE x",
            "SHELL /bin/bash -c",
            "SHELL []",
            "ONBUILD",
            "ONBUILD FROM x",
            "ONBUILD ONBUILD RUN x",
        ] {
            assert!(text.parse::<Instruction>().is_err(), "{text:?}");
        }
    }
}
