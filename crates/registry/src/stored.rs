//! An image of the store by what somebody typed.

use descriptor::{Descriptor, Digest};
use store::{Error, Result, Store};

use crate::Reference;

/// The image of a reference and the name it was found under: as written first, as layouts of other tools have names of
/// their own, then in full.
///
/// A digest is no name, even where a layout calls an image so. A digest after a name says all: that name need not be known
/// here.
///
/// # Errors
/// Those of [`Store::resolve`] and [`Store::document`].
pub fn by_reference(store: &Store, text: &str) -> Result<Option<(Descriptor, String)>> {
    if text.parse::<Digest>().is_ok() {
        return Ok(None);
    }
    let reference = text.parse::<Reference>().ok();
    let full = reference.as_ref().map(ToString::to_string);
    for name in std::iter::once(text).chain(full.as_deref()) {
        if let Some(image) = store.resolve(name)? {
            return Ok(Some((image, name.into())));
        }
    }
    let Some(digest) = reference.and_then(|reference| reference.digest().copied()) else { return Ok(None) };
    if store.has_blob(&digest)?.is_none() {
        return Ok(None);
    }
    let (document, size) = store.document(&digest, None)?;
    Ok(full.map(|name| (Descriptor::new(document.media_type(), digest, size), name)))
}

/// The image of a digest, of a reference or of an id ([`by_id`]), and the name it was found under.
///
/// # Errors
/// [`Error::NoImage`], [`Error::NoBlob`], and those of [`Store::document`] and [`Store::resolve`].
pub fn stored_image(store: &Store, text: &str) -> Result<(Descriptor, Option<String>)> {
    if let Ok(digest) = text.parse::<Digest>() {
        let (document, size) = store.document(&digest, None)?;
        return Ok((Descriptor::new(document.media_type(), digest, size), None));
    }
    if let Some((image, name)) = by_reference(store, text)? {
        return Ok((image, Some(name)));
    }
    match by_id(store, text)? {
        Some(image) => Ok((image, None)),
        None => Err(Error::NoImage(text.into())),
    }
}

/// The fewest digits that stand for an image.
const SHORTEST_ID: usize = 4;

/// The image that index.json leads to and that has this id, the digest of its configuration as docker shows it, or this
/// digest; of both the first digits are enough where only one image has them, with or without `sha256:`.
///
/// # Errors
/// [`store::Error::Ambiguous`], and those of [`Store::roots`].
pub fn by_id(store: &Store, text: &str) -> Result<Option<Descriptor>> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let is_hex = digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if digits.len() < SHORTEST_ID || !is_hex {
        return Ok(None);
    }
    let mut found: Vec<Descriptor> = Vec::new();
    for (_, image) in store.roots()? {
        if found.iter().any(|other| other.digest == image.digest) {
            continue;
        }
        // An image that cannot be read has no id; its own digest is known.
        let id = store.image(&image.digest, None).ok().map(|image| image.config_digest);
        if std::iter::once(image.digest).chain(id).any(|digest| digest.hex().starts_with(digits)) {
            found.push(image);
        }
    }
    match found.len() {
        0 | 1 => Ok(found.pop()),
        count => Err(store::Error::Ambiguous { prefix: text.into(), count }),
    }
}
