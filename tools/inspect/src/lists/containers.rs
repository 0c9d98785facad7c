//! Containers: docker's `ps`.

use std::time::SystemTime;

use cli::{During, Failure, Stage};
use descriptor::{Digest, Line, Status};
use serde_json::{Value, json};
use store::{Container, CreateDoc, State, Store};

use crate::args::{ContainersArgs, ListForm};
use crate::docker::{self, exit_code, image_name};
use crate::find::{Thing, find};
use crate::form::{Format, plain};
use crate::lists::filter::{Filters, name_fits};
use crate::lists::{Rows, tell, tell_ids, wanted};
use crate::table::{Column, fixed, flexible};
use crate::text::{self, created_at, cut, short};
use crate::{container, usage};

/// What `--filter` understands.
const KEYS: [&str; 10] =
    ["ancestor", "before", "exited", "id", "label", "name", "network", "since", "status", "volume"];
/// The words for a status; the last two are never seen here.
const STATUSES: [&str; 8] =
    ["created", "running", "paused", "exited", "stopped", "restarting", "removing", "dead"];
/// The most characters of a command in the table, its quotes aside.
const COMMAND: usize = 20;
const COLUMNS: [(Column, &str); 7] = [
    (fixed("CONTAINER ID"), "ID"),
    (flexible("IMAGE", 12), "Image"),
    (flexible("COMMAND", 8), "Command"),
    (fixed("CREATED"), "RunningFor"),
    (fixed("STATUS"), "Status"),
    (fixed("NAMES"), "Names"),
    (fixed("SIZE"), "Size"),
];

/// A container as the list sees it.
struct Entry {
    container: Container,
    create: CreateDoc,
    state: State,
    /// What is true now.
    status: Status,
}

/// Shows them, those that were made last first.
pub(crate) fn containers(
    store: &Store,
    stage: &Stage,
    args: &ContainersArgs,
    ids_only: bool,
) -> Result<(), Failure> {
    let rows = wanted(&args.form, ids_only)?;
    let entries = entries(store, args)?;
    if rows == Rows::Lines {
        // Removed since the list was read: no failure.
        let lines = entries.iter().filter_map(|entry| container::line(&entry.container).ok());
        return lines.map(Line::Container).try_for_each(|line| stage.emit(&line));
    }
    let sizes = args.size || matches!(&args.form.format, Some(Format::Template(one)) if one.mentions("Size"));
    let now = SystemTime::now();
    let rows = entries.iter().map(|entry| row(entry, &args.form, sizes && !ids_only, now));
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    if ids_only {
        return tell_ids(&rows, "ID");
    }
    let columns = if sizes { &COLUMNS[..] } else { &COLUMNS[..6] };
    tell(&rows, &args.form, columns)
}

/// Those that are asked for.
fn entries(store: &Store, args: &ContainersArgs) -> Result<Vec<Entry>, Failure> {
    let filters = Filters::parse(&args.filter, &KEYS)?;
    filters.check("status", &STATUSES)?;
    let ancestors = filters.values("ancestor").iter().map(|name| layers_of(store, name));
    let ancestors = ancestors.collect::<Result<Vec<_>, _>>()?;
    let moment = |key: &str| -> Result<Vec<Option<String>>, Failure> {
        filters.values(key).iter().map(|name| made(store, name)).collect()
    };
    let (before, since) = (moment("before")?, moment("since")?);
    let last = args.last.or(args.latest.then_some(1));
    let all = args.all || last.is_some() || filters.has("status") || filters.has("exited");
    let mut entries: Vec<Entry> = Vec::new();
    for container in store.containers().during(|| "containers".into())? {
        let Some(entry) = entry(container) else { continue };
        let created = &entry.state.created_at;
        let is_wanted = (all || matches!(entry.status, Status::Running | Status::Paused))
            && before.iter().all(|moment| created < moment)
            && since.iter().all(|moment| created > moment)
            && (ancestors.is_empty()
                || ancestors.iter().any(|(digest, layers)| is_of(&entry, digest, layers)))
            && fits(&entry, &filters, store);
        if is_wanted {
            entries.push(entry);
        }
    }
    entries.sort_by(|a, b| b.state.created_at.cmp(&a.state.created_at));
    entries.truncate(last.unwrap_or(usize::MAX));
    Ok(entries)
}

/// None for what was removed since the list was read, or is damaged: `--check` tells of that.
fn entry(container: Container) -> Option<Entry> {
    let (create, state) = (container.create().ok()?, container.state().ok()?);
    Some(Entry { status: state.now(), container, create, state })
}

/// An image, by its digest and its layers.
fn layers_of(store: &Store, name: &str) -> Result<(Digest, Vec<Digest>), Failure> {
    let what = || format!("--filter ancestor={name}");
    match find(store, name)? {
        Thing::Image(line) => {
            let image = store.image(&line.descriptor.digest, None).during(what)?;
            Ok((line.descriptor.digest, image.diff_ids))
        }
        _ => Err(Failure::usage(what(), "it is no image")),
    }
}

/// Whether a container is of an image, or of one that was made upon it.
fn is_of(entry: &Entry, digest: &Digest, layers: &[Digest]) -> bool {
    entry.create.image.as_ref() == Some(digest)
        || (!layers.is_empty() && entry.create.diff_ids.starts_with(layers))
}

fn made(store: &Store, name: &str) -> Result<Option<String>, Failure> {
    let what = || format!("container {name:?}");
    let container = store.container(name).during(what)?;
    Ok(container.state().during(what)?.created_at)
}

fn fits(entry: &Entry, filters: &Filters, store: &Store) -> bool {
    let (create, name) = (&entry.create, entry.container.name());
    let status = docker::status(entry.status);
    let volume = |wanted: &str| {
        create.mounts.iter().any(|mount| mount.source.as_deref() == Some(wanted) || mount.target == wanted)
    };
    let exited =
        |wanted: &str| entry.status == Status::Stopped && wanted.parse() == Ok(exit_code(&entry.state));
    filters.any("name", |wanted| name_fits(name, wanted))
        && filters.any("id", |wanted| entry.container.id().starts_with(wanted))
        && filters.any("status", |wanted| wanted == status || (wanted == "stopped" && status == "exited"))
        && filters.any("exited", exited)
        && filters.any("network", |wanted| create.network == wanted)
        && filters.any("volume", volume)
        && (!filters.has("label") || {
            let labels = labels(create, store);
            filters.labels(|key| labels[key].as_str())
        })
}

/// The image's labels and, over them, the container's own.
fn labels(create: &CreateDoc, store: &Store) -> Value {
    let image = create.image.and_then(|digest| store.image(&digest, None).ok());
    let own = image.and_then(|image| image.config.config().as_ref()?.labels().clone());
    let mut all: serde_json::Map<String, Value> =
        own.into_iter().flatten().map(|(key, value)| (key, json!(value))).collect();
    all.extend(create.labels.iter().map(|(key, value)| (key.clone(), json!(value))));
    all.sort_keys();
    all.into()
}

fn row(entry: &Entry, form: &ListForm, sizes: bool, now: SystemTime) -> Result<Value, Failure> {
    let (container, create, state) = (&entry.container, &entry.create, &entry.state);
    let store = container.store();
    let words = container.document("config.json").ok().flatten().unwrap_or_default();
    let words = words["process"]["args"].as_array().into_iter().flatten().map(plain);
    let command = words.collect::<Vec<_>>().join(" ");
    let command = if form.no_trunc { command } else { cut(&command, COMMAND) };
    let created = state.created_at.as_deref().unwrap_or(text::NEVER);
    let labels = labels(create, store);
    let labels =
        labels.as_object().into_iter().flatten().map(|(key, value)| format!("{key}={}", plain(value)));
    let mounts = create.mounts.iter().map(|mount| mount.source.clone().unwrap_or_else(|| mount.kind.clone()));
    let image = image_name(store, create);
    let image = match image.strip_prefix("sha256:") {
        Some(hex) if !form.no_trunc => short(hex),
        _ => image,
    };
    let mut value = json!({
        "Command": format!("\"{command}\""), "CreatedAt": created_at(created),
        "ID": if form.no_trunc { container.id().to_string() } else { short(container.id()) },
        "Image": image, "Labels": labels.collect::<Vec<_>>().join(","),
        "LocalVolumes": create.mounts.iter().filter(|mount| mount.kind == "volume").count().to_string(),
        "Mounts": mounts.collect::<Vec<_>>().join(","), "Names": container.name(), "Networks": create.network,
        "Ports": "", "RunningFor": text::ago(created, now, "N/A"), "State": docker::status(entry.status),
        "Status": status(entry, now),
    });
    if sizes {
        let own = usage::content(container).during(|| format!("container {}", container.name()))?;
        let image = create.image.and_then(|digest| store.image(&digest, None).ok());
        let below = image.map_or(0, |image| docker::size_of(store, &image));
        value["Size"] = json!(format!("{} (virtual {})", text::size(own), text::size(own + below)));
        value["SizeRw"] = json!(own);
        value["SizeRootFs"] = json!(own + below);
    }
    Ok(value)
}

/// The status in docker's words: `Up 5 minutes`, `Exited (0) 2 hours ago`.
fn status(entry: &Entry, now: SystemTime) -> String {
    let since = |moment: &Option<String>| moment.as_deref().and_then(|text| text::since(text, now));
    let up = || since(&entry.state.started_at).map_or_else(|| "Up".into(), |since| format!("Up {since}"));
    match entry.status {
        Status::Created => "Created".into(),
        Status::Running => up(),
        Status::Paused => format!("{} (Paused)", up()),
        Status::Stopped => {
            let code = exit_code(&entry.state);
            match since(&entry.state.finished_at) {
                Some(since) => format!("Exited ({code}) {since} ago"),
                None => format!("Exited ({code})"),
            }
        }
    }
}
