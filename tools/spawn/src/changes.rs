//! What a run changes of the container's configuration: in memory only, never recorded.

use std::path::{Path, PathBuf};

use cli::{During, Failure};
use descriptor::Exit;
use oci_spec::runtime::{LinuxNamespaceType, Process, Spec};
use runtime::convert::{Network, user};
use runtime::environment::{self, override_env};
use runtime::{defaults, users};
use store::CreateDoc;
use sys::Root;

use crate::args::Args;

/// Proxy variables, which clients read in either case.
const PROXIES: [&str; 6] = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"];
/// What a terminal is for a program that cannot know better (docker's).
const TERM: &str = "TERM=xterm";
/// Shared memory of the container's processes.
const SHM: &str = "/dev/shm";
/// The files of the host that a container on the host's network needs to find names.
const NAME_FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// The changes, read from the command line and from files of the caller before anything is locked.
#[derive(Debug, Clone)]
pub(crate) struct Changes {
    command: Vec<String>,
    env: Vec<String>,
    proxies: Vec<String>,
    workdir: Option<PathBuf>,
    user: Option<String>,
    network: Option<Network>,
    /// Bytes of /dev/shm.
    shared_memory: Option<u64>,
    terminal: bool,
}

impl Changes {
    /// Reads the changes.
    pub(crate) fn of(args: &Args) -> Result<Self, Failure> {
        let env = environment::given(&args.env_file, &args.env).during(|| "environment".into())?;
        let proxies = PROXIES.iter().filter_map(|name| environment::variable(name)).collect();
        Ok(Self {
            command: args.command.clone(),
            env,
            proxies: if args.no_http_proxy { Vec::new() } else { proxies },
            workdir: args.workdir.as_ref().map(|dir| Path::new("/").join(dir)),
            user: args.user.clone(),
            network: args.net,
            shared_memory: args.shm_size,
            terminal: args.tty,
        })
    }

    /// The same, with a terminal or without.
    pub(crate) fn with_terminal(self, terminal: bool) -> Self {
        Self { terminal, ..self }
    }

    /// None: the container runs as it was made.
    pub(crate) fn none(terminal: bool) -> Self {
        Self::further(&[], Vec::new(), None, None, terminal)
    }

    /// Those of a further process in a container that runs: everything but mounts and the network, which it has.
    pub(crate) fn further(
        command: &[String],
        env: Vec<String>,
        workdir: Option<&String>,
        user: Option<String>,
        terminal: bool,
    ) -> Self {
        Self {
            command: command.to_vec(),
            env,
            proxies: PROXIES.iter().filter_map(|name| environment::variable(name)).collect(),
            workdir: workdir.map(|dir| Path::new("/").join(dir)),
            user,
            network: None,
            shared_memory: None,
            terminal,
        }
    }

    /// Whether it is to have a terminal.
    pub(crate) fn has_terminal(&self) -> bool {
        self.terminal
    }

    /// The working directory, where it has to exist in the container's own files.
    pub(crate) fn workdir(&self, spec: &Spec) -> Option<&Path> {
        let is_mounted =
            |path: &Path| spec.mounts().iter().flatten().any(|mount| path.starts_with(mount.destination()));
        self.workdir.as_deref().filter(|path| !is_mounted(path))
    }

    /// Changes the configuration; `view` is the container's root, where users are looked up.
    ///
    /// The caller's proxies are handed on only to a container with a network, and where its making did not forbid that.
    pub(crate) fn apply(&self, spec: &mut Spec, view: &Root, doc: &CreateDoc) -> Result<(), Failure> {
        self.set_network(spec);
        self.set_shared_memory(spec)?;
        let has_network = !makes(spec, LinuxNamespaceType::Network);
        let Some(process) = spec.process_mut() else {
            return Err(Failure::new(Exit::Content, "config.json", "has no process"));
        };
        if !self.command.is_empty() {
            process.set_args(Some(self.command.clone()));
        }
        if let Some(directory) = &self.workdir {
            process.set_cwd(directory.clone());
        }
        let home = self.set_user(process, view, doc)?;
        let mut env = process.env().clone().unwrap_or_default();
        if has_network && doc.passes_proxies() {
            add_missing(&mut env, &self.proxies);
        }
        override_env(&mut env, &self.env);
        add_missing(&mut env, &[format!("HOME={home}")]);
        if self.terminal {
            add_missing(&mut env, &[TERM.to_string()]);
        }
        process.set_env(Some(env));
        Ok(())
    }

    /// Sets this run's user, and finds the user's home either way.
    fn set_user(&self, process: &mut Process, view: &Root, doc: &CreateDoc) -> Result<String, Failure> {
        const HOMELESS: &str = "/";
        let Some(wanted) = &self.user else {
            let known = users::resolve(view, &process.user().uid().to_string());
            return Ok(known.ok().and_then(|known| known.home).unwrap_or_else(|| HOMELESS.into()));
        };
        let mut identity = users::resolve(view, wanted).during(|| format!("user {wanted:?}"))?;
        // They were chosen for whoever runs in it.
        users::join(view, &mut identity, &doc.process.groups).during(|| "--group-add".into())?;
        let umask = process.user().umask();
        let bounding = process.capabilities().as_ref().and_then(|sets| sets.bounding().clone());
        let held = defaults::held(&bounding.unwrap_or_default(), identity.uid);
        process.set_user(user(&identity)).set_capabilities(Some(held));
        process.user_mut().set_umask(umask);
        Ok(identity.home.unwrap_or_else(|| HOMELESS.into()))
    }

    fn set_shared_memory(&self, spec: &mut Spec) -> Result<(), Failure> {
        let Some(bytes) = self.shared_memory else { return Ok(()) };
        let mounts = spec.mounts_mut().iter_mut().flatten();
        let own = mounts.into_iter().find(|mount| mount.destination() == Path::new(SHM));
        let Some(mount) = own.filter(|mount| mount.typ().as_deref() == Some("tmpfs")) else {
            let why = format!("the container has no {SHM} of its own");
            return Err(Failure::new(Exit::Conflict, "--shm-size", why));
        };
        let mut options = mount.options().clone().unwrap_or_default();
        options.retain(|word| !word.starts_with("size="));
        options.push(format!("size={bytes}"));
        mount.set_options(Some(options));
        Ok(())
    }

    fn set_network(&self, spec: &mut Spec) {
        let Some(network) = self.network else { return };
        let is_own = network != Network::Host;
        let had_own = makes(spec, LinuxNamespaceType::Network);
        if let Some(linux) = spec.linux_mut() {
            let mut namespaces = linux.namespaces().clone().unwrap_or_default();
            namespaces.retain(|namespace| namespace.typ() != LinuxNamespaceType::Network);
            if is_own {
                let mut namespace = oci_spec::runtime::LinuxNamespace::default();
                namespace.set_typ(LinuxNamespaceType::Network);
                namespaces.push(namespace);
            }
            linux.set_namespaces(Some(namespaces));
            if !is_own && let Some(sysctls) = linux.sysctl_mut() {
                // They were meant for a network of its own.
                sysctls.retain(|key, _| !key.starts_with("net."));
            }
        }
        if had_own && !is_own {
            share_names(spec);
        }
    }
}

/// Binds the host's files for finding names, read-only, where the container has none of its own for that.
fn share_names(spec: &mut Spec) {
    let Some(mounts) = spec.mounts_mut() else { return };
    for file in NAME_FILES.map(Path::new) {
        mounts.retain(|mount| mount.destination() != file);
        if file.exists() {
            mounts.push(defaults::bind(file, file, true));
        }
    }
}

/// True where the container gets a new namespace of this kind.
fn makes(spec: &Spec, kind: LinuxNamespaceType) -> bool {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    namespaces.into_iter().flatten().any(|namespace| namespace.typ() == kind && namespace.path().is_none())
}

fn add_missing(env: &mut Vec<String>, pairs: &[String]) {
    for pair in pairs {
        let name = pair.split('=').next().unwrap_or(pair);
        let has = env.iter().any(|have| have.split('=').next() == Some(name));
        if !has {
            env.push(pair.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_container_has_is_not_overridden_by_what_is_missing() {
        let mut env = vec!["HOME=/x".to_string()];
        add_missing(&mut env, &["HOME=/y".into(), "TERM=xterm".into()]);
        assert_eq!(env, ["HOME=/x", "TERM=xterm"]);
    }
}
