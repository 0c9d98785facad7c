//! Volumes that nothing uses.

use cli::{During, Failure, Stage};
use store::{Error, Volume};

use crate::run::Broom;

/// Removes them, or those named; returns the exit status.
pub(crate) fn all(broom: &mut Broom<'_>, stage: &mut Stage, names: &[String]) -> Result<u8, Failure> {
    if names.is_empty() {
        let all = broom.store.volumes().during(|| "volumes".into())?;
        return Ok(stage.for_each(all.into_iter().map(Ok), |_, volume| unused(broom, &volume)));
    }
    Ok(stage.for_each(names.iter().map(Ok), |_, name: &String| named(broom, name)))
}

fn named(broom: &mut Broom<'_>, name: &str) -> Result<(), Failure> {
    let what = || format!("removing volume {name:?}");
    let volume = broom.store.volume(name).during(what)?;
    let users = volume.users().during(what)?;
    if !users.is_empty() {
        return Err(Error::VolumeInUse { name: name.into(), by: users }).during(what);
    }
    let bytes = volume.allocated().during(what)?;
    if !broom.dry_run {
        broom.store.remove_volume(name).during(what)?;
    }
    broom.tell("volume", name, bytes)
}

fn unused(broom: &mut Broom<'_>, volume: &Volume) -> Result<(), Failure> {
    let name = volume.name();
    let what = || format!("removing volume {name:?}");
    if !(broom.all || volume.is_anonymous())
        || !broom.filters.volume(volume).during(what)?
        || !volume.users().during(what)?.is_empty()
    {
        return Ok(());
    }
    let bytes = volume.allocated().during(what)?;
    if !broom.dry_run {
        match broom.store.remove_volume(name) {
            Ok(()) => {}
            // Removed, or taken into use, since it was looked at.
            Err(Error::NoVolume(_) | Error::VolumeInUse { .. }) => return Ok(()),
            Err(e) => return Err(e).during(what),
        }
    }
    broom.tell("volume", name, bytes)
}
