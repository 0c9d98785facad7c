//! The words of `-v`, `--mount` and `--tmpfs`: docker's, of `run` and of a build's `RUN --mount`.

use std::path::{Path, PathBuf};

use runtime::mountflags::{self, Fields, clean};
use store::Sharing;
use store::containers::Mount;

use crate::secret::{Looks, Origin};

/// Where secrets lie unless a target is given (docker's).
const SECRETS: &str = "/run/secrets";
/// The permission bits of a new cache's directory, and of a secret (docker's).
const CACHE_MODE: u32 = 0o755;
const SECRET_MODE: u32 = 0o400;

/// A mount of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) target: PathBuf,
    pub(crate) what: What,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// A directory or file of the host.
    Bind(Mount),
    /// A file system in memory.
    Tmpfs(Mount),
    /// A directory of the store that outlives the run.
    Cache { cache: Cache, read_only: bool },
    /// A file in memory with what only the caller knows.
    Secret { origin: Origin, looks: Looks, required: bool },
}

/// A cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cache {
    pub(crate) id: String,
    pub(crate) sharing: Sharing,
    /// Of the directory when it is made.
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
}

impl Given {
    /// The cache, if it is one.
    pub(crate) fn cache(&self) -> Option<&Cache> {
        match &self.what {
            What::Cache { cache, .. } => Some(cache),
            _ => None,
        }
    }

    /// What has to be at the target.
    pub(crate) fn kind(&self) -> overlay::Kind {
        let is_file = match &self.what {
            What::Bind(mount) => !Path::new(mount.source.as_deref().unwrap_or_default()).is_dir(),
            What::Secret { .. } => true,
            What::Tmpfs(_) | What::Cache { .. } => false,
        };
        if is_file { overlay::Kind::File } else { overlay::Kind::Directory }
    }

    fn plain(mount: Mount) -> Result<Self, String> {
        let target = PathBuf::from(&mount.target);
        match mount.kind.as_str() {
            "bind" => Ok(Self { target, what: What::Bind(mount) }),
            "tmpfs" => Ok(Self { target, what: What::Tmpfs(mount) }),
            kind => Err(format!("a mount of type {kind} is for a container's whole life: oci-mount has it")),
        }
    }
}

/// `-v SRC:DST[:OPT,...]`, a directory or file of the host.
pub(crate) fn short(text: &str) -> Result<Given, String> {
    Given::plain(mountflags::short(text)?)
}

/// `--tmpfs DST[:OPT,...]`.
pub(crate) fn tmpfs(text: &str) -> Result<Given, String> {
    Given::plain(mountflags::tmpfs(text)?)
}

/// `--mount type=...`: a bind unless it says otherwise, as in a build.
pub(crate) fn long(text: &str) -> Result<Given, String> {
    let mut fields = Fields::parse(text)?;
    let kind = fields.text(&["type"])?.unwrap_or_else(|| "bind".into());
    if let Some(from) = fields.text(&["from"])? {
        return Err(format!("from={from} is not supported: oci-mount --mount type=image mounts an image"));
    }
    match kind.as_str() {
        "cache" => cache(&mut fields),
        "secret" => secret(&mut fields),
        "ssh" => Err("type=ssh is a bind of the agent's socket: type=bind,src=$SSH_AUTH_SOCK,dst=...".into()),
        kind => {
            if kind == "tmpfs" {
                // So a build calls them.
                fields.rename("size", "tmpfs-size");
                fields.rename("mode", "tmpfs-mode");
            }
            let read_only = access(&mut fields)?;
            let mut mount = mountflags::of_fields(kind, fields)?;
            mount.read_only |= read_only;
            Given::plain(mount)
        }
    }
}

fn cache(fields: &mut Fields) -> Result<Given, String> {
    let target = clean(&fields.target()?)?;
    let id = fields.text(&["id"])?.unwrap_or_else(|| target.clone());
    let sharing = match fields.text(&["sharing"])?.as_deref() {
        None | Some("shared") => Sharing::Shared,
        Some("private") => Sharing::Private,
        Some("locked") => Sharing::Locked,
        Some(other) => return Err(format!("sharing={other} is none of shared, private and locked")),
    };
    let read_only = access(fields)?;
    let looks = looks(fields, CACHE_MODE)?;
    fields.end()?;
    let cache = Cache { id, sharing, mode: looks.mode, owner: looks.owner };
    Ok(Given { target: target.into(), what: What::Cache { cache, read_only } })
}

fn secret(fields: &mut Fields) -> Result<Given, String> {
    let target = fields.text(&["target", "dst", "destination"])?;
    let id = fields.text(&["id"])?;
    let file = fields.text(&["source", "src"])?;
    let variable = fields.text(&["env"])?;
    let name = |path: &str| Path::new(path).file_name().and_then(|name| name.to_str()).map(String::from);
    let id = id
        .or_else(|| target.as_deref().and_then(name))
        .or_else(|| file.as_deref().and_then(name))
        .or_else(|| variable.clone())
        .ok_or("type=secret needs an id")?;
    let origin = match (file, variable) {
        (Some(_), Some(_)) => return Err("src and env are both given".into()),
        (Some(file), None) => Origin::File(file.into()),
        (None, Some(variable)) => Origin::Variable(variable),
        (None, None) => Origin::Named(id.clone()),
    };
    let target = match target {
        Some(target) if target.starts_with('/') => clean(&target)?,
        Some(target) => clean(&format!("{SECRETS}/{target}"))?,
        None => clean(&format!("{SECRETS}/{}", name(&id).ok_or_else(|| format!("id={id} is no name"))?))?,
    };
    let required = fields.truth(&["required"])?.unwrap_or(true);
    let looks = looks(fields, SECRET_MODE)?;
    fields.end()?;
    Ok(Given { target: target.into(), what: What::Secret { origin, looks, required } })
}

fn looks(fields: &mut Fields, mode: u32) -> Result<Looks, String> {
    let owner = (fields.number("uid")?.unwrap_or(0), fields.number("gid")?.unwrap_or(0));
    Ok(Looks { mode: fields.mode("mode")?.unwrap_or(mode), owner })
}

/// `ro` and `rw`, true where nothing may be written.
fn access(fields: &mut Fields) -> Result<bool, String> {
    let read_only = fields.truth(&["ro", "readonly"])?;
    let writable = fields.truth(&["rw", "readwrite"])?;
    match (read_only, writable) {
        (Some(ro), Some(rw)) if ro == rw => Err("ro and rw contradict each other".into()),
        (ro, rw) => Ok(ro.unwrap_or(rw == Some(false))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Given {
        long(text).expect(text)
    }

    fn bind(given: &Given) -> (&str, bool) {
        match &given.what {
            What::Bind(mount) => (mount.source.as_deref().unwrap_or_default(), mount.read_only),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn binds_are_dockers_and_writable_unless_they_say_otherwise() {
        for (text, want) in [
            ("type=bind,src=/a,dst=/b,readonly", ("/a", true)),
            ("src=/a,target=/b", ("/a", false)),
            ("src=/a,target=/b,rw", ("/a", false)),
            ("src=/a,target=/b,rw=false", ("/a", true)),
        ] {
            assert_eq!(bind(&read(text)), want, "{text}");
        }
        assert_eq!(bind(&short("/a:/b:ro").expect("short")), ("/a", true));
        assert_eq!(short("/a:/b//c/").expect("short").target, Path::new("/b/c"));
    }

    #[test]
    fn file_systems_in_memory_are_those_of_run_and_of_build() {
        let options = |given: Given| match given.what {
            What::Tmpfs(mount) => mount.options,
            other => panic!("{other:?}"),
        };
        assert_eq!(options(read("type=tmpfs,dst=/t,tmpfs-size=1m")), ["size=1048576"]);
        assert_eq!(options(read("type=tmpfs,dst=/t,size=1m,mode=700")), ["mode=700", "size=1048576"]);
        assert_eq!(options(tmpfs("/t:size=1m,exec").expect("tmpfs")), ["exec", "size=1048576"]);
    }

    #[test]
    fn caches_are_the_builders() {
        let cache = Cache { id: "/root/.cache".into(), sharing: Sharing::Shared, mode: 0o755, owner: (0, 0) };
        assert_eq!(read("type=cache,target=/root/.cache").what, What::Cache { cache, read_only: false });
        let cache = Cache { id: "pip".into(), sharing: Sharing::Locked, mode: 0o700, owner: (1, 2) };
        let text = "type=cache,target=/c,id=pip,sharing=locked,mode=700,uid=1,gid=2,ro";
        assert_eq!(read(text).what, What::Cache { cache, read_only: true });
    }

    #[test]
    fn a_secret_is_named_by_its_id_its_target_or_its_file() {
        let looks = Looks { mode: 0o400, owner: (0, 0) };
        let named = |name: &str| Origin::Named(name.into());
        for (text, target, origin) in [
            ("type=secret,id=token", "/run/secrets/token", named("token")),
            ("type=secret,id=a/token", "/run/secrets/token", named("a/token")),
            ("type=secret,target=/root/.npmrc", "/root/.npmrc", named(".npmrc")),
            ("type=secret,id=t,target=npm/rc", "/run/secrets/npm/rc", named("t")),
            ("type=secret,src=/x/y", "/run/secrets/y", Origin::File("/x/y".into())),
            ("type=secret,id=t,env=T", "/run/secrets/t", Origin::Variable("T".into())),
        ] {
            let what = What::Secret { origin, looks, required: true };
            assert_eq!(read(text), Given { target: target.into(), what }, "{text}");
        }
        let given = read("type=secret,id=t,mode=0440,uid=1,gid=2,required=false");
        let looks = Looks { mode: 0o440, owner: (1, 2) };
        assert_eq!(given.what, What::Secret { origin: named("t"), looks, required: false });
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for text in [
            "type=volume,target=/a",
            "type=image,src=a,target=/a",
            "type=ssh",
            "type=bind,src=/a",
            "type=bind,target=/a",
            "type=bind,src=/a,dst=b",
            "type=bind,src=/a,dst=/b/../c",
            "type=bind,src=/a,dst=/",
            "type=bind,src=/a,dst=/b,ro,rw",
            "type=bind,src=/a,dst=/b,from=x",
            "type=cache",
            "type=cache,target=/a,from=x",
            "type=cache,target=/a,sharing=some",
            "type=cache,target=/a,mode=9",
            "type=secret",
            "type=secret,id=..",
            "type=secret,id=a,target=../x",
            "type=secret,id=a,src=/x,env=X",
            "type=secret,id=a,uid=x",
            "type=secret,id=a,color=red",
            "type=tmpfs",
            "type=tmpfs,dst=/a,color=red",
        ] {
            long(text).expect_err(text);
        }
        short("data:/a").expect_err("a volume");
    }
}
