//! Find the container, open its root, copy, pass the line on.

use std::path::{Path, PathBuf};

use cli::{During, Failure, Stage};
use descriptor::Line;
use store::{Container, Store};
use sys::Root;

use crate::args::Args;
use crate::copy::{Copier, Direction, Look};
use crate::error::Result;
use crate::place::Place;
use crate::rules::{self, Destination, Side};

/// Runs the tool.
pub(crate) fn run(args: Args, stage: &mut Stage) -> std::result::Result<u8, Failure> {
    let job = Job::of(&args)?;
    // Permissions are given by descriptor and mean what they say.
    rustix::process::umask(rustix::fs::Mode::empty());
    let store = Store::open(args.common.store.as_deref()).during(|| "store".into())?;
    if let Some(name) = &job.named {
        let container = store.container(name).during(|| format!("container {name:?}"))?;
        job.container(stage, &store, &container, 1)?;
        return Ok(0);
    }
    if job.direction == Direction::Out && !is_template(&job.dest) {
        let why = "copying out takes a single line, or DST has {n} or {name} in it";
        let line = stage.single_or_end(why, |line| overlay::OneOff::abandon(&store, &line, stage))?;
        job.container(stage, &store, &of_line(&store, line)?, 1)?;
        return Ok(0);
    }
    let mut n = 0;
    let lines = stage.lines()?;
    Ok(stage.for_each(lines, |stage, line| {
        n += 1;
        job.container(stage, &store, &of_line(&store, line)?, n)
    }))
}

fn of_line(store: &Store, line: Line) -> std::result::Result<Container, Failure> {
    let line = cli::container_line(line)?;
    store.resolve_line(&line).during(|| format!("container {:?}", line.name))
}

/// What is to be done for each container.
struct Job<'a> {
    direction: Direction,
    /// The container, where its name is given.
    named: Option<String>,
    sources: Vec<PathBuf>,
    dest: PathBuf,
    args: &'a Args,
}

impl<'a> Job<'a> {
    fn of(args: &'a Args) -> std::result::Result<Self, Failure> {
        let usage = |why: String| Failure::usage("command line", why);
        let Some((dest, sources)) = args.paths.split_last() else { return Err(usage("no paths".into())) };
        let direction = rules::direction(sources, dest).map_err(usage)?;
        let mut named = None;
        for place in &args.paths {
            let Place::Container(Some(name), _) = place else { continue };
            if named.get_or_insert(name) != &name {
                return Err(usage("two containers are named".into()));
            }
        }
        let path = |place: &Place| match place {
            Place::Host(path) | Place::Container(_, path) => path.clone(),
        };
        Ok(Self {
            direction,
            named: named.cloned(),
            sources: sources.iter().map(path).collect(),
            dest: path(dest),
            args,
        })
    }

    /// Copies for one container and passes its line on; a one-off ends with a failure.
    fn container(
        &self,
        stage: &Stage,
        store: &Store,
        container: &Container,
        n: usize,
    ) -> std::result::Result<(), Failure> {
        let what = || format!("container {:?}", container.name());
        let one_off = overlay::OneOff::of(container).during(what)?;
        let copied = self
            .copy(stage, store, container, n)
            .during(|| format!("copying, container {:?}", container.name()));
        let line = copied.and_then(|()| container.line().during(what));
        one_off.pass(line.and_then(|line| stage.emit(&Line::Container(line))), stage)
    }

    fn copy(&self, stage: &Stage, store: &Store, container: &Container, n: usize) -> Result<()> {
        let root = overlay::open_root(container)?;
        let look = Look { direction: self.direction, owner: self.owner(&root)?, mode: self.args.chmod };
        let warn = |text: &str| stage.warn(text);
        let several = self.sources.len() > 1;
        match self.direction {
            Direction::In => {
                let mut copier = Copier::new(&root, look, &warn).skip(store.dir());
                for source in &self.sources {
                    let opened = Side::Host.source(source)?;
                    Destination::in_container(&root, &self.dest, several)?.take(
                        &root,
                        &mut copier,
                        &opened,
                    )?;
                }
            }
            Direction::Out => {
                let path = fill(&self.dest, n, container.name());
                let (host, name) = rules::host_root(&path)?;
                let mut copier = Copier::new(&host, look, &warn).skip(store.dir());
                for source in &self.sources {
                    let opened = Side::Container(&root).source(source)?;
                    let dest = Destination::on_host(&host, name.as_deref(), &path, several)?;
                    dest.take(&host, &mut copier, &opened)?;
                }
            }
        }
        Ok(())
    }

    /// Who owns what is copied; names are the container's going in, and not known going out.
    fn owner(&self, root: &Root) -> Result<(u32, u32)> {
        match &self.args.chown {
            Some(owner) => {
                let identity = runtime::users::resolve(root, owner)?;
                Ok((identity.uid, identity.gid))
            }
            None if self.direction == Direction::In => Ok((0, 0)),
            None => Ok((rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())),
        }
    }
}

fn is_template(path: &Path) -> bool {
    cli::has_place(&path.to_string_lossy(), &["n", "name"])
}

fn fill(path: &Path, n: usize, name: &str) -> PathBuf {
    if !is_template(path) {
        return path.into();
    }
    cli::fill_places(&path.to_string_lossy(), &[("n", &n.to_string()), ("name", name)]).into()
}
