//! Containers: docker's `ps`.

use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

use cli::{During, Failure, Stage};
use descriptor::{Digest, Line, Status};
use serde_json::{Value, json};
use store::filter::{ContainerFilter, Filters, Of};
use store::{Container, CreateDoc, State, Store};

use crate::args::{ContainersArgs, ListForm};
use crate::container;
use crate::docker::{self, exit_code, image_name};
use crate::find::{Thing, find};
use crate::form::{Format, plain};
use crate::lists::{Rows, tell, tell_ids, wanted};
use crate::table::{Column, fixed, flexible};
use crate::text::{self, created_at, cut, shown_id};

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
pub(crate) struct Entry {
    pub(crate) container: Container,
    pub(crate) create: CreateDoc,
    pub(crate) state: State,
    /// What is true now.
    pub(crate) status: Status,
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
    let mut images = Images::default();
    let rows = entries.iter().map(|entry| row(entry, &mut images, &args.form, sizes && !ids_only, now));
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    if ids_only {
        return tell_ids(&rows, "ID");
    }
    let columns = if sizes { &COLUMNS[..] } else { &COLUMNS[..6] };
    tell(&rows, &args.form, columns)
}

/// Those that are asked for.
fn entries(store: &Store, args: &ContainersArgs) -> Result<Vec<Entry>, Failure> {
    let what = || "containers".to_string();
    let given = || format!("--filter {}", args.filter.join(" --filter "));
    let filters = Filters::parse(Of::Containers, &args.filter).during(given)?;
    let last = args.last.or(args.latest.then_some(1));
    let of_all = ["status", "exited"].iter().any(|key| !filters.values(key).is_empty());
    let all = args.all || last.is_some() || of_all;
    let image_of = |name: &str| match find(store, name) {
        Ok(Thing::Image(line)) => Some(line.descriptor.digest),
        _ => None,
    };
    let filter = ContainerFilter::new(store, filters, image_of).during(given)?;
    let mut entries: Vec<Entry> = Vec::new();
    for container in store.containers().during(what)? {
        // Removed since the list was read, or damaged: --check tells of that.
        let Ok(true) = filter.fits(&container) else { continue };
        let Some(entry) = entry(container) else { continue };
        if all || matches!(entry.status, Status::Running | Status::Paused) {
            entries.push(entry);
        }
    }
    entries.sort_by(|a, b| b.state.created_at.cmp(&a.state.created_at));
    entries.truncate(last.unwrap_or(usize::MAX));
    Ok(entries)
}

/// None for what cannot be read.
pub(crate) fn entry(container: Container) -> Option<Entry> {
    let (create, state) = (container.create().ok()?, container.settle().ok()?);
    Some(Entry { status: state.now(), container, create, state })
}

/// What rows tell of images, each read once.
#[derive(Default)]
struct Images(HashMap<Option<Digest>, ImageFacts>);

struct ImageFacts {
    labels: BTreeMap<String, String>,
    bytes: u64,
}

impl Images {
    fn of(&mut self, store: &Store, create: &CreateDoc) -> &ImageFacts {
        self.0.entry(create.image).or_insert_with(|| {
            // It may be gone: its layers are what the container needs.
            let image = create.image.and_then(|digest| store.image(&digest, None).ok());
            let config = image.as_ref().and_then(|image| image.config.config().as_ref());
            let labels = config.and_then(|config| config.labels().clone()).unwrap_or_default();
            ImageFacts {
                labels: labels.into_iter().collect(),
                bytes: image.as_ref().map_or(0, |image| docker::size_of(store, image)),
            }
        })
    }
}

fn row(
    entry: &Entry,
    images: &mut Images,
    form: &ListForm,
    sizes: bool,
    now: SystemTime,
) -> Result<Value, Failure> {
    let (container, create, state) = (&entry.container, &entry.create, &entry.state);
    let store = container.store();
    let words = container.document("config.json").ok().flatten().unwrap_or_default();
    let words = words["process"]["args"].as_array().into_iter().flatten().map(plain);
    let command = text::command(words);
    let command = if form.no_trunc { command } else { cut(&command, COMMAND) };
    let created = state.created_at.as_deref().unwrap_or(text::NEVER);
    let facts = images.of(store, create);
    let mut labels = facts.labels.clone();
    labels.extend(create.labels.clone());
    let labels = labels.iter().map(|(key, value)| format!("{key}={value}"));
    let mounts = create.mounts.iter().map(|mount| mount.source.clone().unwrap_or_else(|| mount.kind.clone()));
    let name = image_name(store, create, state);
    let image = if name.starts_with("sha256:") { shown_id(&name, form.no_trunc) } else { name };
    let mut value = json!({
        "Command": text::quoted(&command), "CreatedAt": created_at(created),
        "ID": shown_id(container.id(), form.no_trunc),
        "Image": image, "Labels": labels.collect::<Vec<_>>().join(","),
        "LocalVolumes": create.mounts.iter().filter(|mount| mount.kind == "volume").count().to_string(),
        "Mounts": mounts.collect::<Vec<_>>().join(","), "Names": container.name(), "Networks": create.network,
        "Ports": "", "RunningFor": text::ago(created, now, "N/A"), "State": docker::status(entry.status),
        "Status": status(entry, now),
    });
    if sizes {
        let own = match container.written() {
            // Removed since the list was read.
            Err(store::Error::Call { source, .. }) if source.is_not_found() => 0,
            counted => counted.during(|| format!("container {}", container.name()))?.content,
        };
        let below = facts.bytes;
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
