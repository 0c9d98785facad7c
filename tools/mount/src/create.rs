//! From a rootfs line to a container: what the image is, what was chosen, the name.

use std::collections::BTreeMap;

use cli::{During, Failure, Stage};
use descriptor::{Exit, RootfsLine, media};
use store::{Container, CreateDoc, Error, Form, Image, LayerTree, Lease, State, Store};

use crate::args::Choices;
use crate::idfile::IdFile;
use crate::{bundle, names};

/// The scope that a container is made under, set by `oci-scope`: what is made under it is removed with it.
const SCOPE_VARIABLE: &str = "OCIPIPE_SCOPE";
/// The label that says so.
const SCOPE_LABEL: &str = "org.ocipipe.scope";

/// What all containers of a call share.
pub(crate) struct Maker<'a> {
    pub(crate) store: &'a Store,
    pub(crate) lease: Lease,
    pub(crate) choices: &'a Choices,
    pub(crate) command: &'a [String],
    /// Kill what holds the name.
    pub(crate) force: bool,
    /// Where the id is written.
    pub(crate) id_file: std::cell::Cell<Option<IdFile>>,
}

/// An image whose layers are all unpacked.
pub(crate) struct Unpacked {
    pub(crate) image: Image,
    /// Fixes and layers, top first.
    pub(crate) trees: Vec<LayerTree>,
}

impl Maker<'_> {
    /// Makes the container of the `n`th line, mounts its root and passes its line on.
    pub(crate) fn line(&self, stage: &Stage, line: &RootfsLine, n: usize) -> Result<(), Failure> {
        self.store.owns(Some(&line.store)).during(|| "rootfs line".into())?;
        let unpacked = self.find(line)?;
        let mut doc = self.document(&unpacked)?;
        let image_name = called(line);
        let container = match &self.choices.name {
            Some(name) => {
                doc.name = names::fill(name, n, line.platform.as_ref());
                self.make(&doc, &unpacked, image_name)?
            }
            None => self.make_unnamed(&mut doc, &unpacked, image_name)?,
        };
        if let Some(file) = self.id_file.take() {
            file.write(container.id())?;
        }
        self.pass_on(stage, &container)
    }

    /// Reads the image again from the store, and finds its layers there.
    fn find(&self, line: &RootfsLine) -> Result<Unpacked, Failure> {
        let what = || format!("image {}", line.image);
        self.lease.touch(&line.image).during(what)?;
        let image = self.store.image(&line.image, line.platform.as_ref()).during(what)?;
        if RootfsLine::identity(&image.diff_ids).0 != line.digest {
            let why = format!("its layers are not those of {}", line.digest);
            return Err(Failure::new(Exit::Content, what(), why));
        }
        let mut trees = Vec::new();
        if let Some(chain_id) = image.chain_id() {
            trees.extend(self.store.fixes(&chain_id).during(what)?);
        }
        for diff_id in image.diff_ids.iter().rev() {
            let tree = self.store.layer(Form::Identity, diff_id).during(what)?;
            trees.push(tree.ok_or_else(|| {
                Failure::new(Exit::NotFound, what(), format!("layer {diff_id} is not unpacked"))
                    .with_hint(format!("oci-inspect {} | oci-unpack", line.image))
            })?);
        }
        Ok(Unpacked { image, trees })
    }

    /// The user's choices, without a name yet.
    fn document(&self, unpacked: &Unpacked) -> Result<CreateDoc, Failure> {
        let declared = runtime::convert::volumes(&unpacked.image.config);
        let mut doc = self.choices.record(self.store, self.command, &declared)?;
        doc.image = Some(unpacked.image.manifest_digest);
        doc.diff_ids.clone_from(&unpacked.image.diff_ids);
        doc.labels = labels(doc.labels, std::env::var(SCOPE_VARIABLE).ok());
        crate::config::mounts::pin(self.store, &mut doc.mounts)?;
        let images = doc.mounts.iter().filter(|mount| mount.kind == "image");
        for digest in images.filter_map(|mount| mount.source.as_ref()?.parse().ok()) {
            self.lease.touch(&digest).during(|| format!("image {digest}"))?;
        }
        Ok(doc)
    }

    fn make_unnamed(
        &self,
        doc: &mut CreateDoc,
        unpacked: &Unpacked,
        image_name: Option<&str>,
    ) -> Result<Container, Failure> {
        let mut attempt = 0;
        loop {
            doc.name = names::draw(attempt)?;
            attempt += 1;
            if self.store.container(&doc.name).is_ok() {
                continue;
            }
            match self.make(doc, unpacked, image_name) {
                // Somebody drew the same words since.
                Err(failure) if failure.exit() == Exit::Conflict.code() && attempt < names::DRAWS * 2 => {}
                made => return made,
            }
        }
    }

    fn make(
        &self,
        doc: &CreateDoc,
        unpacked: &Unpacked,
        image_name: Option<&str>,
    ) -> Result<Container, Failure> {
        let what = || format!("container {:?}", doc.name);
        let draft = if self.choices.replace {
            self.store.draft_successor(doc).during(what)?
        } else {
            self.store.draft_container(doc).during(what)?
        };
        let id = draft.id().to_string();
        let made =
            bundle::fill(self.store, &draft, doc, unpacked, self.choices.cdi_dirs()).and_then(|volumes| {
                if self.choices.replace {
                    self.replace(&doc.name)?;
                }
                let console = &self.choices.process;
                let begin = |state: &mut State| {
                    (state.tty, state.open_stdin) = (console.tty, console.interactive);
                    state.image_name = image_name.map(str::to_string);
                };
                draft.begin_with(begin).during(what)?;
                let container = draft.publish().during(what)?;
                drop(volumes);
                Ok(container)
            });
        if made.is_err() && doc.mounts.iter().any(|mount| mount.kind == "volume" && mount.source.is_none()) {
            // The first failure is the one to tell; those of a container that exists are in use and stay.
            let _ = self.store.remove_volumes_of(&id);
        }
        made
    }

    /// Removes the container that has the name; its successor is ready by then, so that a wrong choice costs nothing.
    fn replace(&self, name: &str) -> Result<(), Failure> {
        let what = || format!("replacing container {name:?}");
        match self.store.container(name) {
            // A prefix of an id is not its name.
            Ok(container) if container.name() == name => {
                overlay::remove(container, crate::remove::running(self.force)).during(what)
            }
            Ok(_) | Err(Error::NoContainer(_) | Error::Ambiguous { .. } | Error::BadName { .. }) => Ok(()),
            Err(e) => Err(e).during(what),
        }
    }

    /// Mounts the container's root and writes its line; a failure leaves no container.
    fn pass_on(&self, stage: &Stage, container: &Container) -> Result<(), Failure> {
        let what = || format!("container {:?}", container.name());
        let mounted = overlay::attach(container).during(what);
        let line = mounted.and_then(|_| container.line().during(what));
        let line = match line {
            Ok(line) => line,
            Err(failure) => {
                // The first failure is the one to tell.
                let _ = overlay::remove(container.clone(), overlay::Running::Refuse);
                return Err(failure);
            }
        };
        let one_off = overlay::OneOff::of(container).during(what)?;
        one_off.pass(stage.emit(&descriptor::Line::Container(line)), stage)
    }
}

/// What the stage before calls the image; shown where the image has that name.
fn called(line: &RootfsLine) -> Option<&str> {
    line.annotations.get(media::REF_NAME).map(String::as_str)
}

/// The labels that were chosen, and the scope's, which is not for the user to choose.
fn labels(mut chosen: BTreeMap<String, String>, scope: Option<String>) -> BTreeMap<String, String> {
    let scope = scope.filter(|scope| !scope.is_empty());
    chosen.extend(scope.map(|scope| (SCOPE_LABEL.to_string(), scope)));
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_carries_its_scope_and_no_empty_one() {
        let chosen = [("a".to_string(), "b".to_string()), (SCOPE_LABEL.to_string(), "mine".to_string())];
        for (scope, want) in [(None, "mine"), (Some(String::new()), "mine"), (Some("x".to_string()), "x")] {
            let labels = labels(chosen.clone().into(), scope);
            assert_eq!((labels["a"].as_str(), labels[SCOPE_LABEL].as_str()), ("b", want));
        }
    }
}
