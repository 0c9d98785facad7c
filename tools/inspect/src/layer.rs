//! One layer: the blob it came as and the tree it became.

use cli::{During, Failure, human_bytes};
use descriptor::{Descriptor, Digest, Exit, media};
use serde_json::{Value, json};
use store::{Form, LayerTree, Store};

use crate::answer::{Answers, Shape};
use crate::output::{self, Report};
use crate::survey;

/// A layer, found by the digest of its blob or by its diffID.
pub(crate) struct Layer {
    diff_id: Option<Digest>,
    blob: Option<Descriptor>,
    tree: Option<LayerTree>,
    images: Vec<Digest>,
}

impl Layer {
    /// The layer of a digest; none where the digest is of something else.
    pub(crate) fn find(store: &Store, digest: &Digest) -> Result<Option<Self>, Failure> {
        let mut layer = Self { diff_id: None, blob: None, tree: None, images: Vec::new() };
        for known in survey::images(store)? {
            let Ok(image) = store.image(&known.digest, None) else { continue };
            for (blob, diff_id) in known.manifest.layers.iter().zip(&image.diff_ids) {
                if blob.digest == *digest || diff_id == digest {
                    layer.diff_id = Some(*diff_id);
                    layer.blob = Some(blob.clone());
                    layer.images.push(known.digest);
                    break;
                }
            }
        }
        let diff_id = layer.diff_id.unwrap_or(*digest);
        layer.tree = store.layer(Form::Identity, &diff_id).during(|| format!("layer {diff_id}"))?;
        if layer.tree.is_some() {
            layer.diff_id = Some(diff_id);
        }
        Ok((layer.tree.is_some() || layer.blob.is_some()).then_some(layer))
    }

    /// An OCI descriptor of the layer with what is known beside it; of its tree alone, the tar is described.
    fn describe(&self, store: &Store) -> Value {
        let mut value = match &self.blob {
            Some(blob) => json!({"mediaType": blob.media_type, "digest": blob.digest, "size": blob.size}),
            None => json!({"mediaType": media::OCI_LAYER, "digest": self.diff_id}),
        };
        value["diffID"] = json!(self.diff_id);
        value["store"] = json!(store.path());
        if let Some(tree) = &self.tree {
            value["tree"] = json!(tree.path());
        }
        value
    }

    /// Shows it.
    pub(crate) fn show(&self, store: &Store, answers: &mut Answers) -> Result<(), Failure> {
        let mut value = self.describe(store);
        match answers.shape() {
            Shape::Brief { to_a_person: true } => self.report().write(),
            Shape::Brief { to_a_person: false } => output::json(&output::document("layer.v1", value)),
            Shape::Full => {
                value["images"] = json!(self.images);
                if let Some(tree) = &self.tree {
                    value["unpacked"] = serde_json::to_value(tree.meta())
                        .map_err(|e| Failure::new(Exit::Other, "layer.json", e))?;
                }
                answers.give(output::document("layer.v1", value))
            }
            Shape::Docker => Err(Failure::usage("a layer", "docker has no document for one")),
        }
    }

    fn report(&self) -> Report {
        let mut report = Report::default();
        report.row("layer", self.diff_id.map(|id| id.to_string()).unwrap_or_default());
        if let Some(blob) = &self.blob {
            report.row("blob", blob.digest);
            report.row("type", &blob.media_type);
            report.row("size", human_bytes(blob.size));
        }
        match &self.tree {
            Some(tree) => {
                let meta = tree.meta();
                report.row("tree", tree.path().display());
                report.row("holds", format!("{} entries, {}", meta.entries, human_bytes(meta.bytes)));
                for path in &meta.implied {
                    report.row("implied", String::from_utf8_lossy(path));
                }
            }
            None => report.row("tree", "not unpacked"),
        }
        for image in &self.images {
            report.row("in image", image);
        }
        report
    }
}
