//! The local API as JSON Schema (draft 2020-12).
//!
//! The text is made from the types that read and write the lines, by `generator.rs` when tests run, and kept in
//! `docs/schema/`. So the daemon carries the text, and neither the generator nor a library for it.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

#[cfg(test)]
mod generator;
#[cfg(test)]
mod tighten;

/// The schema of a line of the API, in either direction, with everything that it is made of under `$defs`.
///
/// `$defs` has the methods and notifications by their names, each as an object with `params` and, for a method,
/// `result`; and the types by names like `EmitParams`, `LifecycleConnect` and `Snapshot`.
pub const WHOLE: &str = include_str!("../../docs/schema/siod.schema.json");

const DEFINITIONS: &str = "$defs";

/// What [`of`] takes: methods and notifications first, then types.
pub fn names() -> Vec<String> {
    let whole = whole();
    let definitions = definitions(&whole);
    let (own, types): (Vec<_>, Vec<_>) = definitions.keys().cloned().partition(|name| is_own_name(name));
    own.into_iter().chain(types).collect()
}

/// The schema of one method, notification or type, which stands for itself.
pub fn of(name: &str) -> Option<String> {
    extract(&whole(), name)
}

/// A method or a notification rather than a type.
fn is_own_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
}

fn whole() -> Value {
    // A test makes the text and reads it again.
    serde_json::from_str(WHOLE).unwrap_or_default()
}

fn definitions(whole: &Value) -> Map<String, Value> {
    whole.get(DEFINITIONS).and_then(Value::as_object).cloned().unwrap_or_default()
}

fn extract(whole: &Value, name: &str) -> Option<String> {
    let all = definitions(whole);
    let mut root = all.get(name)?.as_object()?.clone();
    let (mut needed, mut unseen) = (BTreeSet::new(), vec![Value::Object(root.clone())]);
    while let Some(value) = unseen.pop() {
        for name in references(&value) {
            if needed.insert(name.to_owned()) {
                unseen.extend(all.get(name).cloned());
            }
        }
    }
    let needed: Map<_, _> = all.into_iter().filter(|(name, _)| needed.contains(name)).collect();
    if !needed.is_empty() {
        root.insert(DEFINITIONS.into(), needed.into());
    }
    root.insert("$schema".into(), json!(whole.get("$schema")));
    root.insert("title".into(), name.into());
    Some(text(&root.into()))
}

/// The names of the definitions that a schema refers to itself.
fn references(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(members) => {
            let own = members.get("$ref").and_then(Value::as_str);
            let own = own.and_then(|place| place.strip_prefix("#/$defs/"));
            own.into_iter().chain(members.values().flat_map(references)).collect()
        }
        Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

fn text(schema: &Value) -> String {
    format!("{schema:#}\n")
}
