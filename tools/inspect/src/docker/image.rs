//! An image.

use cli::{During, Failure};
use descriptor::Exit;
use descriptor::ImageLine;
use registry::Reference;
use serde_json::{Value, json};
use store::{DOCUMENT_LIMIT, Form, Image, Store};

use crate::docker::with_all_members;
use crate::text::{NEVER, familiar};

/// Docker's document of an image; of an index, of the host's or the wanted platform's image.
pub(crate) fn image(
    store: &Store,
    line: &ImageLine,
    platform: Option<&descriptor::Platform>,
) -> Result<Value, Failure> {
    let digest = &line.descriptor.digest;
    let what = || format!("image {digest}");
    let image = store.image(digest, platform).during(what)?;
    let config = config(store, &image)?;
    let text = |name: &str| config[name].as_str().unwrap_or_default();
    let (tags, digests) = names(store, line).during(what)?;
    let mut value = json!({
        "Id": image.config_digest, "RepoTags": tags, "RepoDigests": digests, "Parent": "",
        "Comment": last_comment(&config), "Created": config["created"].as_str().unwrap_or(NEVER),
        "DockerVersion": text("docker_version"), "Author": text("author"),
        "Config": with_all_members(&config["config"]), "Architecture": text("architecture"),
    });
    if let Some(variant) = &image.platform.variant {
        value["Variant"] = json!(variant);
    }
    value["Os"] = json!(text("os"));
    value["Size"] = json!(size_of(store, &image));
    value["GraphDriver"] = json!({"Data": directories(store, &image), "Name": "overlay2"});
    value["RootFS"] = json!({"Type": "layers", "Layers": image.diff_ids});
    value["Metadata"] = json!({"LastTagTime": NEVER});
    Ok(value)
}

/// The image's configuration, all members as they stand.
pub(crate) fn config(store: &Store, image: &Image) -> Result<Value, Failure> {
    let what = || format!("configuration {}", image.config_digest);
    let bytes = store.read_document(&image.config_digest, DOCUMENT_LIMIT).during(what)?;
    serde_json::from_slice(&bytes).map_err(|e| Failure::new(Exit::Content, what(), e))
}

/// Bytes of file content in all layers; of a layer that is not unpacked, its blob's.
pub(crate) fn size_of(store: &Store, image: &Image) -> u64 {
    let of = |(blob, diff_id): (&descriptor::Descriptor, &descriptor::Digest)| {
        let tree = store.layer(Form::Identity, diff_id).ok().flatten();
        tree.map_or(blob.size, |tree| tree.meta().bytes)
    };
    image.manifest.layers.iter().zip(&image.diff_ids).map(of).sum()
}

/// `name:tag` and `name@digest` of all references that lead to it.
fn names(store: &Store, line: &ImageLine) -> store::Result<(Vec<String>, Vec<String>)> {
    let digest = &line.descriptor.digest;
    let mut tags = Vec::new();
    let mut digests = Vec::new();
    let own = line.reference.iter().cloned();
    let all = store.references()?.into_iter().filter(|(_, image)| image.digest == *digest);
    for name in all.map(|(name, _)| name).chain(own) {
        let Ok(parsed) = name.parse::<Reference>() else { continue };
        if let Some(tag) = parsed.tag() {
            tags.push(format!("{}:{tag}", familiar(&parsed.name())));
        }
        digests.push(familiar(&parsed.pinned(digest)).to_string());
    }
    for names in [&mut tags, &mut digests] {
        names.sort();
        names.dedup();
    }
    Ok((tags, digests))
}

fn last_comment(config: &Value) -> &str {
    let last = config["history"].as_array().and_then(|all| all.last());
    last.and_then(|entry| entry["comment"].as_str()).unwrap_or_default()
}

/// Where the layers lie; null where one is not unpacked. Nothing is mounted of an image alone.
fn directories(store: &Store, image: &Image) -> Value {
    let tree = |diff_id| store.layer(Form::Identity, diff_id).ok().flatten();
    let trees: Option<Vec<_>> =
        image.diff_ids.iter().rev().map(|id| tree(id).map(|one| one.path())).collect();
    let Some(trees) = trees else { return Value::Null };
    let mut paths = trees.iter().map(|path| path.display().to_string());
    let Some(top) = paths.next() else { return Value::Null };
    let lower = paths.collect::<Vec<_>>().join(":");
    if lower.is_empty() { json!({"UpperDir": top}) } else { json!({"LowerDir": lower, "UpperDir": top}) }
}
