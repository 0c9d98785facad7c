//! Containers that have stopped.

use cli::{During, Failure, Stage};
use descriptor::Status;
use overlay::Running;
use store::{Container, ContainerFilter, Error};

use crate::run::Broom;

/// Removes them; returns the exit status.
pub(crate) fn all(broom: &mut Broom<'_>, stage: &mut Stage) -> Result<u8, Failure> {
    let what = || "containers".to_string();
    let filter = ContainerFilter::new(broom.store, broom.filters.clone(), |_| None).during(what)?;
    let all = broom.store.containers().during(what)?;
    Ok(stage.for_each(all.into_iter().map(Ok), |_, container| one(broom, container, &filter)))
}

fn one(broom: &mut Broom<'_>, container: Container, filter: &ContainerFilter) -> Result<(), Failure> {
    let name = container.name().to_string();
    let what = || format!("removing container {name:?}");
    let goes = match container.settle().map(|state| state.now()) {
        Ok(Status::Stopped) => filter.fits(&container),
        Ok(Status::Created) => filter.fits(&container).map(|fits| fits && broom.all),
        Ok(Status::Running | Status::Paused) => Ok(false),
        Err(e) => Err(e),
    };
    match goes {
        Ok(true) => {}
        // Somebody else removed it, or makes it again.
        Ok(false) | Err(Error::NoContainer(_) | Error::OtherInstance { .. }) => return Ok(()),
        Err(e) => return Err(e).during(what),
    }
    let bytes = container.allocated().during(what)?;
    if !broom.dry_run {
        match overlay::remove(container, Running::Refuse) {
            Ok(()) => {}
            // Removed or started since it was looked at.
            Err(overlay::Error::Store(Error::NoContainer(_)) | overlay::Error::Running { .. }) => {
                return Ok(());
            }
            Err(e) => return Err(e).during(what),
        }
    }
    broom.tell("container", &name, bytes)
}
