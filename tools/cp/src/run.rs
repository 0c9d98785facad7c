//! Find the container, open its root, copy, pass the line on.

use std::path::{Path, PathBuf};

use cli::{During, Failure, Stage};
use descriptor::Line;
use store::{Container, Store};
use sys::{Call, Root};

use crate::args::Args;
use crate::copy::{Copier, Direction, Look};
use crate::error::{Error, Result};
use crate::from::{From, Opened};
use crate::ignore::Rules;
use crate::place::Place;
use crate::rules::{self, Destination, Side, Source, Way};
use crate::stream;
use crate::untar::Looks;

/// Runs the tool.
pub(crate) fn run(args: Args, stage: &mut Stage) -> std::result::Result<u8, Failure> {
    if args.paths.last() == Some(&Place::Stream) {
        // stdout is the archive's.
        stage.keep_errors_home();
    }
    let job = Job::of(&args)?;
    if job.way == Way::Pack {
        stream::check(std::io::stdout(), "stdout")?;
    }
    if job.way == Way::Unpack {
        stream::check(std::io::stdin(), "stdin")?;
    }
    // Permissions are given by descriptor and mean what they say.
    rustix::process::umask(rustix::fs::Mode::empty());
    let store = Store::open(args.common.store.as_deref()).during(|| "store".into())?;
    let from = args.from.as_deref().map(|text| From::find(&store, text)).transpose()?;
    if let Some(from) = from.as_ref().filter(|_| job.way != Way::In) {
        return job.without_container(stage, &store, from);
    }
    let job = Job { from, ..job };
    if let Some(name) = &job.named {
        let container = store.container(name).during(|| format!("container {name:?}"))?;
        job.container(stage, &store, &container, 1)?;
        return Ok(0);
    }
    if job.way == Way::Unpack {
        let file = args.line.as_deref().unwrap_or(Path::new(""));
        job.container(stage, &store, &of_line(&store, stream::line_of(file)?)?, 1)?;
        return Ok(0);
    }
    if job.way == Way::Pack || (job.way == Way::Out && !is_template(&job.dest)) {
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
    way: Way,
    /// The container, where its name is given.
    named: Option<String>,
    sources: Vec<PathBuf>,
    dest: PathBuf,
    from: Option<From>,
    /// The rules of --ignore-file.
    rules: Rules,
    args: &'a Args,
}

impl<'a> Job<'a> {
    fn of(args: &'a Args) -> std::result::Result<Self, Failure> {
        let usage = |why: String| Failure::usage("command line", why);
        let Some((dest, sources)) = args.paths.split_last() else { return Err(usage("no paths".into())) };
        let way = rules::way(sources, dest, args.from.is_some()).map_err(usage)?;
        let mut named = None;
        for place in &args.paths {
            let Place::Container(Some(name), _) = place else { continue };
            if named.get_or_insert(name) != &name {
                return Err(usage("two containers are named".into()));
            }
        }
        check_streams(args, way, named.is_some())?;
        let path = |place: &Place| match place {
            Place::Host(path) | Place::Container(_, path) => path.clone(),
            Place::Stream => "-".into(),
        };
        Ok(Self {
            way,
            named: named.cloned(),
            sources: sources.iter().map(path).collect(),
            dest: path(dest),
            from: None,
            rules: args.ignore_file.as_deref().map_or_else(|| Ok(Rules::default()), ignore_file)?,
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
        let copied = self.copy(stage, store, container, n).map_err(|e| self.failure(e, container.name()));
        let line = copied.and_then(|()| container.line().during(what)).map(Line::Container);
        if self.way != Way::Pack {
            return one_off.pass(line.and_then(|line| stage.emit(&line)), stage);
        }
        // stdout is the archive's. Without --line the journey ends here.
        match &self.args.line {
            Some(file) => one_off.pass(line.and_then(|line| stream::line_to(file, &line)), stage),
            None => {
                one_off.end(&line, stage)?;
                line.map(|_| ())
            }
        }
    }

    /// Copies out of --from's container or image, which needs no other container and has no line.
    fn without_container(
        &self,
        stage: &Stage,
        store: &Store,
        from: &From,
    ) -> std::result::Result<u8, Failure> {
        let name = self.args.from.as_deref().unwrap_or_default();
        let copied = from.open().map_err(Error::from).and_then(|opened| {
            if self.way == Way::Pack {
                self.pack(stage, opened.root())
            } else {
                self.out(stage, store, opened.root(), name, 1)
            }
        });
        copied.map_err(|e| self.failure(e, name))?;
        Ok(0)
    }

    fn copy(&self, stage: &Stage, store: &Store, container: &Container, n: usize) -> Result<()> {
        let warn = |text: &str| stage.warn(text);
        if let Some(from) = &self.from {
            let (root, sources) = both(container, from)?;
            let copier = Copier::new(&root, self.look(&root)?, &warn).skip(store.dir()).out_of_container();
            return self.into(&root, copier, &Side::Container(sources.root()));
        }
        let root = overlay::open_root(container)?;
        match self.way {
            Way::In => {
                let copier = Copier::new(&root, self.look(&root)?, &warn).skip(store.dir());
                self.into(&root, copier, &Side::Host)
            }
            Way::Out => self.out(stage, store, &root, container.name(), n),
            Way::Unpack => {
                let copier = Copier::new(&root, self.look(&root)?, &warn);
                let owner = self.args.chown.as_ref().map(|_| self.owner(&root)).transpose()?;
                let looks = Looks { owner, mode: self.args.chmod, devices: self.args.archive };
                stream::unpack(&root, &self.dest, &copier, looks, std::io::stdin(), &warn)
            }
            Way::Pack => self.pack(stage, &root),
        }
    }

    /// Copies all sources into a container.
    fn into(&self, root: &Root, mut copier: Copier<'_>, side: &Side<'_>) -> Result<()> {
        for source in &self.sources {
            let opened = self.open(side, source)?;
            copier.set_rules(self.rules_of(&opened, source)?);
            let dest = Destination::in_container(root, &self.dest, self.sources.len() > 1)?;
            dest.take(root, &mut copier, &opened)?;
        }
        Ok(())
    }

    /// Copies all sources out of a container.
    fn out(&self, stage: &Stage, store: &Store, root: &Root, name: &str, n: usize) -> Result<()> {
        let warn = |text: &str| stage.warn(text);
        let path = fill(&self.dest, n, name);
        let (host, last) = rules::host_root(&path)?;
        let mut copier = Copier::new(&host, self.look(root)?, &warn).skip(store.dir());
        for source in &self.sources {
            let opened = self.open(&Side::Container(root), source)?;
            copier.set_rules(self.rules_of(&opened, source)?);
            let dest = Destination::on_host(&host, last.as_deref(), &path, self.sources.len() > 1)?;
            dest.take(&host, &mut copier, &opened)?;
        }
        Ok(())
    }

    /// Writes an archive of the only source to stdout.
    fn pack(&self, stage: &Stage, root: &Root) -> Result<()> {
        for source in &self.sources {
            let opened = self.open(&Side::Container(root), source)?;
            stream::pack(&opened, std::io::stdout().lock(), stage)?;
        }
        Ok(())
    }

    fn open(&self, side: &Side<'_>, source: &Path) -> Result<Source> {
        if self.args.follow_link { side.followed(source) } else { side.source(source) }
    }

    /// The rules for what is below a source.
    fn rules_of(&self, source: &Source, path: &Path) -> Result<Rules> {
        if !self.args.dockerignore {
            return Ok(self.rules.clone());
        }
        rules::dockerignore(source, path)
    }

    fn look(&self, root: &Root) -> Result<Look> {
        let direction = if self.way == Way::Out { Direction::Out } else { Direction::In };
        Ok(Look {
            direction,
            owner: self.owner(root)?,
            keeps_owner: self.args.archive,
            mode: self.args.chmod,
        })
    }

    fn failure(&self, error: Error, name: &str) -> Failure {
        if stream::is_reader_gone(&error) {
            return Failure::reader_gone();
        }
        let way = if matches!(self.way, Way::In | Way::Unpack) { "into" } else { "out of" };
        let failed = Err::<(), _>(error).during(|| format!("copying {way} {name:?}"));
        failed.expect_err("made from an error")
    }

    /// Who owns what is copied; names are those of the container's files.
    fn owner(&self, root: &Root) -> Result<(u32, u32)> {
        match &self.args.chown {
            Some(owner) => {
                let identity = runtime::users::resolve(root, owner)?;
                Ok((identity.uid, identity.gid))
            }
            None if self.way != Way::Out => Ok((0, 0)),
            None => Ok((rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())),
        }
    }
}

/// Refuses what does not go with archives.
fn check_streams(args: &Args, way: Way, named: bool) -> std::result::Result<(), Failure> {
    let usage = |why: &str| Err(Failure::usage("command line", why));
    let archive = matches!(way, Way::Unpack | Way::Pack);
    if way == Way::Unpack && !named && args.line.is_none() {
        return usage(
            "the archive is on stdin, where the line would be: name the container (NAME:DIR), or give --line FILE",
        );
    }
    if way == Way::Unpack && named && args.line.is_some() {
        return usage("the container is named, and --line has another");
    }
    if args.line.is_some() && (!archive || args.from.is_some()) {
        return usage("--line belongs to an archive of a container on stdin or stdout (-)");
    }
    if archive && (args.dockerignore || args.ignore_file.is_some()) {
        return usage("rules of what is left out are not for archives; tar has its own");
    }
    if way == Way::Pack && (args.chown.is_some() || args.chmod.is_some()) {
        return usage("an archive on stdout has the owners and permissions that are there");
    }
    if way == Way::Unpack && args.follow_link {
        return usage("-L is about SRC, which is an archive");
    }
    Ok(())
}

/// Reads the rules of --ignore-file.
fn ignore_file(file: &Path) -> std::result::Result<Rules, Failure> {
    let what = || "--ignore-file".to_string();
    let opened = std::fs::File::open(file).call("open", || format!("{file:?}")).map_err(Error::at(file));
    opened.and_then(|opened| rules::read(opened, file)).during(what)
}

/// A container's root and that of --from. Both may be locked meanwhile: in one order, so that nobody waits for ever.
fn both<'f>(container: &Container, from: &'f From) -> Result<(overlay::OpenRoot, Opened<'f>)> {
    match from.id() {
        Some(id) if id == container.id() => Err(Error::Same(container.name().into())),
        Some(id) if id < container.id() => {
            let opened = from.open()?;
            Ok((overlay::open_root(container)?, opened))
        }
        _ => {
            let root = overlay::open_root(container)?;
            Ok((root, from.open()?))
        }
    }
}

/// A failed copy, of a reader that is gone too.
fn is_template(path: &Path) -> bool {
    cli::has_place(&path.to_string_lossy(), &["n", "name"])
}

fn fill(path: &Path, n: usize, name: &str) -> PathBuf {
    if !is_template(path) {
        return path.into();
    }
    cli::fill_places(&path.to_string_lossy(), &[("n", &n.to_string()), ("name", name)]).into()
}
