//! What is shared and what is not: the layers as a list, and as a picture with images and containers on them.

use std::collections::BTreeMap;

use cli::{Failure, escaped};
use descriptor::Digest;
use serde_json::{Value, json};
use store::{Seen, Store};

use crate::args::{LayersArgs, TreeArgs};
use crate::docker;
use crate::find::{Thing, find};
use crate::lists::{no_lines, tell, tell_ids};
use crate::output;
use crate::sharing::Sharing;
use crate::table::{Column, fixed, flexible};
use crate::text::{shown_id, size};

const COLUMNS: [(Column, &str); 5] = [
    (fixed("LAYER"), "ID"),
    (fixed("SIZE"), "Size"),
    (fixed("IMAGES"), "Images"),
    (fixed("CONTAINERS"), "Containers"),
    (flexible("USED BY", 12), "UsedBy"),
];

/// Shows the layers of an image, the lowest first, or all.
pub(crate) fn layers(store: &Store, args: &LayersArgs, ids_only: bool) -> Result<(), Failure> {
    no_lines(&args.form)?;
    let sharing = Sharing::of(store, &mut Seen::new())?;
    let wanted: Vec<Digest> = match &args.image {
        None => sharing.layers.keys().copied().collect(),
        Some(name) => chain(store, name)?,
    };
    let rows: Vec<Value> = wanted.iter().map(|layer| row(&sharing, layer, args.form.no_trunc)).collect();
    if ids_only { tell_ids(&rows, "ID") } else { tell(&rows, &args.form, &COLUMNS) }
}

/// The layers of an image or of a container.
fn chain(store: &Store, name: &str) -> Result<Vec<Digest>, Failure> {
    use cli::During;
    let what = || format!("{name:?}");
    match find(store, name)? {
        Thing::Image(line) => Ok(store.image(&line.descriptor.digest, None).during(what)?.diff_ids),
        Thing::Container(one) => Ok(one.create().during(what)?.diff_ids),
        Thing::Layer(_) | Thing::Volume(_) => {
            Err(Failure::usage(what(), "it is neither an image nor a container"))
        }
    }
}

fn row(sharing: &Sharing, layer: &Digest, whole: bool) -> Value {
    let bytes = sharing.layers.get(layer);
    let images = sharing.images.iter().filter(|image| image.layers.contains(layer));
    let users: Vec<String> = images.map(|image| name_of(&image.names, &image.digest)).collect();
    json!({
        "ID": shown_id(&layer.to_string(), whole),
        "Size": bytes.map_or_else(|| "not unpacked".into(), |bytes| size(*bytes)), "Bytes": bytes,
        "Images": sharing.images_with(layer), "Containers": sharing.containers_with(layer),
        "UsedBy": users.join(", "),
    })
}

fn name_of(names: &[String], digest: &Digest) -> String {
    if names.is_empty() { shown_id(&digest.to_string(), false) } else { names.join(", ") }
}

/// Layers that lie upon the same ones.
#[derive(Default)]
struct Node {
    layers: BTreeMap<Digest, Node>,
    /// Indices of the images and containers whose uppermost layer this is.
    images: Vec<usize>,
    containers: Vec<usize>,
}

impl Node {
    fn at(&mut self, chain: &[Digest]) -> &mut Self {
        chain.iter().fold(self, |node, layer| node.layers.entry(*layer).or_default())
    }
}

/// Draws the images as a tree of layers, the lowest to the left, with the containers on top.
pub(crate) fn tree(store: &Store, args: &TreeArgs) -> Result<(), Failure> {
    let mut sharing = Sharing::of(store, &mut Seen::new())?;
    if let Some(name) = &args.image {
        let wanted = chain(store, name)?;
        let related = |layers: &[Digest]| layers.first() == wanted.first();
        sharing.images.retain(|image| related(&image.layers));
        sharing.containers.retain(|one| related(&one.layers));
        let used = |layer: &Digest| sharing.images_with(layer) + sharing.containers_with(layer) > 0;
        let layers = sharing.layers.iter().filter(|(layer, _)| used(layer));
        sharing.layers = layers.map(|(layer, bytes)| (*layer, *bytes)).collect();
    }
    let mut root = Node::default();
    for (index, image) in sharing.images.iter().enumerate() {
        root.at(&image.layers).images.push(index);
    }
    for (index, container) in sharing.containers.iter().enumerate() {
        root.at(&container.layers).containers.push(index);
    }
    let picture = Picture { sharing: &sharing };
    let mut lines = Vec::new();
    picture.all(&root, &mut lines);
    let width = output::width();
    let text: String = lines
        .into_iter()
        .map(|line| width.map_or_else(|| line.clone(), |width| crate::text::cut(&line, width)) + "\n")
        .collect();
    cli::answer(format!("{text}{}\n", picture.sum()).as_bytes())
}

struct Picture<'a> {
    sharing: &'a Sharing,
}

impl Picture<'_> {
    /// The lowest layers, and containers of no layer.
    fn all(&self, root: &Node, lines: &mut Vec<String>) {
        lines.extend(root.containers.iter().map(|&index| self.container(index)));
        for (layer, inner) in &root.layers {
            self.layer(layer, inner, "", "", lines);
        }
    }

    /// What lies upon a node: its containers, then further layers.
    fn inside(&self, node: &Node, indent: &str, lines: &mut Vec<String>) {
        let count = node.containers.len() + node.layers.len();
        let branch = |at: usize| {
            if at + 1 == count { ("\u{2514}\u{2500} ", "   ") } else { ("\u{251c}\u{2500} ", "\u{2502}  ") }
        };
        for (at, &index) in node.containers.iter().enumerate() {
            lines.push(format!("{indent}{}{}", branch(at).0, self.container(index)));
        }
        for (at, (layer, inner)) in node.layers.iter().enumerate() {
            let (first, rest) = branch(node.containers.len() + at);
            self.layer(layer, inner, &format!("{indent}{first}"), &format!("{indent}{rest}"), lines);
        }
    }

    fn container(&self, index: usize) -> String {
        let one = &self.sharing.containers[index];
        format!("container {}  {}  {}", escaped(&one.name), size(one.bytes), docker::status(one.status))
    }

    /// A layer, the images it completes, and what lies upon it; a layer that alone lies upon it stands below it.
    fn layer(&self, layer: &Digest, node: &Node, first: &str, rest: &str, lines: &mut Vec<String>) {
        let bytes =
            self.sharing.layers.get(layer).map_or_else(|| "not unpacked".into(), |bytes| size(*bytes));
        let users =
            [(self.sharing.images_with(layer), "image"), (self.sharing.containers_with(layer), "container")];
        let users: Vec<String> = users
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, word)| format!("{count} {word}{}", if *count == 1 { "" } else { "s" }))
            .collect();
        let users = if users.is_empty() { "nobody".into() } else { users.join(", ") };
        lines.push(format!("{first}layer {}  {bytes}  {users}", shown_id(&layer.to_string(), false)));
        for &index in &node.images {
            let image = &self.sharing.images[index];
            lines.push(format!("{rest}image {}", escaped(&name_of(&image.names, &image.digest))));
        }
        let alone = node.containers.is_empty() && node.images.is_empty() && node.layers.len() == 1;
        match node.layers.iter().next().filter(|_| alone) {
            Some((next, inner)) => self.layer(next, inner, rest, rest, lines),
            None => self.inside(node, rest, lines),
        }
    }

    fn sum(&self) -> String {
        let layers: u64 = self.sharing.layers.values().sum();
        let own: u64 = self.sharing.containers.iter().map(|one| one.bytes).sum();
        let apart = |layers: &[Digest]| self.sharing.bytes_of(layers);
        let images: u64 = self.sharing.images.iter().map(|image| apart(&image.layers)).sum();
        let containers: u64 = self.sharing.containers.iter().map(|one| apart(&one.layers)).sum();
        format!(
            "layers {}, containers' own {}, together {}; without sharing {}",
            size(layers),
            size(own),
            size(layers + own),
            size(images + containers + own)
        )
    }
}
