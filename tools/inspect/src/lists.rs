//! All images, all containers: a table on a terminal, lines in a pipe.

use cli::{During, Failure, Stage, human_bytes};
use descriptor::{ImageLine, Line};
use serde_json::Value;
use store::{Document, Store};

use crate::output::{self, short};
use crate::{container, find, survey};

/// Shows all images of index.json, those without a name first.
pub(crate) fn images(store: &Store, stage: &Stage) -> Result<(), Failure> {
    let all = store.roots().during(|| "images".into())?;
    let lines = all.into_iter().map(|(name, image)| find::line(store, image, name));
    if !output::to_a_person() {
        return lines.map(Line::Image).try_for_each(|line| stage.emit(&line));
    }
    let rows: Vec<_> = lines.map(|line| image_row(store, line)).collect();
    output::table(["REFERENCE", "DIGEST", "PLATFORM", "SIZE"], &rows)
}

fn image_row(store: &Store, line: ImageLine) -> [String; 4] {
    let digest = line.descriptor.digest;
    let (platform, size) = match store.document(&digest, Some(&line.descriptor.media_type)) {
        Ok((Document::Manifest(manifest), _)) => {
            let platform = store.image(&digest, None).map(|image| image.platform.to_string());
            let size: u64 = manifest.layers.iter().map(|layer| layer.size).sum();
            (platform.unwrap_or_else(|_| "?".into()), human_bytes(size))
        }
        Ok((Document::Index(index), _)) => {
            let present = survey::present(store, &index);
            let blobs = present.iter().flat_map(|(_, manifest)| &manifest.layers);
            (
                format!("{} of {}", present.len(), index.manifests.len()),
                human_bytes(blobs.map(|b| b.size).sum()),
            )
        }
        Err(_) => ("?".into(), "?".into()),
    };
    let size = if line.complete { size } else { format!("{size} (incomplete)") };
    [line.reference.unwrap_or_default(), short(&digest.hex()), platform, size]
}

/// Shows all containers.
pub(crate) fn containers(store: &Store, stage: &Stage) -> Result<(), Failure> {
    let all = store.containers().during(|| "containers".into())?;
    let mut rows = Vec::new();
    for one in &all {
        // Removed since the list was read: no failure.
        let Ok(line) = container::line(one) else { continue };
        if !output::to_a_person() {
            stage.emit(&Line::Container(line))?;
            continue;
        }
        let image =
            line.image.map(|image| survey::name_of(store, &image).unwrap_or_else(|| short(&image.hex())));
        let command =
            one.document("config.json").ok().flatten().map(|config| command(&config)).unwrap_or_default();
        rows.push([
            line.name.clone(),
            short(&line.id),
            container::status(&line),
            image.unwrap_or_default(),
            command,
        ]);
    }
    if output::to_a_person() {
        output::table(["NAME", "ID", "STATUS", "IMAGE", "COMMAND"], &rows)?;
    }
    Ok(())
}

/// The most characters of a command in the table.
const COMMAND: usize = 40;

fn command(config: &Value) -> String {
    let args = config["process"]["args"].as_array();
    let words: Vec<&str> = args.into_iter().flatten().filter_map(Value::as_str).collect();
    let text = words.join(" ");
    if text.chars().count() <= COMMAND {
        text
    } else {
        format!("{}...", text.chars().take(COMMAND - 3).collect::<String>())
    }
}
