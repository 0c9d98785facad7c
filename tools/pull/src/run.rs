//! Resolve, keep the documents, claim the layers, print the line, fetch, name.

use std::sync::Arc;

use cli::{During, Failure, Stage};
use descriptor::{Descriptor, ImageLine, Line};
use registry::{Network, Origin, Place, Reference};
use store::{Event, Store, Subject};

use crate::args::Args;
use crate::blobs::Missing;
use crate::plan;

/// What all references of one call share.
struct Pull {
    store: Store,
    network: Network,
    args: Args,
}

pub(crate) fn run(args: Args, stage: &mut Stage) -> Result<u8, Failure> {
    sys::raise_open_files();
    let store = Store::open(args.common.store.as_deref()).during(|| "store".into())?;
    let network = args.registry.network().during(|| "--creds".into())?;
    let pull = Pull { store, network, args };
    let references = pull.args.references.iter().map(Ok);
    Ok(stage.for_each(references, |stage, place| pull.one(stage, place)))
}

impl Pull {
    fn one(&self, stage: &mut Stage, place: &Place) -> Result<(), Failure> {
        let origin: Arc<dyn Origin> = Arc::from(self.network.origin(place).during(|| place.to_string())?);
        let plan = plan::plan(&self.store, place, &*origin, self.args.platform.as_ref())?;
        let lease = self.store.lease();
        lease.touch(&plan.image.manifest_digest).during(|| "lease".to_owned())?;
        plan.keep(&self.store)?;
        let missing = Missing::claim(&self.store, &plan.image.manifest.layers)?;
        let image = plan.image.descriptor();
        let complete = missing.is_empty();
        if !self.args.wait && !complete {
            stage.emit(&self.line(place, &image, false))?;
        }
        missing.fetch(&origin, &stage.progress())?;
        if let Some(reference) = name_of(place) {
            self.store.tag(&reference.to_string(), &image).during(|| format!("naming {reference}"))?;
        }
        let named = name_of(place).map(|reference| reference.to_string()).unwrap_or_default();
        self.store.note(&Event::new(Subject::Image, "pull", image.digest.to_string(), named));
        if self.args.wait || complete {
            stage.emit(&self.line(place, &image, true))?;
        }
        Ok(())
    }

    fn line(&self, place: &Place, image: &Descriptor, complete: bool) -> Line {
        let pinned = match place {
            Place::Registry(reference) => Some(reference.pinned(&image.digest)),
            Place::Layout(_) => None,
        };
        Line::Image(ImageLine {
            descriptor: image.clone(),
            store: Some(self.store.path().to_owned()),
            reference: name_of(place).map(|reference| reference.to_string()),
            pinned,
            complete,
        })
    }
}

/// The name an image gets here. A layout's name is a reference only where it looks like one: `latest` alone names nothing.
fn name_of(place: &Place) -> Option<Reference> {
    match place {
        Place::Registry(reference) => Some(reference.clone()),
        Place::Layout(layout) => {
            layout.name.as_deref().filter(|name| name.contains(['/', ':'])).and_then(|name| name.parse().ok())
        }
    }
}
