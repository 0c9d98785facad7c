//! Open, pack, describe, publish, report.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use cli::{During, Failure, Stage, human_bytes};
use descriptor::{Exit, ImageLine, Line, Platform, moment};
use layer::{PackOptions, Warning};
use serde_json::json;
use store::{Container, CreateDoc, Lease, Store};
use sys::Root;

use crate::args::Args;
use crate::base::{Base, Trees};
use crate::change::{self, Change};
use crate::config::{Config, Event};
use crate::image::{NewImage, NewLayer};
use crate::pause::Held;
use crate::squash::Since;
use crate::tags;

/// The tool.
pub(crate) fn run(args: Args, stage: &mut Stage) -> Result<u8, Failure> {
    let store = Store::open(args.common.store.as_deref()).during(|| "store".into())?;
    sys::raise_open_files();
    let commit = Commit { args: &args, lease: store.lease(), store: &store };
    if let Some(dir) = &args.rootfs {
        let line = commit.directory(stage, dir)?;
        stage.emit(&Line::Image(line))?;
        return Ok(0);
    }
    if let Some(name) = &args.container {
        let container = store.container(name).during(|| format!("container {name:?}"))?;
        return commit.finish(stage, &container, 1).map(|()| 0);
    }
    if tags::name_one_image(&args.tags) {
        let why = "--tag names one image; for several the name contains {n}, {name} or {platform}";
        let line = stage.single_or_end(why, |line| overlay::OneOff::abandon(&store, &line, stage))?;
        return commit.line(stage, line, 1).map(|()| 0);
    }
    let mut n = 0;
    let lines = stage.lines()?;
    Ok(stage.for_each(lines, |stage, line| {
        n += 1;
        commit.line(stage, line, n)
    }))
}

/// What all images of this call share.
struct Commit<'a> {
    args: &'a Args,
    store: &'a Store,
    lease: Lease,
}

impl Commit<'_> {
    fn line(&self, stage: &Stage, line: Line, n: usize) -> Result<(), Failure> {
        let line = cli::container_line(line)?;
        let container = self.store.resolve_line(&line).during(|| format!("container {:?}", line.name))?;
        self.finish(stage, &container, n)
    }

    /// Commits a container; if it was made to be removed at its end, this is its end, whether all went well or not.
    fn finish(&self, stage: &Stage, container: &Container, n: usize) -> Result<(), Failure> {
        let once = overlay::OneOff::of(container).during(|| format!("container {}", container.name()))?;
        let done = self.container(stage, container, n).and_then(|line| stage.emit(&Line::Image(line)));
        once.end(&done, stage)?;
        done
    }

    fn container(&self, stage: &Stage, container: &Container, n: usize) -> Result<ImageLine, Failure> {
        let what = || format!("container {}", container.name());
        let doc = container.create().during(what)?;
        let image =
            doc.image.ok_or_else(|| Failure::new(Exit::Content, what(), "it was made of no image"))?;
        self.lease.touch(&image).during(what)?;
        let base = Base::read(self.store, &image)?;
        let platform = base.image.platform.clone();
        let place = tags::Place { n, name: container.name(), platform: &platform.to_string() };
        let names = tags::references(&self.args.tags, &place)?;
        let since = self.args.squash_since.as_deref();
        let since = since.map(|text| Since::find(self.store, &self.lease, text, &base)).transpose()?;
        let kept = match &since {
            Some(since) => since.layers,
            None if self.args.layer => base.layers.len(),
            None => 0,
        };
        let layer = self.pack(stage, container, &base, kept)?;
        self.lease.touch(&layer.descriptor.digest).during(what)?;
        let config = self.configure(&doc, &base, &layer, kept)?;
        self.report(stage, &base, &layer);
        let mut layers = base.layers;
        layers.truncate(kept);
        layers.push(json!(layer.descriptor));
        let base = Some(since.map_or(image, |since| since.digest));
        let new = NewImage { config: config.to_bytes(), layers, base, platform };
        new.publish(self.store, &self.lease, &names)
    }

    /// Packs the container's trees down to the lowest `kept` layers, while nothing of it runs.
    fn pack(
        &self,
        stage: &Stage,
        container: &Container,
        base: &Base,
        kept: usize,
    ) -> Result<NewLayer, Failure> {
        if base.is_docker() {
            stage.note("the new image is in OCI's format; the container's is in docker's");
        }
        let trees = Trees::open(self.store, container, &base.image)?;
        let held = Held::of(container, &trees.upper, !self.args.no_pause, stage)?;
        let options = self.options();
        let warn = &mut |warning: Warning| stage.warn(&warning.to_string());
        let layer = NewLayer::write(self.store, self.args.compression, |out| {
            if self.args.layer {
                return layer::pack_upper(&trees.upper, trees.below.first(), options, out, warn);
            }
            let all: Vec<&Root> = std::iter::once(&trees.upper).chain(&trees.below).collect();
            match self.args.squash_since {
                Some(_) => layer::pack_changes(&all[..all.len() - kept], options, out, warn),
                None => layer::pack_merged(&all, options, out, warn),
            }
        })?;
        held.end(stage)?;
        Ok(layer)
    }

    fn configure(
        &self,
        doc: &CreateDoc,
        base: &Base,
        layer: &NewLayer,
        kept: usize,
    ) -> Result<Config, Failure> {
        let bad = |e| Failure::new(Exit::Content, format!("image {}", base.image.manifest_digest), e);
        let mut config = Config::of(base.config.clone()).map_err(bad)?;
        if self.args.config.inherit {
            config.apply(&inherited(doc)).map_err(bad)?;
        }
        config.apply(&self.changes(&config)?).map_err(bad)?;
        config.set_diff_ids(&[&base.image.diff_ids[..kept], &[layer.diff_id]].concat());
        if self.args.squash_since.is_some() {
            config.cut_history(kept).map_err(bad)?;
            config.extend_history(&self.event("oci-commit --squash-since")?, kept).map_err(bad)?;
        } else if self.args.layer {
            config.extend_history(&self.event("oci-commit --layer")?, kept).map_err(bad)?;
        } else {
            config.begin_history(&self.event("oci-commit")?);
        }
        Ok(config)
    }

    /// What the flags change of a configuration.
    fn changes(&self, config: &Config) -> Result<Vec<Change>, Failure> {
        self.args.config.changes(config.before()).map_err(|e| Failure::usage("--change", e))
    }

    /// An image of a directory of the host.
    fn directory(&self, stage: &Stage, dir: &Path) -> Result<ImageLine, Failure> {
        let what = || format!("--rootfs {}", dir.display());
        let tree = Root::open_ambient(dir).map_err(|e| {
            let exit = if e.is_not_found() { Exit::NotFound } else { Exit::Other };
            Failure::new(exit, what(), e)
        })?;
        if dir.canonicalize().is_ok_and(|dir| self.store.path().starts_with(dir)) {
            return Err(Failure::usage(
                what(),
                "the store lies in it and would become part of its own image",
            ));
        }
        let platform = self.args.platform.clone().unwrap_or_else(Platform::host);
        let place = tags::Place { n: 1, name: "rootfs", platform: &platform.to_string() };
        let names = tags::references(&self.args.tags, &place)?;
        let warn = &mut |warning: Warning| stage.warn(&warning.to_string());
        let layer = NewLayer::write(self.store, self.args.compression, |out| {
            layer::pack_plain(&tree, self.options(), out, warn)
        })?;
        self.lease.touch(&layer.descriptor.digest).during(what)?;
        stage.note(&format!("one layer, {}", human_bytes(layer.descriptor.size)));
        let mut config = Config::new(&platform);
        config.apply(&self.changes(&config)?).map_err(|e| Failure::new(Exit::Other, what(), e))?;
        config.set_diff_ids(&[layer.diff_id]);
        config.begin_history(&self.event("oci-commit --rootfs")?);
        let layers = vec![json!(layer.descriptor)];
        let new = NewImage { config: config.to_bytes(), layers, base: None, platform };
        new.publish(self.store, &self.lease, &names)
    }

    fn options(&self) -> PackOptions {
        PackOptions { epoch: self.args.source_date_epoch }
    }

    /// The history's new entry. The container's command is not told: it may hold what was given to oci-mount alone.
    fn event(&self, created_by: &str) -> Result<Event, Failure> {
        let now = || {
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs().try_into().unwrap_or(0))
        };
        let seconds = self.args.source_date_epoch.unwrap_or_else(now);
        let beyond = || Failure::usage("SOURCE_DATE_EPOCH", format!("{seconds} is in no year"));
        Ok(Event {
            created: moment::of_seconds(seconds).ok_or_else(beyond)?,
            created_by: created_by.into(),
            author: self.args.config.author.clone(),
            comment: self.args.config.message.clone(),
        })
    }

    /// Both sizes, so that the choice between one layer and one more is an informed one.
    fn report(&self, stage: &Stage, base: &Base, layer: &NewLayer) {
        let size = human_bytes(layer.descriptor.size);
        let text = if self.args.squash_since.is_some() {
            format!("one layer, {size}, on top of those of the image that was named")
        } else if self.args.layer {
            let whole = base.size().saturating_add(layer.descriptor.size);
            format!("one more layer, {size}; without --layer, one layer of about {}", human_bytes(whole))
        } else {
            format!("one layer, {size}; --layer would write about {}", human_bytes(layer.size_of_top()))
        };
        stage.note(&text);
    }
}

/// What `--inherit` carries over from the container's creation.
fn inherited(doc: &CreateDoc) -> Vec<Change> {
    let process = &doc.process;
    let mut changes = Vec::new();
    changes
        .extend(process.env.iter().filter_map(|env| change::pair(env).ok()).map(|(k, v)| Change::Env(k, v)));
    changes.extend(doc.labels.iter().map(|(k, v)| Change::Label(k.clone(), v.clone())));
    changes.extend(process.entrypoint.clone().map(Change::Entrypoint));
    changes.extend(process.args.clone().map(Change::Cmd));
    changes.extend(process.cwd.clone().map(Change::WorkingDir));
    changes.extend(process.user.clone().map(Change::User));
    let binds = doc.mounts.iter().filter(|mount| mount.kind == "bind");
    changes.extend(binds.map(|mount| Change::Volume(mount.target.clone())));
    changes
}
