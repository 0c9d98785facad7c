//! `--filter KEY=VALUE` as docker has it: values of one key are alternatives, different keys must all fit.
//!
//! Which keys there are depends on what is listed; a key or a value that means nothing is refused, never passed over.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use descriptor::{Digest, Status, moment};

use crate::{Container, CreateDoc, Error, Event, Result, State, Store, Volume};

/// How many digits of an id or digest are shown, and enough to name it.
const SHORT: usize = 12;

/// The first twelve digits of an id or of a digest's.
pub fn short(id: &str) -> &str {
    let digits = id.strip_prefix("sha256:").unwrap_or(id);
    digits.get(..SHORT).unwrap_or(digits)
}

/// What is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// Containers.
    Containers,
    /// Images.
    Images,
    /// Volumes.
    Volumes,
    /// Events.
    Events,
    /// What is to be removed.
    Prune,
}

impl Of {
    /// The keys that mean something, by the alphabet.
    pub fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Containers => &[
                "ancestor", "before", "exited", "id", "label", "name", "network", "since", "status", "until",
                "volume",
            ],
            Self::Images => &["before", "dangling", "label", "reference", "since", "until"],
            Self::Volumes => &["dangling", "label", "name", "until"],
            Self::Events => &["container", "event", "image", "label", "type", "volume"],
            Self::Prune => &["label", "until"],
        }
    }
}

/// The filters of a call, checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters {
    by_key: BTreeMap<String, Vec<String>>,
}

impl Filters {
    /// Reads `KEY=VALUE` words.
    ///
    /// # Errors
    /// [`Error::BadFilter`] for a word without `=`, a key that this kind of thing has not, or a value that is none for it.
    pub fn parse<T: AsRef<str>>(of: Of, words: impl IntoIterator<Item = T>) -> Result<Self> {
        let mut by_key: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for word in words {
            let word = word.as_ref();
            let bad = |why: String| Error::BadFilter { word: word.chars().take(200).collect(), why };
            let (key, value) = word.split_once('=').ok_or_else(|| bad("a filter is KEY=VALUE".into()))?;
            if !of.keys().contains(&key) {
                return Err(bad(format!("no such filter; there are {}", of.keys().join(", "))));
            }
            check(key, value).map_err(bad)?;
            by_key.entry(key.into()).or_default().push(value.into());
        }
        Ok(Self { by_key })
    }

    /// True where everything fits.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// The values of a key; none where it was not given.
    pub fn values(&self, key: &str) -> &[String] {
        self.by_key.get(key).map_or(&[], Vec::as_slice)
    }

    /// Whether one of the key's values fits, or the key was not given.
    fn any(&self, key: &str, fits: impl Fn(&str) -> bool) -> bool {
        self.by_key.get(key).is_none_or(|values| values.iter().any(|value| fits(value)))
    }

    fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        // docker wants all labels that are named.
        self.values("label").iter().all(|wanted| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|has| has == value),
            None => labels.contains_key(wanted),
        })
    }

    fn until(&self, created: Option<SystemTime>) -> bool {
        self.any("until", |value| moment_of(value).is_some_and(|until| created.is_some_and(|c| c < until)))
    }

    /// Whether an event fits.
    pub fn event(&self, event: &Event) -> bool {
        use crate::Subject;
        let names = |kind, value: &str| {
            event.kind == kind
                && (event.name == value || event.id == value || short(&event.id) == short(value))
        };
        let image_of = |value: &str| {
            names(Subject::Image, value) || event.attributes.get("image").is_some_and(|image| image == value)
        };
        self.any("event", |value| event.action == value)
            && self.any("type", |value| kind_of(value) == Some(event.kind))
            && self.any("container", |value| names(Subject::Container, value))
            && self.any("volume", |value| names(Subject::Volume, value))
            && self.any("image", image_of)
            && self.labels(&event.attributes)
    }

    /// Whether a cache fits, by when it was last used: it has no labels.
    pub fn cache(&self, cache: &crate::Cache) -> bool {
        self.labels(&BTreeMap::new()) && self.until(Some(cache.used()))
    }

    /// Whether a volume fits; its users are looked for where that is asked.
    ///
    /// # Errors
    /// As [`Volume::users`].
    pub fn volume(&self, volume: &Volume) -> Result<bool> {
        let doc = volume.doc();
        let fits = self.any("name", |value| fits_name(value, volume.name()))
            && self.labels(&doc.labels)
            && self.until(moment::parse(&doc.created_at));
        if !fits || self.values("dangling").is_empty() {
            return Ok(fits);
        }
        let dangling = volume.users()?.is_empty();
        Ok(self.any("dangling", |value| truth(value) == Some(dangling)))
    }
}

/// Filters of containers, with what they refer to looked up.
#[derive(Debug)]
pub struct ContainerFilter {
    filters: Filters,
    /// An image, and its layers where the store has it.
    ancestors: Vec<(Digest, Vec<Digest>)>,
    before: Vec<SystemTime>,
    since: Vec<SystemTime>,
}

impl ContainerFilter {
    /// Looks up what the filters refer to; `image_of` finds an image by what a user calls it.
    ///
    /// # Errors
    /// [`Error::NoContainer`] for `before` and `since`, or a failed call.
    pub fn new(store: &Store, filters: Filters, image_of: impl Fn(&str) -> Option<Digest>) -> Result<Self> {
        let layers =
            |image: &Digest| store.image(image, None).map(|image| image.diff_ids).unwrap_or_default();
        let found = filters.values("ancestor").iter().filter_map(|value| image_of(value));
        let ancestors = found.map(|image| (image, layers(&image))).collect();
        let moments = |key: &str| {
            let made = |name: &String| Ok(created(&store.container(name)?.state()?));
            filters.values(key).iter().map(made).collect::<Result<Vec<_>>>()
        };
        let present = |all: Vec<Option<SystemTime>>| all.into_iter().flatten().collect();
        let (before, since) = (present(moments("before")?), present(moments("since")?));
        Ok(Self { filters, ancestors, before, since })
    }

    /// Whether a container fits.
    ///
    /// # Errors
    /// As [`Container::settle`] and [`Container::create`].
    pub fn fits(&self, container: &Container) -> Result<bool> {
        let named = self.filters.any("id", |value| container.id().starts_with(value))
            && self.filters.any("name", |value| fits_name(value, container.name()));
        if !named || self.filters.is_empty() {
            return Ok(named);
        }
        let (mut doc, state) = (container.create()?, container.settle()?);
        if !self.filters.values("label").is_empty() {
            // A container has the labels of its image, and over them its own.
            let image = doc.image.and_then(|image| container.store().image(&image, None).ok());
            let config = image.and_then(|image| image.config.config().clone());
            let mut labels: BTreeMap<_, _> =
                config.and_then(|config| config.labels().clone()).into_iter().flatten().collect();
            labels.append(&mut doc.labels);
            doc.labels = labels;
        }
        Ok(self.fits_doc(&doc) && self.fits_state(&state))
    }

    fn fits_doc(&self, doc: &CreateDoc) -> bool {
        let is_mounted = |value: &str| {
            doc.mounts.iter().any(|mount| mount.source.as_deref() == Some(value) || mount.target == value)
        };
        let of_image = |(image, layers): &(Digest, Vec<Digest>)| {
            doc.image == Some(*image) || (!layers.is_empty() && doc.diff_ids.starts_with(layers))
        };
        self.filters.labels(&doc.labels)
            && self.filters.any("volume", is_mounted)
            && self.filters.any("network", |value| doc.network == value)
            && (self.filters.values("ancestor").is_empty() || self.ancestors.iter().any(of_image))
    }

    fn fits_state(&self, state: &State) -> bool {
        let status = state.now();
        let made = created(state);
        let all = |key: &str, moments: &[SystemTime], fits: fn(SystemTime, SystemTime) -> bool| {
            self.filters.values(key).is_empty()
                || made.is_some_and(|made| moments.iter().any(|moment| fits(made, *moment)))
        };
        let exited = |value: &str| status == Status::Stopped && state.exit_code == value.parse().ok();
        self.filters.any("status", |value| status_of(value) == Some(status))
            && self.filters.any("exited", exited)
            && self.filters.until(made)
            && all("before", &self.before, |made, other| made < other)
            && all("since", &self.since, |made, other| made > other)
    }
}

/// What filters of images look at.
#[derive(Debug, Clone, Default)]
pub struct ImageFacts<'a> {
    /// Its name; none where it has none.
    pub reference: Option<&'a str>,
    /// Its labels.
    pub labels: Option<&'a BTreeMap<String, String>>,
    /// When it was made.
    pub created: Option<SystemTime>,
}

/// Filters of images, with what they refer to looked up.
#[derive(Debug)]
pub struct ImageFilter {
    filters: Filters,
    before: Vec<SystemTime>,
    since: Vec<SystemTime>,
}

impl ImageFilter {
    /// Looks up what the filters refer to; `made` says when an image was made, by what a user calls it.
    ///
    /// # Errors
    /// [`Error::NoImage`] for `before` and `since`.
    pub fn new(filters: Filters, made: impl Fn(&str) -> Option<SystemTime>) -> Result<Self> {
        let moments = |key: &str| {
            let all = filters.values(key).iter();
            all.map(|name| made(name).ok_or_else(|| Error::NoImage(name.clone()))).collect::<Result<Vec<_>>>()
        };
        let (before, since) = (moments("before")?, moments("since")?);
        Ok(Self { filters, before, since })
    }

    /// Whether an image fits.
    pub fn fits(&self, image: &ImageFacts<'_>) -> bool {
        let labelled = match image.labels {
            Some(labels) => self.filters.labels(labels),
            None => self.filters.values("label").is_empty(),
        };
        let made = image.created;
        labelled
            && self.filters.any("dangling", |value| truth(value) == Some(image.reference.is_none()))
            && self
                .filters
                .any("reference", |value| image.reference.is_some_and(|r| fits_reference(value, r)))
            && self.filters.until(made)
            && (self.before.is_empty() || made.is_some_and(|made| self.before.iter().any(|b| made < *b)))
            && (self.since.is_empty() || made.is_some_and(|made| self.since.iter().any(|s| made > *s)))
    }
}

fn check(key: &str, value: &str) -> std::result::Result<(), String> {
    let wanted = |fine: bool, what: &str| if fine { Ok(()) } else { Err(format!("{key} wants {what}")) };
    match key {
        "status" => wanted(
            STATUSES.iter().any(|(name, _)| *name == value),
            "created, running, paused, exited or another of docker's words",
        ),
        "exited" => wanted(value.parse::<u8>().is_ok(), "an exit status, 0 to 255"),
        "dangling" => wanted(truth(value).is_some(), "true or false"),
        "until" => wanted(moment_of(value).is_some(), "a moment, or a time before now such as 10m or 1h30m"),
        "type" => wanted(kind_of(value).is_some(), "container, image or volume"),
        _ => wanted(!value.is_empty(), "a value"),
    }
}

/// docker's words, some of which nothing here is ever in.
const STATUSES: [(&str, Option<Status>); 8] = [
    ("created", Some(Status::Created)),
    ("running", Some(Status::Running)),
    ("paused", Some(Status::Paused)),
    ("exited", Some(Status::Stopped)),
    ("stopped", Some(Status::Stopped)),
    ("restarting", None),
    ("removing", None),
    ("dead", None),
];

fn status_of(word: &str) -> Option<Status> {
    STATUSES.iter().find(|(name, _)| *name == word).and_then(|(_, status)| *status)
}

fn kind_of(word: &str) -> Option<crate::Subject> {
    match word {
        "container" => Some(crate::Subject::Container),
        "image" => Some(crate::Subject::Image),
        "volume" => Some(crate::Subject::Volume),
        _ => None,
    }
}

/// The words for a truth value that docker takes.
fn truth(word: &str) -> Option<bool> {
    match word {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn created(state: &State) -> Option<SystemTime> {
    state.created_at.as_deref().and_then(moment::parse)
}

/// All or part of a name; `^` and `$` bind it to the beginning and the end, and a slash before it is docker's own.
fn fits_name(wanted: &str, name: &str) -> bool {
    let (at_begin, rest) = wanted.strip_prefix('^').map_or((false, wanted), |rest| (true, rest));
    let (at_begin, rest) = rest.strip_prefix('/').map_or((at_begin, rest), |rest| (true, rest));
    let (at_end, rest) = rest.strip_suffix('$').map_or((false, rest), |rest| (true, rest));
    match (at_begin, at_end) {
        (true, true) => name == rest,
        (true, false) => name.starts_with(rest),
        (false, true) => name.ends_with(rest),
        (false, false) => name.contains(rest),
    }
}

/// A pattern for the reference as it stands, as docker shortens it, or without its tag.
fn fits_reference(pattern: &str, reference: &str) -> bool {
    let familiar = reference.strip_prefix("docker.io/").unwrap_or(reference);
    let familiar = familiar.strip_prefix("library/").unwrap_or(familiar);
    [reference, familiar].into_iter().any(|name| {
        let bare = name.split_once('@').map_or(name, |(bare, _)| bare);
        // A colon after the last slash begins the tag; one before it a port.
        let slash = bare.rfind('/').map_or(0, |at| at + 1);
        let untagged = bare[slash..].find(':').map_or(bare, |at| &bare[..slash + at]);
        glob(pattern.as_bytes(), name.as_bytes()) || glob(pattern.as_bytes(), untagged.as_bytes())
    })
}

/// Go's `path.Match` without character classes: `*` and `?` stand for anything but a slash. Only the last star is ever taken
/// back, so the time is at most the product of the lengths.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut seen) = (0, 0);
    // Behind the last star, and how far it reaches.
    let mut star: Option<(usize, usize)> = None;
    while seen < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                at += 1;
                star = Some((at, seen));
            }
            Some(wanted) if *wanted == text[seen] || (*wanted == b'?' && text[seen] != b'/') => {
                (at, seen) = (at + 1, seen + 1);
            }
            _ => match star {
                Some((behind, reach)) if text[reach] != b'/' => {
                    star = Some((behind, reach + 1));
                    (at, seen) = (behind, reach + 1);
                }
                _ => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// A moment as docker's `--since` and `until` take it: RFC 3339, a date, seconds since 1970, or a duration before now.
pub fn moment_of(text: &str) -> Option<SystemTime> {
    if let Some(ago) = duration(text) {
        return SystemTime::now().checked_sub(ago);
    }
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if is_number {
        let seconds = Duration::try_from_secs_f64(text.parse().ok()?).ok()?;
        return SystemTime::UNIX_EPOCH.checked_add(seconds);
    }
    // Without a zone it is UTC's.
    [text.to_string(), format!("{text}Z"), format!("{text}:00Z"), format!("{text}T00:00:00Z")]
        .iter()
        .find_map(|text| moment::parse(text))
}

/// Go's durations: `90s`, `1h30m`, `1.5h`.
pub fn duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 7] =
        [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        // The longest unit that fits: "ms" before "m".
        let (unit, seconds) = UNITS.iter().find(|(unit, _)| {
            rest.strip_prefix(unit).is_some_and(|after| !after.starts_with(|c: char| c.is_alphabetic()))
        })?;
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = &rest[unit.len()..];
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_means_nothing_is_refused() {
        for (of, word, said) in [
            (Of::Containers, "status", "KEY=VALUE"),
            (Of::Containers, "colour=red", "there are ancestor, before"),
            (Of::Containers, "status=asleep", "created, running"),
            (Of::Containers, "exited=x", "0 to 255"),
            (Of::Images, "status=running", "no such filter"),
            (Of::Images, "dangling=maybe", "true or false"),
            (Of::Volumes, "until=soon", "1h30m"),
            (Of::Events, "type=planet", "container, image"),
            (Of::Containers, "name=", "a value"),
        ] {
            let error = Filters::parse(of, [word]).expect_err(word).to_string();
            assert!(error.contains(said), "{word}: {error}");
        }
        for of in [Of::Containers, Of::Images, Of::Volumes, Of::Events, Of::Prune] {
            assert!(of.keys().is_sorted(), "{of:?}");
        }
    }

    #[test]
    fn names_fit_in_part_or_bound() {
        for (wanted, name, fits) in [
            ("we", "web", true),
            ("b", "web", true),
            ("^we", "web", true),
            ("^eb", "web", false),
            ("eb$", "web", true),
            ("^web$", "web", true),
            ("^web$", "web2", false),
            ("/web", "web2", true),
            ("^/web$", "web", true),
        ] {
            assert_eq!(fits_name(wanted, name), fits, "{wanted} {name}");
        }
    }

    #[test]
    fn references_fit_patterns_as_docker_takes_them() {
        for (pattern, reference, fits) in [
            ("busybox", "docker.io/library/busybox:1", true),
            ("busybox:1", "docker.io/library/busybox:1", true),
            ("busybox:2", "docker.io/library/busybox:1", false),
            ("busy*", "docker.io/library/busybox:1", true),
            ("*:1", "docker.io/library/busybox:1", true),
            ("docker.io/library/busybox:1", "docker.io/library/busybox:1", true),
            ("*box", "docker.io/me/busybox:1", false),
            ("me/*", "docker.io/me/busybox:1", true),
            ("localhost:5000/app", "localhost:5000/app:x", true),
            ("app:?", "app:x", true),
            ("app", "app@sha256:00", true),
        ] {
            assert_eq!(fits_reference(pattern, reference), fits, "{pattern} {reference}");
        }
        // A star that is tried with all the others before it would take years.
        assert!(!fits_reference(&("*a".repeat(40) + "b"), &"a".repeat(200)));
        assert!(glob("*a".repeat(40).as_bytes(), &[b'a'; 200]) && glob(b"**a?*", b"xab"));
    }

    #[test]
    fn moments_are_dates_numbers_or_times_ago() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        for (text, seconds) in [
            ("951782400", 951_782_400),
            ("2000-02-29", 951_782_400),
            ("2000-02-29T00:00", 951_782_400),
            ("2000-02-29T00:00:01", 951_782_401),
            ("2000-02-29T01:00:00+01:00", 951_782_400),
        ] {
            assert_eq!(moment_of(text), Some(at(seconds)), "{text}");
        }
        let ago = moment_of("1h30m").expect("a moment").elapsed().expect("past").as_secs();
        assert!((5400..5460).contains(&ago), "{ago}");
        assert_eq!(duration("1.5h"), Some(Duration::from_secs(5400)));
        assert_eq!(duration("2m3s5ms"), Some(Duration::from_millis(123_005)));
        for text in ["", "soon", "5", "5x", "m", "1h-3m", "99999999999999999999h"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn ids_are_short_in_one_way() {
        assert_eq!(short(&"ab".repeat(32)), "abababababab");
        assert_eq!(short("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(short("abc"), "abc");
    }
}
