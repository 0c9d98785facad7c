//! Images: docker's `images`.

use std::time::SystemTime;

use cli::{During, Failure, Stage};
use descriptor::{ImageLine, Line};
use serde_json::{Value, json};
use store::{Document, Image, Store};

use crate::args::{ImagesArgs, ListForm};
use crate::find::{self, Thing};
use crate::lists::filter::{Filters, glob};
use crate::lists::{Rows, tell, tell_ids, wanted};
use crate::table::{Column, fixed, flexible};
use crate::text::{self, created_at, repository_and_tag, short};
use crate::{docker, survey};

/// What `--filter` understands.
const KEYS: [&str; 5] = ["before", "dangling", "label", "reference", "since"];
const COLUMNS: [(Column, &str); 6] = [
    (flexible("REPOSITORY", 16), "Repository"),
    (flexible("TAG", 12), "Tag"),
    (fixed("DIGEST"), "Digest"),
    (fixed("IMAGE ID"), "ID"),
    (fixed("CREATED"), "CreatedSince"),
    (fixed("SIZE"), "Size"),
];

/// An image as the list sees it; of an index, the one of the host or the first that is there.
struct Entry {
    line: ImageLine,
    image: Option<Image>,
}

/// Shows all images of index.json, those without a name last.
pub(crate) fn images(store: &Store, stage: &Stage, args: &ImagesArgs, ids_only: bool) -> Result<(), Failure> {
    let rows = wanted(&args.form, ids_only)?;
    let filters = Filters::parse(&args.filter, &KEYS)?;
    filters.check("dangling", &["true", "false", "1", "0"])?;
    let made = |key: &str| -> Result<Vec<Option<String>>, Failure> {
        filters.values(key).iter().map(|name| made(store, name)).collect()
    };
    let (before, since) = (made("before")?, made("since")?);
    let mut entries = Vec::new();
    for (name, descriptor) in store.roots().during(|| "images".into())? {
        let entry = Entry { image: image(store, &descriptor), line: find::line(store, descriptor, name) };
        let created = created(&entry);
        let is_wanted = fits(&entry, &filters, args.name.as_deref())
            && before.iter().all(|moment| created < *moment)
            && since.iter().all(|moment| created > *moment);
        if is_wanted {
            entries.push(entry);
        }
    }
    if rows == Rows::Lines {
        return entries
            .into_iter()
            .map(|entry| Line::Image(entry.line))
            .try_for_each(|line| stage.emit(&line));
    }
    entries.sort_by_cached_key(|entry| std::cmp::Reverse(created(entry)));
    let now = SystemTime::now();
    let rows: Vec<Value> = entries.iter().map(|entry| row(store, entry, &args.form, now)).collect();
    if ids_only {
        return tell_ids(&rows, "ID");
    }
    let columns = COLUMNS.iter().filter(|(_, member)| args.digests || *member != "Digest").copied();
    tell(&rows, &args.form, &columns.collect::<Vec<_>>())
}

fn image(store: &Store, descriptor: &descriptor::Descriptor) -> Option<Image> {
    if let Ok(image) = store.image(&descriptor.digest, None) {
        return Some(image);
    }
    // An index without this host's platform.
    let (Document::Index(index), _) = store.document(&descriptor.digest, None).ok()? else { return None };
    survey::present(store, &index).into_iter().find_map(|(entry, _)| store.image(&entry.digest, None).ok())
}

fn created(entry: &Entry) -> Option<String> {
    entry.image.as_ref()?.config.created().clone()
}

fn made(store: &Store, name: &str) -> Result<Option<String>, Failure> {
    match find::find(store, name)? {
        Thing::Image(line) => {
            let image = image(store, &line.descriptor);
            Ok(image.and_then(|image| image.config.created().clone()))
        }
        _ => Err(Failure::usage(format!("--filter {name}"), "it is no image")),
    }
}

fn fits(entry: &Entry, filters: &Filters, name: Option<&str>) -> bool {
    let reference = entry.line.reference.as_deref();
    let fits_name = |pattern: &str| {
        let (repository, tag) = repository_and_tag(reference);
        let pattern = text::familiar(pattern);
        reference.is_some() && (glob(&repository, pattern) || glob(&format!("{repository}:{tag}"), pattern))
    };
    let labels = entry.image.as_ref().and_then(|image| image.config.config().as_ref()?.labels().as_ref());
    name.is_none_or(fits_name)
        && filters.any("reference", fits_name)
        && filters.any("dangling", |wanted| matches!(wanted, "true" | "1") == reference.is_none())
        && filters.labels(|key| labels?.get(key).map(String::as_str))
}

fn row(store: &Store, entry: &Entry, form: &ListForm, now: SystemTime) -> Value {
    let (repository, tag) = repository_and_tag(entry.line.reference.as_deref());
    let created = created(entry).unwrap_or_else(|| text::NEVER.into());
    let id = entry.image.as_ref().map_or(entry.line.descriptor.digest, |image| image.config_digest);
    let bytes = entry.image.as_ref().map_or(0, |image| docker::size_of(store, image));
    let incomplete = if entry.line.complete { "" } else { " (incomplete)" };
    json!({
        "Containers": "N/A", "CreatedAt": created_at(&created), "CreatedSince": text::ago(&created, now, "N/A"),
        "Digest": entry.line.descriptor.digest,
        "ID": if form.no_trunc { id.to_string() } else { short(&id.hex()) },
        "Repository": repository, "SharedSize": "N/A", "Size": format!("{}{incomplete}", text::size(bytes)),
        "Tag": tag, "UniqueSize": "N/A", "VirtualSize": text::size(bytes), "Bytes": bytes,
        "Complete": entry.line.complete,
    })
}
