//! `--from NAME|REF`: another container, or an image of the store that is looked at without a container.

use cli::{During, Failure};
use descriptor::Exit;
use overlay::OpenRoot;
use store::{Container, Form, Lease, Store};
use sys::Root;

/// Where sources are read.
pub(crate) enum From {
    /// Another container.
    Container(Container),
    /// An image's tree, mounted for nobody else, and what keeps its layers.
    Image { root: Root, _lease: Lease },
}

/// Its root, open.
pub(crate) enum Opened<'a> {
    Container(OpenRoot),
    Image(&'a Root),
}

impl Opened<'_> {
    pub(crate) fn root(&self) -> &Root {
        match self {
            Self::Container(root) => root,
            Self::Image(root) => root,
        }
    }
}

impl From {
    /// Finds a container by name or id, else an image by reference.
    pub(crate) fn find(store: &Store, text: &str) -> Result<Self, Failure> {
        let what = || format!("--from {text:?}");
        let missing = match store.container(text) {
            Ok(container) => return Ok(Self::Container(container)),
            Err(error) => error,
        };
        if let store::Error::Ambiguous { .. } = missing {
            return Err(missing).during(what);
        }
        let found = registry::by_reference(store, text).during(what)?;
        let digest = match (found, text.parse()) {
            (Some((image, _)), _) => image.digest,
            (None, Ok(digest)) => digest,
            (None, Err(_)) => {
                return Err(Failure::new(
                    Exit::NotFound,
                    what(),
                    "no container and no image of this name in the store",
                )
                .with_hint(format!("oci-pull {text} | oci-unpack fetches an image")));
            }
        };
        let lease = store.lease();
        lease.touch(&digest).during(what)?;
        let image = store.image(&digest, Some(&descriptor::Platform::host())).during(what)?;
        Ok(Self::Image { root: view(store, &image, text)?, _lease: lease })
    }

    /// Its root, for reading.
    pub(crate) fn open(&self) -> overlay::Result<Opened<'_>> {
        Ok(match self {
            Self::Container(container) => Opened::Container(overlay::open_root(container)?),
            Self::Image { root, .. } => Opened::Image(root),
        })
    }

    /// The container's id.
    pub(crate) fn id(&self) -> Option<&str> {
        match self {
            Self::Container(container) => Some(container.id()),
            Self::Image { .. } => None,
        }
    }
}

/// An image's tree as one, read-only and attached nowhere.
fn view(store: &Store, image: &store::Image, text: &str) -> Result<Root, Failure> {
    let what = || format!("--from {text:?}");
    let mut trees = Vec::new();
    if let Some(chain_id) = image.chain_id()
        && let Some(fixes) = store.fixes(&chain_id).during(what)?
    {
        trees.push(fixes.path());
    }
    for diff_id in image.diff_ids.iter().rev() {
        let tree = store.layer(Form::Identity, diff_id).during(what)?;
        let tree = tree.ok_or_else(|| {
            Failure::new(Exit::NotFound, what(), format!("layer {diff_id} is not unpacked"))
                .with_hint(format!("oci-inspect {text} | oci-unpack"))
        })?;
        trees.push(tree.path());
    }
    let plan = overlay::Plan::of(store, trees).during(what)?;
    plan.view_alone(store).during(what)
}
