//! Names without an image, blobs and unpacked layers that no root of the store needs.

use cli::{During, Failure, human_bytes};
use descriptor::{Classify, Exit};
use store::Prune;

use crate::args::Args;
use crate::run::Broom;

/// Takes names away whose image the store does not have.
pub(crate) fn names(broom: &mut Broom<'_>) -> Result<(), Failure> {
    let what = || "names of images".to_string();
    for (name, image) in broom.store.references().during(what)? {
        if broom.store.has_blob(&image.digest).during(what)?.is_some() {
            continue;
        }
        // Pulled again since it was looked at.
        if !broom.dry_run && !broom.store.untag_lost(&name).during(what)? {
            continue;
        }
        broom.tell("ref", &cli::escaped(&name), 0)?;
    }
    Ok(())
}

/// Removes blobs and layers.
pub(crate) fn sweep(broom: &mut Broom<'_>, args: &Args) -> Result<(), Failure> {
    let what =
        Prune { blobs: args.blobs, layers: args.layers, keep_since: args.keep_since, dry_run: broom.dry_run };
    let swept = broom.store.prune(&what).map_err(|e| {
        let failure = Failure::new(e.exit(), "what is needed is not known, nothing is removed", &e);
        match e.exit() {
            Exit::Content => failure.with_hint("oci-inspect --repair"),
            _ => failure,
        }
    })?;
    for one in swept {
        let size = if broom.dry_run { format!(" ({})", human_bytes(one.bytes)) } else { String::new() };
        broom.tell(one.kind, &format!("{}{size}", one.digest), one.bytes)?;
    }
    Ok(())
}
