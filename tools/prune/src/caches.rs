//! Caches of builds that no run has.

use cli::{During, Failure, Stage, escaped, human_bytes};
use store::Cache;

use crate::run::Broom;

/// Removes them; returns the exit status.
pub(crate) fn all(broom: &mut Broom<'_>, stage: &mut Stage) -> Result<u8, Failure> {
    let all = broom.store.caches().during(|| "caches".into())?;
    Ok(stage.for_each(all.into_iter().map(Ok), |_, cache| one(broom, &cache)))
}

fn one(broom: &mut Broom<'_>, cache: &Cache) -> Result<(), Failure> {
    let id = escaped(cache.id());
    let what = || format!("removing cache {id:?}");
    if !broom.filters.cache(cache) || cache.is_in_use().during(what)? {
        return Ok(());
    }
    let bytes = cache.allocated().during(what)?;
    if broom.dry_run {
        return broom.tell("cache", &format!("{id} ({})", human_bytes(bytes)), bytes);
    }
    // Taken into use since it was looked at.
    if !broom.store.remove_cache(cache).during(what)? {
        return Ok(());
    }
    broom.tell("cache", &id, bytes)
}
