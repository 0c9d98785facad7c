//! Layers as trees: `layers/<form>/sha256/<diffID>/{tree/, layer.json}`, and `fixes/<chainID>/` of the same shape.
//!
//! A tree is keyed by what was verified, never by a tag or a compressed digest. It is made under a lock of its key,
//! alone, in a private directory, and appears whole: all data is on the disk before the first rename.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use descriptor::Digest;
use rustix::fs::FileType;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sys::lock::Lock;
use sys::{Call, Root};

use crate::files::{About, found};
use crate::staging::{StagedDir, discard, release_key};
use crate::{DocumentFault, Error, Result, Store, files};

/// What a tree's owners mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Form {
    /// The numbers in the layer are the numbers on disk.
    Identity,
}

/// What is known of a tree beside the tree: layer.json.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerMeta {
    /// The layer's diffID; of fixes, the chainID.
    pub diff_id: Digest,
    /// How many members its tar has.
    pub entries: u64,
    /// How many bytes of file content.
    pub bytes: u64,
    /// The directories that its tar does not name, relative to the root, in order; not always UTF-8.
    #[serde(serialize_with = "escape_all", deserialize_with = "unescape_all")]
    pub implied: Vec<Vec<u8>>,
    /// The directories that hold whiteouts, in the same form.
    #[serde(default, serialize_with = "escape_all", deserialize_with = "unescape_all")]
    pub masking: Vec<Vec<u8>>,
}

/// A tree that is there, whole.
#[derive(Debug)]
pub struct LayerTree {
    store: Store,
    /// Relative to the store.
    path: String,
    meta: LayerMeta,
}

/// The answer to a claim.
#[derive(Debug)]
pub enum Claim {
    /// The tree is there.
    Present(LayerTree),
    /// The caller makes it; others wait.
    Mine(LayerDraft),
}

/// A tree in the making; dropped unpublished, it is removed and the next in line makes it.
#[derive(Debug)]
pub struct LayerDraft {
    staged: StagedDir,
    tree: Root,
    target: String,
}

/// The most bytes of layer.json: a million implied directories do not occur.
const META_LIMIT: u64 = 64 << 20;

impl Form {
    /// The directory's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
        }
    }
}

fn layer_path(form: Form, diff_id: &Digest) -> String {
    format!("layers/{}/sha256/{}", form.as_str(), diff_id.hex())
}

fn fixes_path(chain_id: &Digest) -> String {
    format!("fixes/{}", chain_id.hex())
}

impl Store {
    /// A layer's tree, if it is there.
    ///
    /// # Errors
    /// [`Error::Document`] where its layer.json is unreadable, or a failed call.
    pub fn layer(&self, form: Form, diff_id: &Digest) -> Result<Option<LayerTree>> {
        self.tree(layer_path(form, diff_id), diff_id)
    }

    /// The diffIDs of all layers that are there as trees.
    ///
    /// # Errors
    /// A failed call.
    pub fn layers(&self, form: Form) -> Result<Vec<Digest>> {
        let names = files::names_in(self.dir(), &format!("layers/{}/sha256", form.as_str()))?;
        Ok(names.iter().filter_map(|name| Digest::from_hex(name).ok()).collect())
    }

    /// Asks for the right to make a layer's tree, waiting for another maker.
    ///
    /// Who claims several does so in the order of their digests, or two callers wait for each other for ever.
    ///
    /// # Errors
    /// As [`Store::layer`].
    pub fn claim_layer(&self, form: Form, diff_id: &Digest) -> Result<Claim> {
        let parent = format!("layers/{}", form.as_str());
        self.claim(layer_path(form, diff_id), diff_id, &[&parent, &format!("{parent}/sha256")])
    }

    /// The fixes of a stack of layers, if they are there.
    ///
    /// # Errors
    /// As [`Store::layer`].
    pub fn fixes(&self, chain_id: &Digest) -> Result<Option<LayerTree>> {
        self.tree(fixes_path(chain_id), chain_id)
    }

    /// Asks for the right to make the fixes of a stack, waiting for another maker.
    ///
    /// # Errors
    /// As [`Store::layer`].
    pub fn claim_fixes(&self, chain_id: &Digest) -> Result<Claim> {
        self.claim(fixes_path(chain_id), chain_id, &[])
    }

    /// Publishes several trees after a single flush of the file system; drafts whose tree is there already are dropped.
    ///
    /// # Errors
    /// A failed call; every tree is published whole or not at all.
    pub fn publish_layers(&self, drafts: Vec<(LayerDraft, LayerMeta)>) -> Result<Vec<LayerTree>> {
        if drafts.is_empty() {
            return Ok(Vec::new());
        }
        for (draft, meta) in &drafts {
            draft.describe(meta)?;
        }
        rustix::fs::syncfs(self.dir()).call("syncfs", String::new).about("layers")?;
        let mut trees = Vec::new();
        let mut parents = Vec::new();
        for (draft, meta) in drafts {
            let path = draft.target;
            draft.staged.publish(&path)?;
            parents.push(path.rsplit_once('/').map(|(parent, _)| parent.to_string()).unwrap_or_default());
            trees.push(LayerTree { store: self.clone(), path, meta });
        }
        parents.dedup();
        for parent in parents {
            files::sync_parent(self.dir(), &format!("{parent}/"))?;
        }
        Ok(trees)
    }

    fn tree(&self, path: String, id: &Digest) -> Result<Option<LayerTree>> {
        let file = format!("{path}/layer.json");
        let Some(bytes) = files::read_bounded(self.dir(), &file, META_LIMIT)? else { return Ok(None) };
        let meta: LayerMeta = serde_json::from_slice(&bytes).map_err(|e| Error::document(&file, e))?;
        if meta.diff_id != *id {
            let fault = DocumentFault::Rule(format!("it is of {}", meta.diff_id));
            return Err(Error::document(&file, fault));
        }
        Ok(Some(LayerTree { store: self.clone(), path, meta }))
    }

    fn claim(&self, target: String, id: &Digest, parents: &[&str]) -> Result<Claim> {
        if let Ok(Some(tree)) = self.tree(target.clone(), id) {
            return Ok(Claim::Present(tree));
        }
        let key = target.replace('/', "-");
        let lock: Lock = StagedDir::claim(self, &key)?;
        match self.tree(target.clone(), id) {
            Ok(Some(tree)) => {
                release_key(self, &key, lock)?;
                return Ok(Claim::Present(tree));
            }
            // Damaged: what stands there is in the way of a whole one.
            Ok(None) | Err(Error::Document { .. } | Error::WrongKind { .. }) => discard(self, &target)?,
            Err(e) => return Err(e),
        }
        for parent in parents {
            files::make_dir(self.dir(), parent)?;
        }
        let staged = StagedDir::under(self, key, lock)?;
        files::make_dir(staged.root(), "tree")?;
        let tree = staged.root().open_dir("tree").about(&target)?;
        Ok(Claim::Mine(LayerDraft { staged, tree, target }))
    }

    /// The published trees: their paths relative to the store.
    pub(crate) fn tree_paths(&self) -> Result<Vec<String>> {
        let mut paths = Vec::new();
        for form in files::names_in(self.dir(), "layers")? {
            let parent = format!("layers/{form}/sha256");
            paths.extend(files::names_in(self.dir(), &parent)?.iter().map(|name| format!("{parent}/{name}")));
        }
        paths.extend(files::names_in(self.dir(), "fixes")?.iter().map(|name| format!("fixes/{name}")));
        Ok(paths)
    }

    /// Reads a published tree's description again and looks whether the tree is beside it.
    pub(crate) fn check_tree(&self, path: &str) -> Result<()> {
        let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
        let rule = |text: &str| Error::document(path, DocumentFault::Rule(text.into()));
        let id = Digest::from_hex(name).map_err(|e| rule(&e.to_string()))?;
        let meta = self.tree(path.to_string(), &id)?.ok_or_else(|| rule("a tree without layer.json"))?.meta;
        let file = format!("{path}/layer.json");
        let bytes = files::read_bounded(self.dir(), &file, META_LIMIT)?.unwrap_or_default();
        // It is written in one way only: any other byte is damage.
        if serde_json::to_vec(&meta).ok() != Some(bytes) {
            return Err(rule("layer.json is not as it was written"));
        }
        let is_empty =
            meta.entries == 0 && meta.bytes == 0 && meta.implied.is_empty() && meta.masking.is_empty();
        if path.starts_with("fixes/") && !is_empty {
            return Err(rule("layer.json of fixes describes a layer"));
        }
        for dir in meta.implied.iter().chain(&meta.masking) {
            let at = std::path::Path::new(path).join("tree").join(std::ffi::OsStr::from_bytes(dir));
            let stat = found(files::lstat(self.dir(), &at)).about(path)?;
            if !stat.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir()) {
                return Err(rule("layer.json names a directory that the tree lacks"));
            }
        }
        let tree = found(files::lstat(self.dir(), format!("{path}/tree"))).about(path)?;
        match tree.map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            Some(FileType::Directory) => Ok(()),
            _ => Err(rule("layer.json without a tree")),
        }
    }
}

impl LayerTree {
    /// The tree's absolute path, for a mount.
    pub fn path(&self) -> PathBuf {
        self.store.path().join(&self.path).join("tree")
    }

    /// The tree.
    ///
    /// # Errors
    /// A failed call.
    pub fn root(&self) -> Result<Root> {
        let path = format!("{}/tree", self.path);
        self.store.dir().open_dir(&path).about(&path)
    }

    /// What is known of it.
    pub fn meta(&self) -> &LayerMeta {
        &self.meta
    }
}

impl LayerDraft {
    /// The empty tree: private, mode 0700 until its root gets its own.
    pub fn root(&self) -> &Root {
        &self.tree
    }

    /// Publishes this tree alone; of several, [`Store::publish_layers`] is cheaper.
    ///
    /// # Errors
    /// A failed call; nothing is published then.
    pub fn publish(self, store: &Store, meta: LayerMeta) -> Result<LayerTree> {
        let path = self.target.clone();
        let known = meta.clone();
        let tree = store.publish_layers(vec![(self, meta)])?.pop();
        Ok(tree.unwrap_or(LayerTree { store: store.clone(), path, meta: known }))
    }

    fn describe(&self, meta: &LayerMeta) -> Result<()> {
        let json = serde_json::to_vec(meta).map_err(|e| Error::document("layer.json", e))?;
        files::replace(self.staged.root(), "layer.json", &json, files::Durable::No)
    }
}

/// Bytes as text: what is no printable ASCII, and `%`, as `%XX`.
fn escape(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for &byte in path {
        match byte {
            b'%' | ..=b' ' | 0x7f.. => text.push_str(&format!("%{byte:02X}")),
            _ => text.push(char::from(byte)),
        }
    }
    text
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut path = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            path.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16));
        path.push((digit()? * 16 + digit()?) as u8);
    }
    Some(path)
}

fn escape_all<S: Serializer>(paths: &[Vec<u8>], serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_seq(paths.iter().map(|path| escape(path)))
}

fn unescape_all<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<Vec<u8>>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let paths: Option<Vec<Vec<u8>>> = texts.iter().map(|text| unescape(text)).collect();
    paths.ok_or_else(|| serde::de::Error::custom("a path with a broken %XX"))
}
