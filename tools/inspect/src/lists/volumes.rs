//! Volumes: docker's `volume ls`.

use cli::{During, Failure};
use serde_json::json;
use store::Store;
use store::filter::{Filters, Of};

use crate::args::VolumesArgs;
use crate::lists::{no_lines, tell, tell_ids};
use crate::table::{Column, fixed};

const COLUMNS: [(Column, &str); 2] = [(fixed("DRIVER"), "Driver"), (fixed("VOLUME NAME"), "Name")];

/// Shows them, by name.
pub(crate) fn volumes(store: &Store, args: &VolumesArgs, names_only: bool) -> Result<(), Failure> {
    no_lines(&args.form)?;
    let what = || "volumes".to_string();
    let filters = Filters::parse(Of::Volumes, &args.filter).during(what)?;
    let mut rows = Vec::new();
    for volume in store.volumes().during(what)? {
        if !filters.volume(&volume).during(what)? {
            continue;
        }
        let labels = volume.doc().labels.iter().map(|(key, value)| format!("{key}={value}"));
        rows.push(json!({
            "Availability": "N/A", "CreatedAt": volume.doc().created_at, "Driver": "local", "Group": "N/A",
            "Labels": labels.collect::<Vec<_>>().join(","), "Links": "N/A",
            "Mountpoint": volume.path().display().to_string(), "Name": volume.name(), "Scope": "local",
            "Size": "N/A", "Status": "N/A",
        }));
    }
    if names_only {
        return tell_ids(&rows, "Name");
    }
    tell(&rows, &args.form, &COLUMNS)
}
