//! What schemars leaves open and this API does not.

use schemars::Schema;
use serde_json::{Map, Value, json};

/// Which side writes it.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum By {
    Program,
    Daemon,
}

/// The schema of what one side writes, to the member.
pub(super) fn finish(schema: Schema, by: By) -> Value {
    let mut schema = schema.to_value();
    tighten(&mut schema, by);
    schema
}

fn tighten(schema: &mut Value, by: By) {
    let Some(members) = schema.as_object_mut() else { return };
    // Formats of numbers are schemars' own, and strict validators take offence at them.
    let format = members.get("format").and_then(Value::as_str).map(str::to_owned);
    if let Some(format) = format.filter(|format| format != "date-time") {
        members.remove("format");
        let most = match format.as_str() {
            "uint16" => Some(u64::from(u16::MAX)),
            "uint32" => Some(u64::from(u32::MAX)),
            "uint64" | "uint" if by == By::Program => Some(u64::MAX),
            _ => None,
        };
        if let Some(most) = most {
            members.entry("maximum").or_insert(most.into());
        }
    }
    if let Some(Value::String(description)) = members.get_mut("description") {
        *description = description.replace('\n', " ");
    }
    members.retain(|name, value| {
        !matches!(
            (name.as_str(), &*value),
            ("default", Value::Null) | ("items" | "additionalProperties", Value::Bool(true))
        )
    });
    // The daemon writes no object of which the types do not know all members; a program may, like an auth object.
    let is_known = by == By::Daemon || members.contains_key("properties");
    if is_known && members.get("type").is_some_and(|it| it == "object") {
        members.entry("additionalProperties").or_insert(false.into());
    }
    if by == By::Daemon {
        never_null(members);
    }
    for (name, value) in members.iter_mut() {
        match (name.as_str(), value) {
            ("properties", Value::Object(schemas)) => {
                for schema in schemas.values_mut() {
                    tighten(schema, by);
                }
            }
            ("oneOf" | "anyOf", Value::Array(schemas)) => {
                for schema in schemas {
                    tighten(schema, by);
                }
            }
            ("items" | "additionalProperties", schema) => tighten(schema, by),
            _ => {}
        }
    }
}

/// A member that the daemon leaves out where it has nothing to say is not null.
fn never_null(object: &mut Map<String, Value>) {
    let required = object.get("required").cloned().unwrap_or_default();
    let is_required = |name: &String| required.as_array().is_some_and(|all| all.contains(&json!(name)));
    let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) else { return };
    for (_, schema) in properties.iter_mut().filter(|(name, _)| !is_required(name)) {
        let Some(members) = schema.as_object_mut() else { continue };
        if let Some(Value::Array(types)) = members.get_mut("type") {
            types.retain(|it| it != "null");
            if let [only] = types.as_slice() {
                let only = only.clone();
                members.insert("type".into(), only);
            }
        }
        if let Some(Value::Array(any)) = members.get_mut("anyOf") {
            any.retain(|it| it["type"] != "null");
            if let [Value::Object(only)] = any.as_slice() {
                let only = only.clone();
                members.remove("anyOf");
                members.extend(only);
            }
        }
    }
}
