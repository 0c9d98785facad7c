//! How an image was made: docker's `history`.

use std::time::SystemTime;

use cli::{During, Failure};
use serde_json::{Value, json};
use store::{Form, Image, Store};

use crate::args::HistoryArgs;
use crate::docker;
use crate::find::{Thing, find};
use crate::lists::{no_lines, tell, tell_ids};
use crate::table::{Column, fixed, flexible};
use crate::text::{self, created_at, cut, shown_id};

/// The most characters of a step in the table.
const STEP: usize = 45;
/// A step whose image nobody keeps.
const MISSING: &str = "<missing>";
const COLUMNS: [(Column, &str); 5] = [
    (fixed("IMAGE"), "ID"),
    (fixed("CREATED"), "CreatedSince"),
    (flexible("CREATED BY", 12), "CreatedBy"),
    (fixed("SIZE"), "Size"),
    (flexible("COMMENT", 8), "Comment"),
];

/// Shows its steps, the last one first.
pub(crate) fn history(store: &Store, args: &HistoryArgs, ids_only: bool) -> Result<(), Failure> {
    no_lines(&args.form)?;
    let what = || format!("{:?}", args.image);
    let Thing::Image(line) = find(store, &args.image)? else {
        return Err(Failure::usage(what(), "it is no image"));
    };
    let image = store.image(&line.descriptor.digest, args.platform.as_ref()).during(what)?;
    let config = docker::config(store, &image)?;
    let now = SystemTime::now();
    let id = shown_id(&image.config_digest.to_string(), args.form.no_trunc);
    let mut rows: Vec<Value> = steps(store, &image, &config)
        .into_iter()
        .rev()
        .map(|step| {
            let by = step.by.replace('\t', " ");
            json!({
                "Comment": step.comment, "CreatedAt": created_at(&step.created),
                "CreatedBy": if args.form.no_trunc { by } else { cut(&by, STEP) },
                "CreatedSince": text::ago(&step.created, now, "N/A"), "ID": MISSING,
                "Size": text::size(step.bytes), "Bytes": step.bytes,
            })
        })
        .collect();
    if let Some(last) = rows.first_mut() {
        last["ID"] = json!(id);
    }
    if ids_only { tell_ids(&rows, "ID") } else { tell(&rows, &args.form, &COLUMNS) }
}

/// What one step did.
struct Step {
    created: String,
    by: String,
    comment: String,
    bytes: u64,
}

/// The steps, the first one first. An image without a history has its layers as steps.
fn steps(store: &Store, image: &Image, config: &Value) -> Vec<Step> {
    let mut layers = image.manifest.layers.iter().zip(&image.diff_ids).map(|(blob, diff_id)| {
        let tree = store.layer(Form::Identity, diff_id).ok().flatten();
        tree.map_or(blob.size, |tree| tree.meta().bytes)
    });
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_string();
    let told = config["history"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut steps: Vec<Step> = told
        .iter()
        .map(|entry| {
            let is_empty = entry["empty_layer"].as_bool().unwrap_or_default();
            let bytes = if is_empty { None } else { layers.next() };
            Step {
                created: text(entry, "created"),
                by: text(entry, "created_by"),
                comment: text(entry, "comment"),
                bytes: bytes.unwrap_or_default(),
            }
        })
        .collect();
    let untold = layers.map(|bytes| Step {
        created: text(config, "created"),
        by: String::new(),
        comment: String::new(),
        bytes,
    });
    steps.extend(untold);
    steps
}
