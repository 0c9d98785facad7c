//! An image: its line, its configuration and layers.

use cli::{During, Failure, human_bytes};
use descriptor::{Exit, ImageLine, Line};
use serde_json::{Value, json};
use store::{DOCUMENT_LIMIT, Document, Form, Image, Store};

use crate::answer::{Answers, Shape};
use crate::args::One;
use crate::output::{self, Report};
use crate::{docker, find, survey};

/// Shows it.
pub(crate) fn show(
    store: &Store,
    stage: &cli::Stage,
    line: ImageLine,
    args: &One,
    answers: &mut Answers,
) -> Result<(), Failure> {
    let what = || name(&line);
    if args.raw {
        let bytes = store.read_document(&line.descriptor.digest, DOCUMENT_LIMIT).during(what)?;
        return cli::answer(&bytes);
    }
    let (document, _) =
        store.document(&line.descriptor.digest, Some(&line.descriptor.media_type)).during(what)?;
    match (&document, &args.platform) {
        (Document::Index(index), _) if args.manifests => {
            let present = survey::present(store, index);
            if present.is_empty() {
                return Err(Failure::new(Exit::NotFound, what(), "the store has none of the index's images"));
            }
            for (entry, _) in present {
                let mut one = find::line(store, entry, line.reference.clone());
                one.pinned = None;
                show_one(store, stage, one, args, answers)?;
            }
            Ok(())
        }
        (Document::Index(index), Some(wanted)) => {
            let entry = index.choose(wanted).during(what)?.clone();
            show_one(store, stage, find::line(store, entry, line.reference.clone()), args, answers)
        }
        _ => show_one(store, stage, line, args, answers),
    }
}

fn show_one(
    store: &Store,
    stage: &cli::Stage,
    line: ImageLine,
    args: &One,
    answers: &mut Answers,
) -> Result<(), Failure> {
    match answers.shape() {
        Shape::Brief { to_a_person: true } => report(store, &line)?.write(),
        Shape::Brief { to_a_person: false } => stage.emit(&Line::Image(line)),
        Shape::Full => answers.give(everything(store, line)?),
        Shape::Docker => answers.give(docker::image(store, &line, args.platform.as_ref())?),
    }
}

fn name(line: &ImageLine) -> String {
    format!("image {}", line.reference.clone().unwrap_or_else(|| line.descriptor.digest.to_string()))
}

fn everything(store: &Store, line: ImageLine) -> Result<Value, Failure> {
    let what = name(&line);
    let digest = line.descriptor.digest;
    let read = |digest| -> Result<Value, Failure> {
        let bytes = store.read_document(&digest, DOCUMENT_LIMIT).during(|| what.clone())?;
        serde_json::from_slice(&bytes).map_err(|e| Failure::new(Exit::Content, &*what, e))
    };
    let (document, _) = store.document(&digest, Some(&line.descriptor.media_type)).during(|| what.clone())?;
    let mut value = Line::Image(line).to_json();
    match document {
        Document::Manifest(manifest) => {
            value["manifest"] = read(digest)?;
            value["config"] = read(manifest.config.digest)?;
            let image = store.image(&digest, None).during(|| what.clone())?;
            value["chainID"] = json!(image.chain_id());
            value["layers"] = layers(store, &image);
        }
        Document::Index(index) => {
            value["index"] = read(digest)?;
            let present = survey::present(store, &index);
            value["present"] = present.iter().map(|(entry, _)| entry.digest.to_string()).collect();
        }
    }
    Ok(output::document("image.v1", value))
}

fn layers(store: &Store, image: &Image) -> Value {
    let of = |(blob, diff_id): (&descriptor::Descriptor, &descriptor::Digest)| {
        let present = store.has_blob(&blob.digest).is_ok_and(|size| size == Some(blob.size));
        let tree = store.layer(Form::Identity, diff_id).ok().flatten();
        json!({
            "mediaType": blob.media_type, "digest": blob.digest, "size": blob.size, "diffID": diff_id,
            "present": present, "tree": tree.map(|tree| tree.path()),
        })
    };
    image.manifest.layers.iter().zip(&image.diff_ids).map(of).collect()
}

fn report(store: &Store, line: &ImageLine) -> Result<Report, Failure> {
    let what = || name(line);
    let digest = &line.descriptor.digest;
    let mut report = Report::default();
    report.row("image", line.reference.clone().unwrap_or_default());
    report.row("digest", digest);
    report.row("type", &line.descriptor.media_type);
    match store.document(digest, Some(&line.descriptor.media_type)).during(what)?.0 {
        Document::Index(index) => {
            let present = survey::present(store, &index);
            for entry in &index.manifests {
                let platform = entry.platform.as_ref().map(ToString::to_string).unwrap_or_default();
                let there = if present.iter().any(|(one, _)| one.digest == entry.digest) {
                    ""
                } else {
                    " (not here)"
                };
                report.row("holds", format!("{} {platform}{there}", entry.digest));
            }
        }
        Document::Manifest(_) => of_image(store, &store.image(digest, None).during(what)?, &mut report),
    }
    if !line.complete {
        report.row("complete", "no: some of its blobs are not here");
    }
    Ok(report)
}

fn of_image(store: &Store, image: &Image, report: &mut Report) {
    report.row("platform", &image.platform);
    report.row("created", image.config.created().clone().unwrap_or_default());
    report.row("author", image.config.author().clone().unwrap_or_default());
    if let Some(config) = image.config.config() {
        let words = |words: &Option<Vec<String>>| words.as_ref().map(|all| all.join(" ")).unwrap_or_default();
        report.row("entrypoint", words(config.entrypoint()));
        report.row("command", words(config.cmd()));
        for entry in config.env().iter().flatten() {
            report.row("env", entry);
        }
        report.row("workdir", config.working_dir().clone().unwrap_or_default());
        report.row("user", config.user().clone().unwrap_or_default());
        report.row("ports", config.exposed_ports().clone().unwrap_or_default().join(" "));
        report.row("volumes", config.volumes().clone().unwrap_or_default().join(" "));
        for (key, value) in config.labels().iter().flatten() {
            report.row("label", format!("{key}={value}"));
        }
    }
    report.row("config", image.config_digest);
    let total: u64 = image.manifest.layers.iter().map(|layer| layer.size).sum();
    let count = match image.diff_ids.len() {
        1 => "one layer".into(),
        count => format!("{count} layers"),
    };
    report.row("size", format!("{} in {count}", human_bytes(total)));
    for (blob, diff_id) in image.manifest.layers.iter().zip(&image.diff_ids) {
        let unpacked = match store.layer(Form::Identity, diff_id) {
            Ok(Some(_)) => "unpacked",
            _ => "not unpacked",
        };
        report.row("layer", format!("{diff_id} {}, {unpacked}", human_bytes(blob.size)));
    }
}
