//! From what somebody typed to what is meant.

use std::collections::BTreeSet;

use cli::{During, Failure};
use descriptor::{Descriptor, Digest, Exit, ImageLine};
use registry::Reference;
use store::{Container, Document, Error, Form, Store, Volume};

use crate::args::Kind;
use crate::layer::Layer;
use crate::survey;

/// The fewest digits that stand for a digest or an id.
const SHORTEST: usize = 4;

/// What is shown.
pub(crate) enum Thing {
    Image(ImageLine),
    Layer(Layer),
    Container(Container),
    Volume(Volume),
}

/// Finds a thing: a container's name, a reference as written and then in full, a digest, an id, the beginning of one.
pub(crate) fn find(store: &Store, text: &str) -> Result<Thing, Failure> {
    let what = || format!("{:?}", text.chars().take(300).collect::<String>());
    let by_name = store.names().during(what)?.into_iter().any(|(name, _)| name == text);
    if by_name && let Ok(container) = store.container(text) {
        return Ok(Thing::Container(container));
    }
    if let Some((image, name)) = registry::by_reference(store, text).during(what)? {
        return Ok(Thing::Image(line(store, image, Some(name))));
    }
    if store::volumes::check_name(text).is_ok()
        && let Ok(volume) = store.volume(text)
    {
        return Ok(Thing::Volume(volume));
    }
    if let Some(digest) = by_digits(store, text)? {
        return by_digest(store, &digest);
    }
    Err(Failure::new(
        Exit::NotFound,
        what(),
        "no image, layer, container or volume of this name, digest or id",
    )
    .with_hint("oci-inspect images and oci-inspect containers -a list what there is"))
}

/// As [`find`], of one kind alone.
pub(crate) fn find_kind(store: &Store, text: &str, kind: Option<Kind>) -> Result<Thing, Failure> {
    let what = || format!("{:?}", text.chars().take(300).collect::<String>());
    match kind {
        None => find(store, text),
        Some(Kind::Container) => store.container(text).during(what).map(Thing::Container),
        Some(Kind::Volume) => store.volume(text).during(what).map(Thing::Volume),
        Some(Kind::Image) => {
            let (image, name) = registry::stored_image(store, text).during(what)?;
            Ok(Thing::Image(line(store, image, name)))
        }
    }
}

/// The line of an image that the store has.
pub(crate) fn line(store: &Store, mut descriptor: Descriptor, reference: Option<String>) -> ImageLine {
    let reference = reference.or_else(|| survey::name_of(store, &descriptor.digest));
    let parsed = reference.as_ref().and_then(|name| name.parse::<Reference>().ok());
    let pinned = parsed.map(|name| name.pinned(&descriptor.digest));
    let complete = match store.document(&descriptor.digest, Some(&descriptor.media_type)) {
        Ok((Document::Manifest(manifest), _)) => {
            if descriptor.platform.is_none() {
                descriptor.platform = store.image(&descriptor.digest, None).ok().map(|image| image.platform);
            }
            survey::is_complete(store, &manifest)
        }
        Ok((Document::Index(index), _)) => {
            let present = survey::present(store, &index);
            !present.is_empty() && present.iter().all(|(_, manifest)| survey::is_complete(store, manifest))
        }
        Err(_) => false,
    };
    ImageLine { descriptor, store: Some(store.path().into()), reference, pinned, complete }
}

/// The digest whose digits these are, all of them or the first ones, with or without `sha256:`.
fn by_digits(store: &Store, text: &str) -> Result<Option<Digest>, Failure> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let is_hex = digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if digits.len() < SHORTEST || !is_hex {
        return Ok(None);
    }
    let what = || "the store".to_string();
    let mut known: BTreeSet<Digest> = store.blobs().during(what)?.into_iter().collect();
    known.extend(store.layers(Form::Identity).during(what)?);
    known.extend(store.names().during(what)?.iter().filter_map(|(_, id)| Digest::from_hex(id).ok()));
    known.extend(diff_ids(store)?);
    known.retain(|digest| digest.hex().starts_with(digits));
    match known.len() {
        0 => Ok(None),
        1 => Ok(known.pop_first()),
        count => Err(Error::Ambiguous { prefix: text.into(), count }).during(|| format!("{text:?}")),
    }
}

/// The diffIDs of all images, also of those that are not unpacked.
fn diff_ids(store: &Store) -> Result<Vec<Digest>, Failure> {
    let images = survey::images(store)?;
    let read = images.iter().filter_map(|known| store.image(&known.digest, None).ok());
    Ok(read.flat_map(|image| image.diff_ids).collect())
}

fn by_digest(store: &Store, digest: &Digest) -> Result<Thing, Failure> {
    let what = || digest.to_string();
    if let Ok(container) = store.container(&digest.hex()) {
        return Ok(Thing::Container(container));
    }
    if let Some(layer) = Layer::find(store, digest)? {
        return Ok(Thing::Layer(layer));
    }
    // A configuration stands for its image.
    let of_config = survey::images(store)?.into_iter().find(|known| known.manifest.config.digest == *digest);
    let digest = of_config.map_or(*digest, |known| known.digest);
    let (document, size) = store.document(&digest, None).during(what)?;
    let descriptor = Descriptor::new(document.media_type(), digest, size);
    Ok(Thing::Image(line(store, descriptor, None)))
}
