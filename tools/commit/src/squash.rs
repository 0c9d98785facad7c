//! `--squash-since IMAGE`: how many of the container's layers are another image's, and stay.

use cli::{During, Failure};
use descriptor::{Digest, Exit};
use store::{Lease, Store};

use crate::base::Base;

/// The image whose layers stay.
pub(crate) struct Since {
    /// Its manifest.
    pub(crate) digest: Digest,
    /// How many layers it has: the lowest of the container's.
    pub(crate) layers: usize,
}

impl Since {
    /// Finds the image, for the container's platform; its layers have to be the lowest of the container's image.
    pub(crate) fn find(store: &Store, lease: &Lease, text: &str, base: &Base) -> Result<Self, Failure> {
        let what = || format!("--squash-since {text:?}");
        let (found, _) = registry::stored_image(store, text).during(what)?;
        lease.touch(&found.digest).during(what)?;
        let image = store.image(&found.digest, Some(&base.image.platform)).during(what)?;
        if !base.image.diff_ids.starts_with(&image.diff_ids) {
            return Err(Failure::new(
                Exit::Conflict,
                what(),
                "its layers are not the lowest of the container's image",
            ));
        }
        Ok(Self { digest: image.manifest_digest, layers: image.diff_ids.len() })
    }
}
