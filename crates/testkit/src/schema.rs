//! Every line that a test sees is held against its JSON Schema from schemas/.

use serde_json::Value;
use std::sync::LazyLock;

/// The longest line, with its newline.
pub const LONGEST: usize = 4096;

struct Schema {
    name: String,
    document: Value,
    validator: jsonschema::Validator,
}

static SCHEMAS: LazyLock<Vec<Schema>> = LazyLock::new(|| {
    let dir = crate::world::workspace().join("schemas");
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let files = entries.flatten().map(|entry| entry.path());
    files.filter(|path| path.extension().is_some_and(|end| end == "json")).map(|path| load(&path)).collect()
});

fn load(path: &std::path::Path) -> Schema {
    let bytes = std::fs::read(path).expect("a schema can be read");
    let document: Value =
        serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let validator =
        jsonschema::validator_for(&document).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Schema { name: path.display().to_string(), document, validator }
}

/// True where the bytes look like one of our lines: a JSON object with a media type that is not a whole document.
pub fn is_line(line: &[u8]) -> bool {
    let parsed: Option<Value> = serde_json::from_slice(line).ok();
    parsed.is_some_and(|value| value["mediaType"].is_string() && value.get("schemaVersion").is_none())
}

/// Parses a line and panics unless it is in bounds and satisfies the schema of its media type. A document names its schema
/// itself and may be longer.
pub fn validated(line: &[u8]) -> Value {
    let shown = String::from_utf8_lossy(line);
    let value: Value = serde_json::from_slice(line).unwrap_or_else(|e| panic!("not a line: {e}: {shown:?}"));
    if let Some(id) = value["schema"].as_str() {
        let schema = SCHEMAS.iter().find(|schema| schema.document["$id"] == id);
        return checked(
            schema.unwrap_or_else(|| panic!("no schema under schemas/ is {id:?}: {shown}")),
            value,
        );
    }
    assert!(line.len() < LONGEST, "a line of {} bytes: {shown}", line.len() + 1);
    let media_type = value["mediaType"].as_str().unwrap_or_else(|| panic!("no mediaType: {shown}"));
    let schema = SCHEMAS
        .iter()
        .find(|schema| names(&schema.document, media_type))
        .unwrap_or_else(|| panic!("no schema under schemas/ is for {media_type:?}: {shown}"));
    checked(schema, value)
}

fn checked(schema: &Schema, value: Value) -> Value {
    let errors: Vec<String> =
        schema.validator.iter_errors(&value).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(errors.is_empty(), "{} refuses {value}\n{}", schema.name, errors.join("\n"));
    value
}

/// The schemas of lines alone: a document has the members of a line, and more.
fn names(schema: &Value, media_type: &str) -> bool {
    if schema["properties"].get("schema").is_some() {
        return false;
    }
    let member = &schema["properties"]["mediaType"];
    member["const"] == media_type
        || member["enum"].as_array().is_some_and(|types| types.iter().any(|one| one == media_type))
}
