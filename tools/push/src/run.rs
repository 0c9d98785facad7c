//! Read the documents, upload the blobs, then the manifests from the leaves to the top; print where it is now.

use std::sync::Arc;

use cli::{During, Failure, Stage};
use descriptor::{Descriptor, Exit, ImageLine, Line};
use registry::{Network, Place, Reference, Target};
use store::{Event, Store, Subject};

use crate::args::Args;
use crate::image::Tree;
use crate::{tag, uploads};

/// What all images of one call share.
struct Push {
    store: Store,
    network: Network,
    args: Args,
    /// Names in the store, in place of a destination.
    names: Vec<Reference>,
}

pub(crate) fn run(args: Args, stage: &mut Stage) -> Result<u8, Failure> {
    let store = Store::open(args.common.store.as_deref()).during(|| "store".into())?;
    let network = args.registry.network().during(|| "--creds".into())?;
    let names = tag::references(&args.tags)?;
    let push = Push { store, network, args, names };
    match &push.args.image {
        Some(name) => {
            let found = registry::stored_image(&push.store, name);
            let (image, reference) = found.during(|| format!("image {name}"))?;
            push.one(stage, &image, reference.as_deref())?;
            Ok(0)
        }
        None => push.lines(stage),
    }
}

impl Push {
    /// Pushes the image of each line as it comes: the stage before may still be at work on its layers.
    fn lines(&self, stage: &mut Stage) -> Result<u8, Failure> {
        let lines = stage.lines()?;
        let lines = lines.map(|line| line.map_err(or_image));
        let mut seen = 0;
        Ok(stage.for_each(lines, |stage, line| {
            seen += 1;
            if seen > 1 && (self.args.destination.is_some() || !self.names.is_empty()) {
                return Err(Failure::usage("a second line on stdin", "DEST and --tag take a single image"));
            }
            self.line(stage, line)
        }))
    }

    fn line(&self, stage: &mut Stage, line: Line) -> Result<(), Failure> {
        let line = cli::image_line(line)?;
        self.store.owns(line.store.as_deref()).during(|| "image line".into())?;
        self.one(stage, &line.descriptor, line.reference.as_deref())
    }

    fn one(&self, stage: &mut Stage, image: &Descriptor, reference: Option<&str>) -> Result<(), Failure> {
        if !self.names.is_empty() {
            return tag::name(&self.store, stage, image, &self.names);
        }
        let place = self.destination(reference)?;
        if let Place::Registry(named) = &place
            && named.digest().is_some_and(|digest| *digest != image.digest)
        {
            let why = format!("it names another image than {}", image.digest);
            return Err(Failure::usage(format!("destination {named}"), why)
                .with_hint("name a tag: oci-push NAME:TAG"));
        }
        let what = || format!("pushing {} to {place}", image.digest);
        let lease = self.store.lease();
        lease.touch(&image.digest).during(what)?;
        let tree = Tree::read(&self.store, image).during(what)?;
        if tree.absent > 0 {
            stage.warn(&format!(
                "{} images of the index are not in the store and are not pushed",
                tree.absent
            ));
        }
        let target: Arc<dyn Target> = Arc::from(self.network.target(&place).during(what)?);
        uploads::upload(&self.store, &target, &stage.progress(), tree.blobs)?;
        let Some((top, children)) = tree.manifests.split_last() else {
            return Err(Failure::new(Exit::Content, what(), "it has no manifest"));
        };
        for child in children {
            target.put_child(child).during(|| format!("manifest {}", child.digest))?;
        }
        target.put_top(top, image).during(what)?;
        if let Place::Registry(reference) = &place {
            let event = Event::new(Subject::Image, "push", image.digest.to_string(), reference.to_string());
            self.store.note(&event);
        }
        stage.emit(&line(&place, image))
    }

    fn destination(&self, reference: Option<&str>) -> Result<Place, Failure> {
        if let Some(place) = &self.args.destination {
            return Ok(place.clone());
        }
        let why = "the image has no reference to push to";
        let reference = reference
            .ok_or_else(|| Failure::usage("destination", why).with_hint("name one: oci-push DEST"))?;
        Ok(Place::Registry(reference.parse().during(|| "the image's reference".into())?))
    }
}

/// No line came: perhaps an image of the store was meant.
fn or_image(failure: Failure) -> Failure {
    match failure.exit() == Exit::Upstream.code() {
        true => failure.with_hint("--image REF names an image of the store"),
        false => failure,
    }
}

/// The image at its destination: no store, for it is not in one.
fn line(place: &Place, image: &Descriptor) -> Line {
    let reference = match place {
        Place::Registry(reference) => Some(reference),
        Place::Layout(_) => None,
    };
    Line::Image(ImageLine {
        descriptor: image.clone(),
        store: None,
        reference: reference.map(ToString::to_string),
        pinned: reference.map(|reference| reference.pinned(&image.digest)),
        complete: true,
    })
}
