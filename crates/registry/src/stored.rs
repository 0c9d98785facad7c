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

/// The image of a digest or of a reference, and the name it was found under.
///
/// # Errors
/// [`Error::NoImage`], [`Error::NoBlob`], and those of [`Store::document`] and [`Store::resolve`].
pub fn stored_image(store: &Store, text: &str) -> Result<(Descriptor, Option<String>)> {
    if let Ok(digest) = text.parse::<Digest>() {
        let (document, size) = store.document(&digest, None)?;
        return Ok((Descriptor::new(document.media_type(), digest, size), None));
    }
    let found = by_reference(store, text)?.ok_or_else(|| Error::NoImage(text.into()))?;
    Ok((found.0, Some(found.1)))
}
