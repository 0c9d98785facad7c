//! An image of the store by what somebody typed.

use descriptor::{Descriptor, Digest};
use store::{Error, Result, Store};

use crate::Reference;

/// The image of a reference and the name it was found under: as written first, as layouts of other tools have names of
/// their own, then in full.
///
/// A digest is no name, even where a layout calls an image so.
///
/// # Errors
/// Those of [`Store::resolve`].
pub fn by_reference(store: &Store, text: &str) -> Result<Option<(Descriptor, String)>> {
    if text.parse::<Digest>().is_ok() {
        return Ok(None);
    }
    let full = text.parse::<Reference>().ok().map(|reference| reference.to_string());
    for name in std::iter::once(text.to_string()).chain(full) {
        if let Some(image) = store.resolve(&name)? {
            return Ok(Some((image, name)));
        }
    }
    Ok(None)
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
