//! Images: docker's `images`.

use std::collections::BTreeMap;
use std::time::SystemTime;

use cli::{During, Failure, Stage};
use descriptor::{ImageLine, Line, moment};
use serde_json::{Value, json};
use store::filter::{Filters, ImageFacts, ImageFilter, Of};
use store::{Document, Image, Store};

use crate::args::{ImagesArgs, ListForm};
use crate::find::{self, Thing};
use crate::lists::{Rows, tell, tell_ids, wanted};
use crate::table::{Column, fixed, flexible};
use crate::text::{self, created_at, repository_and_tag, shown_id};
use crate::{docker, survey};

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
    let what = || "images".to_string();
    let named = args.name.iter().map(|name| format!("reference={name}"));
    let words = args.filter.iter().cloned().chain(named);
    let filters = Filters::parse(Of::Images, words).during(what)?;
    let filter = ImageFilter::new(filters, |name| made(store, name)).during(what)?;
    let mut entries = Vec::new();
    for (name, descriptor) in store.roots().during(what)? {
        let entry = Entry { image: image(store, &descriptor), line: find::line(store, descriptor, name) };
        if fits(&entry, &filter) {
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

/// When an image was made; one that does not say was made before all others.
fn moment(created: Option<&str>) -> SystemTime {
    created.and_then(moment::parse).unwrap_or(SystemTime::UNIX_EPOCH)
}

fn made(store: &Store, name: &str) -> Option<SystemTime> {
    let Ok(Thing::Image(line)) = find::find(store, name) else { return None };
    image(store, &line.descriptor).map(|image| moment(image.config.created().as_deref()))
}

fn fits(entry: &Entry, filter: &ImageFilter) -> bool {
    let config = entry.image.as_ref().and_then(|image| image.config.config().as_ref());
    let labels = config.and_then(|config| config.labels().clone()).map(BTreeMap::from_iter);
    filter.fits(&ImageFacts {
        reference: entry.line.reference.as_deref(),
        labels: labels.as_ref(),
        created: Some(moment(created(entry).as_deref())),
    })
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
        "ID": shown_id(&id.to_string(), form.no_trunc),
        "Repository": repository, "SharedSize": "N/A", "Size": format!("{}{incomplete}", text::size(bytes)),
        "Tag": tag, "UniqueSize": "N/A", "VirtualSize": text::size(bytes), "Bytes": bytes,
        "Complete": entry.line.complete,
    })
}
