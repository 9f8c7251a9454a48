//! Writing JSON text.
//!
//! Values are written by `model::json`, which keeps types and versions exactly; here is only the
//! frame around them.

use in_mem_client::model::json;
use in_mem_client::model::{Value, Version};

/// An object of fields that are JSON already, in this order.
pub(crate) fn object<'a>(fields: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let fields = fields
        .into_iter()
        .map(|(name, value)| format!("{}:{value}", string(name)));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
}

/// An array of items that are JSON already.
pub(crate) fn array(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(","))
}

/// A string.
pub(crate) fn string(text: &str) -> String {
    json::string_to_text(text)
}

/// A string, or null.
pub(crate) fn optional_string(text: Option<&str>) -> String {
    text.map_or_else(null, string)
}

/// A value.
pub(crate) fn value(value: &Value) -> String {
    json::to_text(value)
}

/// A value, or the mark of its absence.
pub(crate) fn value_or_absent(found: Option<&Value>) -> String {
    found.map_or_else(|| json::ABSENT_TEXT.to_owned(), value)
}

/// A version with its flavour.
pub(crate) fn version(version: Version) -> String {
    object([
        ("type", string(version.flavour())),
        ("value", version.number().to_string()),
    ])
}

/// Null.
pub(crate) fn null() -> String {
    "null".to_owned()
}
