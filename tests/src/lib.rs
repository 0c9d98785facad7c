//! Whole pipelines against real parts; see tests/.
//!
//! Here: a world with a registry that holds one image, which most tests start from, and a stepper that ends a command or
//! fails it at any of its system calls.

#[cfg(target_arch = "x86_64")]
pub mod stepper;
pub mod traces;

use serde_json::Value;
use testkit::{Image, Outcome, Registry, World, Written, fixtures};

/// A private world and a real registry that holds an image as `test/image:1`.
pub struct Hub {
    /// The world.
    pub world: World,
    /// The registry.
    pub registry: Registry,
    /// The image as written.
    pub image: Written,
    /// How the registry names the image.
    pub reference: String,
}

impl Hub {
    /// A registry with the small system.
    pub fn busybox() -> Self {
        Self::of(&fixtures::busybox())
    }

    /// A registry with this image.
    pub fn of(image: &Image) -> Self {
        let mut world = World::new();
        let registry = Registry::start();
        let image = image.write(&world.path("layout"), "1");
        let reference = registry.push(&image, "test/image", "1");
        world.set("R", &reference);
        world.set("REGISTRY", &registry.address());
        Self { world, registry, image, reference }
    }

    /// The rootfs line of the image.
    pub fn rootfs(&self) -> Outcome {
        self.world.stages(&["oci-pull", &self.reference], &[&["oci-unpack"]]).ok()
    }

    /// A container line, made with these arguments of oci-mount.
    pub fn container(&self, args: &[&str]) -> Outcome {
        let rootfs = self.rootfs();
        let stage: Vec<&str> = ["oci-mount"].iter().chain(args).copied().collect();
        self.world.feed(stage[0], &stage[1..], &rootfs.stdout).ok()
    }

    /// Runs a shell command in the container of a line (`--pass`), and returns the line passed on.
    pub fn step(&self, line: &Outcome, script: &str) -> Outcome {
        self.world.feed("oci-spawn", &["--pass", "--", "sh", "-ec", script], &line.stdout).ok()
    }

    /// What oci-inspect knows of a container: its line, create.json, state and configuration.
    pub fn document(&self, name: &str) -> Value {
        let text = self.world.tool("oci-inspect", &["--format", "json", name]).ok().text();
        serde_json::from_str(&text).expect("a document")
    }

    /// Docker's document of a container or an image.
    pub fn docker(&self, name: &str) -> Value {
        let text = self.world.tool("oci-inspect", &["--format", "docker", name]).ok().text();
        let mut all: Vec<Value> = serde_json::from_str(&text).expect("an array");
        assert_eq!(all.len(), 1, "one document was wanted: {text}");
        all.remove(0)
    }

    /// The directory of a container of this world's store.
    pub fn bundle(&self, name: &str) -> std::path::PathBuf {
        let path = self.world.tool("oci-inspect", &["--field", "bundle", name]).ok().text();
        path.trim_end().into()
    }

    /// Removes containers, whether they run or not.
    pub fn remove(&self, names: &[&str]) {
        self.world.tool("oci-mount", &[&["--remove", "--force"], names].concat()).ok();
    }

    /// What a shell command in the container of a line prints.
    pub fn output(&self, line: &Outcome, script: &str) -> String {
        self.world.feed("oci-spawn", &["--", "sh", "-ec", script], &line.stdout).ok().text()
    }
}

/// The only layer's diffID of a manifest and config as skopeo shows them, or all of them.
pub fn diff_ids(config: &Value) -> Vec<String> {
    let ids = config["rootfs"]["diff_ids"].as_array().cloned().unwrap_or_default();
    ids.iter().filter_map(|id| id.as_str().map(str::to_owned)).collect()
}

/// A blob of a layout as JSON.
pub fn document(layout: &std::path::Path, digest: &str) -> Value {
    let bytes = std::fs::read(testkit::image::blob(layout, digest)).expect("the blob is there");
    serde_json::from_slice(&bytes).expect("the blob is JSON")
}

/// The config of the image whose manifest has this digest.
pub fn config(layout: &std::path::Path, manifest: &str) -> Value {
    let manifest = document(layout, manifest);
    document(layout, manifest["config"]["digest"].as_str().expect("a manifest names its config"))
}
