//! Find the image, unpack its layers, say so.

use cli::{During, Failure, Stage};
use descriptor::{Digest, Line, RootfsLine, media};
use store::{Image, Lease, Store};

use crate::args::Args;
use crate::{flat, layers};

/// The tool.
pub(crate) fn run(args: Args, stage: &mut Stage) -> Result<u8, Failure> {
    let store = Store::open(args.common.store.as_deref()).during(|| "store".into())?;
    let unpack = Unpack { args: &args, lease: store.lease(), store: &store };
    if let Some(name) = &args.image {
        let (image, found) = registry::stored_image(&store, name).during(|| format!("image {name}"))?;
        return unpack.image(stage, &image.digest, name, found.as_deref()).map(|()| 0);
    }
    if args.to.is_some() {
        let line = stage.single("--to takes a single image")?;
        return unpack.line(stage, line).map(|()| 0);
    }
    let lines = stage.lines()?;
    Ok(stage.for_each(lines, |stage, line| unpack.line(stage, line)))
}

/// What all images of this call share.
struct Unpack<'a> {
    args: &'a Args,
    store: &'a Store,
    lease: Lease,
}

impl Unpack<'_> {
    fn line(&self, stage: &Stage, line: Line) -> Result<(), Failure> {
        let line = cli::image_line(line)?;
        self.store.owns(line.store.as_deref()).during(|| "image line".into())?;
        let digest = line.descriptor.digest;
        let name = line.reference.clone().unwrap_or_else(|| digest.to_string());
        self.image(stage, &digest, &name, line.reference.as_deref())
    }

    /// `name` is for messages; `reference` is what the image is called, where it is.
    fn image(
        &self,
        stage: &Stage,
        digest: &Digest,
        name: &str,
        reference: Option<&str>,
    ) -> Result<(), Failure> {
        let what = || format!("image {name}");
        self.lease.touch(digest).during(what)?;
        let image = self.store.image(digest, self.args.platform.as_ref()).during(what)?;
        self.lease.touch(&image.manifest_digest).during(what)?;
        if let Some(dir) = &self.args.to {
            return flat::unpack(self.store, stage, &image, dir, &self.args.limits.options());
        }
        layers::unpack(self.store, stage, &image, &self.args.limits.options())?;
        let line = self.rootfs(&image, reference);
        self.lease.touch(&line.digest).during(what)?;
        stage.emit(&Line::Rootfs(line))
    }

    fn rootfs(&self, image: &Image, reference: Option<&str>) -> RootfsLine {
        let called = |name: &str| (media::REF_NAME.to_string(), name.to_string());
        let (digest, size) = RootfsLine::identity(&image.diff_ids);
        RootfsLine {
            digest,
            size,
            platform: Some(image.platform.clone()),
            annotations: reference.map(called).into_iter().collect(),
            store: self.store.path().to_path_buf(),
            image: image.manifest_digest,
            config: image.config_digest,
            chain_id: image.chain_id(),
            layers: image.diff_ids.len() as u64,
        }
    }
}
