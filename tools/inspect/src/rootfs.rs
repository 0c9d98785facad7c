//! The unpacked layers of an image.

use cli::{During, Failure};
use descriptor::{Exit, Line, RootfsLine};
use serde_json::json;
use store::{Form, Store};

use crate::answer::{Answers, Shape};
use crate::output::{self, Report};

/// Shows what a rootfs line speaks of, read again from this store.
pub(crate) fn show(
    store: &Store,
    stage: &cli::Stage,
    line: RootfsLine,
    answers: &mut Answers,
) -> Result<(), Failure> {
    let what = || format!("rootfs of image {}", line.image);
    let image = store.image(&line.image, line.platform.as_ref()).during(what)?;
    let (digest, size) = RootfsLine::identity(&image.diff_ids);
    if digest != line.digest {
        return Err(Failure::new(Exit::Content, what(), format!("wanted {}, got {digest}", line.digest)));
    }
    let ours = RootfsLine {
        digest,
        size,
        platform: Some(image.platform.clone()),
        annotations: line.annotations,
        store: store.path().into(),
        image: line.image,
        config: image.config_digest,
        chain_id: image.chain_id(),
        layers: image.diff_ids.len() as u64,
    };
    let mut trees = Vec::new();
    for diff_id in &image.diff_ids {
        let tree = store.layer(Form::Identity, diff_id).during(|| format!("layer {diff_id}"))?;
        let missing = || Failure::new(Exit::NotFound, format!("layer {diff_id}"), "it is not unpacked");
        trees.push(tree.ok_or_else(missing)?.path());
    }
    match answers.shape() {
        Shape::Docker => return Err(Failure::usage("a rootfs", "docker has no document for one")),
        Shape::Full => {
            let mut value = Line::Rootfs(ours).to_json();
            value["diffIDs"] = json!(image.diff_ids);
            value["trees"] = json!(trees);
            return answers.give(output::document("rootfs.v1", value));
        }
        Shape::Brief { to_a_person: false } => return stage.emit(&Line::Rootfs(ours)),
        Shape::Brief { to_a_person: true } => {}
    }
    let mut report = Report::default();
    report.row("rootfs", digest);
    report.row("image", ours.image);
    report.row("platform", &image.platform);
    report.row("chainID", ours.chain_id.map(|id| id.to_string()).unwrap_or_default());
    for tree in trees {
        report.row("layer", tree.display());
    }
    report.write()
}
