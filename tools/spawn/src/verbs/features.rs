//! `features`: what this runtime can do, for who chooses one.

use crate::verbs::Result;
use crate::verbs::print;

/// Prints them as runtime-spec's features.md has it.
pub(crate) fn features() -> Result<u8> {
    let mut features = runtime::features();
    features["annotations"] = serde_json::json!({
        "org.opencontainers.runc.checkpoint.enabled": "false",
        "run.oci-spawn.version": env!("CARGO_PKG_VERSION"),
    });
    print::line(serde_json::to_string_pretty(&features).unwrap_or_default())?;
    Ok(0)
}
