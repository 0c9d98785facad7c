//! A real registry (Debian's docker-registry) on a free loopback port, with its own storage and a readable access log.

use crate::http::{self, Answer};
use crate::image::{Written, blob};
use serde_json::Value;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// User name and password that [`Registry::with_login`] accepts.
pub const LOGIN: (&str, &str) = ("tester", "s3cret-pass");
/// bcrypt of the password above (docker-registry takes no other form).
const HTPASSWD: &str = "tester:$2y$05$Eav8yktSMhm8A8/tngPYDORz/Y9U/xcmiLOR1gfGqELFAOq7.79gq\n";

/// A running registry; it ends, and its storage goes, when dropped.
pub struct Registry {
    child: Child,
    address: SocketAddr,
    dir: tempfile::TempDir,
    login: bool,
}

impl Registry {
    /// A registry open to everybody.
    pub fn start() -> Self {
        Self::launch(false)
    }

    /// A registry that wants Basic authentication with [`LOGIN`].
    pub fn with_login() -> Self {
        Self::launch(true)
    }

    fn launch(login: bool) -> Self {
        let mut dir = tempfile::tempdir().expect("a temporary directory");
        for _ in 0..5 {
            let address = free_port();
            let child = spawn(dir.path(), address, login);
            let mut registry = Self { child, address, dir, login };
            if registry.answers() {
                return registry;
            }
            drop(registry.child.kill());
            drop(registry.child.wait());
            dir = std::mem::replace(&mut registry.dir, tempfile::tempdir().expect("a temporary directory"));
        }
        panic!("docker-registry did not start; its log: {}", log(dir.path()));
    }

    fn answers(&mut self) -> bool {
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until {
            if http::ask(self.address, "GET", "/v2/", &[], b"").is_some_and(|a| matches!(a.status, 200 | 401))
            {
                return true;
            }
            if !matches!(self.child.try_wait(), Ok(None)) {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// `127.0.0.1:port/name`.
    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// The access log so far, one request a line.
    pub fn log(&self) -> String {
        log(self.dir.path())
    }

    /// How often a blob was fetched with GET and served in whole or in part.
    pub fn downloads(&self, digest: &str) -> usize {
        let wanted = format!("/blobs/{digest} ");
        self.log().lines().filter(|line| line.contains("\"GET ") && line.contains(&wanted)).count()
    }

    /// The file in which the registry keeps a blob, for tests that spoil it.
    pub fn blob_file(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        let below = format!("storage/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
        self.dir.path().join(below)
    }

    /// Uploads an image exactly as written, and tags it; returns its reference.
    pub fn push(&self, image: &Written, name: &str, tag: &str) -> String {
        let manifest = std::fs::read(blob(&image.layout, &image.manifest)).expect("the manifest was written");
        let document: Value = serde_json::from_slice(&manifest).expect("the manifest is JSON");
        for descriptor in document["layers"].as_array().into_iter().flatten().chain([&document["config"]]) {
            let digest = descriptor["digest"].as_str().expect("a descriptor has a digest");
            self.upload(name, digest, &std::fs::read(blob(&image.layout, digest)).expect("a written blob"));
        }
        let media_type = document["mediaType"].as_str().unwrap_or(crate::image::MANIFEST);
        self.put_manifest(name, tag, media_type, &manifest);
        self.reference(&format!("{name}:{tag}"))
    }

    /// Uploads a layout made by another tool, by the first manifest of its index.
    pub fn push_layout(&self, layout: &Path, name: &str, tag: &str) -> String {
        let index = std::fs::read(layout.join("index.json")).expect("a layout has an index");
        let index: Value = serde_json::from_slice(&index).expect("the index is JSON");
        let manifest =
            index["manifests"][0]["digest"].as_str().expect("the index lists a manifest").to_owned();
        let written = Written {
            layout: layout.to_owned(),
            manifest,
            config: String::new(),
            layers: Vec::new(),
            diff_ids: Vec::new(),
        };
        self.push(&written, name, tag)
    }

    /// Uploads one blob.
    pub fn upload(&self, name: &str, digest: &str, bytes: &[u8]) {
        let begun = self.ask("POST", &format!("/v2/{name}/blobs/uploads/"), &[], b"");
        let place = begun.headers.iter().find(|(key, _)| key == "location").map(|(_, value)| value.clone());
        let place = place.unwrap_or_else(|| panic!("no upload location: {begun:?}"));
        let path =
            place.split_once("//").map_or(place.as_str(), |(_, rest)| &rest[rest.find('/').unwrap_or(0)..]);
        let joint = if path.contains('?') { '&' } else { '?' };
        let octets = [("content-type", "application/octet-stream")];
        let done = self.ask("PUT", &format!("{path}{joint}digest={digest}"), &octets, bytes);
        assert_eq!(done.status, 201, "upload of {digest}: {}", String::from_utf8_lossy(&done.body));
    }

    /// Uploads a manifest or an index under a tag.
    pub fn put_manifest(&self, name: &str, tag: &str, media_type: &str, bytes: &[u8]) {
        let target = format!("/v2/{name}/manifests/{tag}");
        let done = self.ask("PUT", &target, &[("content-type", media_type)], bytes);
        assert_eq!(done.status, 201, "manifest: {}", String::from_utf8_lossy(&done.body));
    }

    /// The manifest under a tag, exact bytes; `None` when there is none.
    pub fn manifest(&self, name: &str, tag: &str) -> Option<Vec<u8>> {
        let accept = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                      application/vnd.docker.distribution.manifest.v2+json";
        let answer = self.ask("GET", &format!("/v2/{name}/manifests/{tag}"), &[("accept", accept)], b"");
        (answer.status == 200).then_some(answer.body)
    }

    fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut headers = headers.to_vec();
        if self.login {
            headers.push(("authorization", "Basic dGVzdGVyOnMzY3JldC1wYXNz"));
        }
        http::ask(self.address, method, target, &headers, body).expect("the registry answers")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free loopback port");
    listener.local_addr().expect("a bound socket has an address")
}

fn log(dir: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(dir.join("log")).unwrap_or_default()).into_owned()
}

fn spawn(dir: &Path, address: SocketAddr, login: bool) -> Child {
    let storage = dir.join("storage");
    let mut config = format!(
        "version: 0.1\nlog:\n  level: warn\n  accesslog:\n    disabled: false\nstorage:\n  filesystem:\n    \
         rootdirectory: {}\n  delete:\n    enabled: true\nhttp:\n  addr: {address}\n",
        storage.display()
    );
    if login {
        let passwords = dir.join("htpasswd");
        std::fs::write(&passwords, HTPASSWD).expect("the password file can be written");
        config.push_str(&format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", passwords.display()));
    }
    let path = dir.join("config.yml");
    std::fs::write(&path, config).expect("the configuration can be written");
    let log = std::fs::File::create(dir.join("log")).expect("the log can be made");
    Command::new("docker-registry")
        .arg("serve")
        .arg(path)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a descriptor more"))
        .stderr(log)
        .spawn()
        .expect("docker-registry is installed (probe for it first)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Image, Packing, tar};

    #[test]
    fn the_access_log_counts_downloads() {
        crate::needs!(Program("docker-registry"));
        let dir = tempfile::tempdir().expect("a temporary directory");
        let layer = tar::archive(&[tar::file("hello", "world")]);
        let image = Image::new().layer(layer, Packing::Gzip).write(dir.path(), "x");
        for registry in [Registry::start(), Registry::with_login()] {
            registry.push(&image, "some/name", "1");
            let manifest = registry.manifest("some/name", "1").expect("the pushed manifest");
            assert_eq!(crate::digest(&manifest), image.manifest);
            let blob = &image.layers[0];
            assert_eq!(registry.downloads(blob), 0);
            registry.ask("GET", &format!("/v2/some/name/blobs/{blob}"), &[], b"");
            assert_eq!(registry.downloads(blob), 1, "{}", registry.log());
            assert!(registry.blob_file(blob).exists());
        }
    }
}
