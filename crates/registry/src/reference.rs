//! [`Reference`]: the name of an image in a registry, in docker's grammar.
//!
//! The grammar is that of `distribution/reference`: `[host[:port]/]path[:tag][@digest]`. `oci_distribution::Reference`
//! reads the same language, but takes Unicode word characters in tags, digests in upper case and of other
//! algorithms, ports beyond 65535, and compiles a large regular expression in every process; so the few rules are written
//! out here, and a test holds the two against each other.

use std::fmt;
use std::str::FromStr;

use descriptor::Digest;

/// The longest repository name, host included (distribution/reference, `RepositoryNameTotalLengthMax`).
const NAME_LIMIT: usize = 255;
/// The longest tag (distribution-spec, "Pulling manifests").
const TAG_LIMIT: usize = 128;
/// Longer input is refused before it is looked at: name, tag, digest and their separators.
const INPUT_LIMIT: usize = NAME_LIMIT + 1 + TAG_LIMIT + 1 + 71;

const DEFAULT_HOST: &str = "docker.io";
const LEGACY_DEFAULT_HOST: &str = "index.docker.io";
const OFFICIAL_PREFIX: &str = "library/";
const DEFAULT_TAG: &str = "latest";

/// The host that serves `docker.io`'s API.
const DEFAULT_HOST_API: &str = "registry-1.docker.io";

/// A normalised reference: host always present, `library/` filled in, `latest` where neither tag nor digest was given.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    host: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a string is no reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no image reference: {reason}")]
pub struct ReferenceError {
    /// The string, cut where it is very long.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Reference {
    /// The registry as written or defaulted: `docker.io`, `registry.example:5000`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The `host[:port]` that serves the API: as [`Reference::host`], but for docker.io, whose API lives elsewhere.
    pub fn api_host(&self) -> &str {
        if self.host == DEFAULT_HOST { DEFAULT_HOST_API } else { &self.host }
    }

    /// The repository inside the registry: `library/debian`.
    pub fn repository(&self) -> &str {
        &self.path
    }

    /// The tag; absent where only a digest was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, where one was given.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// `host/repository` without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.host, self.path)
    }

    /// `host/repository@digest`: what was resolved, never moving.
    pub fn pinned(&self, digest: &Digest) -> String {
        format!("{}/{}@{digest}", self.host, self.path)
    }

    /// What the registry is asked for: the digest where there is one (it pins), else the tag.
    pub fn selector(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => DEFAULT_TAG.to_owned(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let wrong = |reason| ReferenceError { text: text.chars().take(80).collect(), reason };
        if text.len() > INPUT_LIMIT {
            return Err(wrong("it is too long"));
        }
        let (rest, digest) = split_digest(text).map_err(wrong)?;
        let (name, tag) = split_tag(rest).map_err(wrong)?;
        let (host, path) = split_host(name).map_err(wrong)?;
        check_path(&path).map_err(wrong)?;
        if host.len() + 1 + path.len() > NAME_LIMIT {
            return Err(wrong("the name is longer than 255 bytes"));
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some(DEFAULT_TAG.to_owned()),
        };
        Ok(Self { host, path, tag, digest })
    }
}

fn split_digest(text: &str) -> Result<(&str, Option<Digest>), &'static str> {
    let Some((rest, digest)) = text.split_once('@') else { return Ok((text, None)) };
    let digest =
        digest.parse().map_err(|_| "the digest is not sha256: and 64 lower case hexadecimal digits")?;
    Ok((rest, Some(digest)))
}

fn split_tag(rest: &str) -> Result<(&str, Option<&str>), &'static str> {
    // A colon before the last slash belongs to the host's port.
    let after_slash = rest.rfind('/').map_or(0, |at| at + 1);
    let Some(colon) = rest[after_slash..].find(':').map(|at| at + after_slash) else {
        return Ok((rest, None));
    };
    let tag = &rest[colon + 1..];
    check_tag(tag)?;
    Ok((&rest[..colon], Some(tag)))
}

fn check_tag(tag: &str) -> Result<(), &'static str> {
    let bytes = tag.as_bytes();
    let word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    match bytes.first() {
        None => Err("the tag is empty"),
        Some(first) if !word(first) => Err("a tag starts with a letter, a digit or _"),
        Some(_) if bytes.len() > TAG_LIMIT => Err("the tag is longer than 128 bytes"),
        Some(_) if bytes.iter().all(|b| word(b) || matches!(b, b'.' | b'-')) => Ok(()),
        Some(_) => Err("a tag holds letters, digits, _ . - and nothing else"),
    }
}

/// Docker's rule: the first component is a host where it has a dot, a colon or upper case, or is `localhost`.
fn split_host(name: &str) -> Result<(String, String), &'static str> {
    let host_and_path = name.split_once('/').filter(|(first, _)| {
        first.contains(['.', ':']) || *first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase())
    });
    let (host, path) = match host_and_path {
        Some((host, path)) => {
            check_host(host)?;
            (if host == LEGACY_DEFAULT_HOST { DEFAULT_HOST } else { host }, path)
        }
        None => (DEFAULT_HOST, name),
    };
    if host_and_path.is_none() && is_image_id(name) {
        return Err("64 hexadecimal digits are an image's id, not its name");
    }
    let official = host == DEFAULT_HOST && !path.contains('/') && !path.is_empty();
    let path = if official { format!("{OFFICIAL_PREFIX}{path}") } else { path.to_owned() };
    Ok((host.to_owned(), path))
}

fn is_image_id(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn check_host(host: &str) -> Result<(), &'static str> {
    if let Some(rest) = host.strip_prefix('[') {
        let (address, port) = rest.split_once(']').ok_or("the host's [ is not closed")?;
        address.parse::<std::net::Ipv6Addr>().map_err(|_| "what stands in [] is no IPv6 address")?;
        return match port.strip_prefix(':') {
            Some(port) => check_port(port),
            None if port.is_empty() => Ok(()),
            None => Err("only a port may follow the host's ]"),
        };
    }
    let (name, port) = host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port)));
    let label = |label: &str| {
        let bytes = label.as_bytes();
        let inner = |b: &u8| b.is_ascii_alphanumeric() || *b == b'-';
        !bytes.is_empty() && bytes.iter().all(inner) && bytes[0] != b'-' && bytes[bytes.len() - 1] != b'-'
    };
    if !name.split('.').all(label) {
        return Err("the host is no host name");
    }
    port.map_or(Ok(()), check_port)
}

fn check_port(port: &str) -> Result<(), &'static str> {
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(1..) if digits => Ok(()),
        _ => Err("the port is not a number from 1 to 65535"),
    }
}

fn check_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        return Err("the name is empty");
    }
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("a repository's name is lower case");
    }
    if path.split('/').all(is_component) {
        Ok(())
    } else {
        Err(
            "a repository's name is components of a-z and 0-9, joined inside by one . or _, by __ or by dashes",
        )
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(component: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    let separators = component.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    alphanumeric(first)
        && alphanumeric(last)
        && separators.into_iter().all(|s| matches!(s, "" | "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn references_are_normalised_as_docker_does() {
        let with_digest = format!("debian@sha256:{HEX}");
        let with_both = format!("debian:12@sha256:{HEX}");
        let table = [
            ("debian", "docker.io/library/debian:latest".to_owned()),
            ("debian:12", "docker.io/library/debian:12".to_owned()),
            ("index.docker.io/debian", "docker.io/library/debian:latest".to_owned()),
            ("docker.io/debian", "docker.io/library/debian:latest".to_owned()),
            ("user/app", "docker.io/user/app:latest".to_owned()),
            ("localhost/app", "localhost/app:latest".to_owned()),
            ("localhost:5000/app:v1", "localhost:5000/app:v1".to_owned()),
            ("127.0.0.1:5000/a/b/c:v1.2_3-x", "127.0.0.1:5000/a/b/c:v1.2_3-x".to_owned()),
            ("[::1]:5000/app", "[::1]:5000/app:latest".to_owned()),
            ("registry.example/app", "registry.example/app:latest".to_owned()),
            ("Registry/app", "Registry/app:latest".to_owned()),
            ("a__b/c---d/e.f_g", "docker.io/a__b/c---d/e.f_g:latest".to_owned()),
            (with_digest.as_str(), format!("docker.io/library/debian@sha256:{HEX}")),
            (with_both.as_str(), format!("docker.io/library/debian:12@sha256:{HEX}")),
        ];
        for (text, normal) in table {
            let reference: Reference = text.parse().unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(reference.to_string(), normal, "{text}");
            let again: Reference = normal.parse().unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(again, reference, "the normal form of {text} reads as itself");
        }
    }

    /// What is no reference whatever the lengths and digests.
    const NO_REFERENCES: &[&str] = &[
        HEX,
        "",
        ":",
        "@",
        "/",
        ":tag",
        "a:",
        "a@",
        "a:@",
        "a//b",
        "/a",
        "a/",
        "A",
        "user/App",
        "a b",
        "a:t t",
        "a:\u{e9}",
        "\u{e9}",
        "..",
        "../a",
        "a/../b",
        "a/.",
        "-a",
        "a-",
        "_a",
        "a_",
        "a..b",
        "a___b",
        "a._b",
        "a:-x",
        "a:.x",
        "host.example:/a",
        "host.example:0/a",
        "host.example:65536/a",
        "host.example:+80/a",
        "host.example:8x/a",
        "-host.example/a",
        "host-.example/a",
        "host..example/a",
        ".example/a",
        "u:p@host.example/a",
        "[::1/a",
        "[zz]/a",
        "[::1]x/a",
        "http://host.example/a",
        "docker://a",
        "a\n",
        "a\0",
        "a:b:c",
        "a:b/c",
        "a@md5:d41d8cd98f00b204e9800998ecf8427e",
        "a@sha256:../../x",
        "a?x=1",
        "a#b",
        "a%2e",
        "a\\b",
    ];

    #[test]
    fn strings_that_are_no_reference_are_refused() {
        let long_path = "a/".repeat(130) + "a";
        let long_tag = format!("a:{}", "t".repeat(129));
        let upper_digest = format!("a@sha256:{}", HEX.to_uppercase());
        let short_digest = format!("a@sha256:{}", &HEX[1..]);
        let climbing_digest = format!("a@sha256:{HEX}/..");
        let sha512 = format!("a@sha512:{HEX}{HEX}");
        let no_tag_after_digest = format!("a@sha256:{HEX}:tag");
        let made = [
            &long_path,
            &long_tag,
            &upper_digest,
            &short_digest,
            &climbing_digest,
            &sha512,
            &no_tag_after_digest,
        ];
        let made = made.into_iter().map(String::as_str);
        for text in NO_REFERENCES.iter().copied().chain(made) {
            assert!(text.parse::<Reference>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn what_is_taken_here_reads_the_same_in_oci_distribution() {
        let table = [
            "debian",
            "debian:12",
            "docker.io/debian",
            "user/app:1",
            "localhost:5000/app",
            "localhost/app",
            "a.b/c:d",
            "host.example:443/a__b/c---d:V1",
            "index.docker.io/library/x",
        ];
        for text in table {
            let ours: Reference = text.parse().unwrap_or_else(|e| panic!("{e}"));
            let theirs: oci_distribution::Reference = text.parse().unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(ours.to_string(), theirs.whole(), "{text}");
        }
    }

    #[test]
    fn docker_io_is_asked_at_its_api_host() {
        let hub: Reference = "debian".parse().unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((hub.host(), hub.api_host()), ("docker.io", "registry-1.docker.io"));
        let other: Reference = "localhost:5000/a".parse().unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((other.host(), other.api_host()), ("localhost:5000", "localhost:5000"));
    }

    #[test]
    fn a_digest_wins_over_a_tag_when_the_registry_is_asked() {
        let both: Reference = format!("a:t@sha256:{HEX}").parse().unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(both.selector(), format!("sha256:{HEX}"));
    }
}
