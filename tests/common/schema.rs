//! Holds what is said at the local API against the JSON Schema that the project gives out: every line of the daemon,
//! and every request that the daemon carried out.

use std::collections::HashMap;
use std::sync::OnceLock;

use jsonschema::ValidatorMap;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::transcript;

const SCHEMA: &str = include_str!("../../docs/schema/siod.schema.json");

/// What one program and the daemon say to each other.
#[derive(Default)]
pub struct Talk {
    /// A line that is not ended yet.
    begun: Vec<u8>,
    /// Requests without their answer, by their id to the byte; a program may use one twice.
    asked: HashMap<String, Vec<Asked>>,
}

struct Asked {
    method: String,
    params: String,
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    method: String,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

/// Keeps the id null apart from none.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl Talk {
    /// The program wrote this.
    pub fn sent(&mut self, bytes: &[u8]) {
        let mut lines = bytes.split(|byte| *byte == b'\n');
        let last = lines.next_back().unwrap_or_default();
        for line in lines {
            self.begun.extend_from_slice(line);
            self.end_line();
        }
        self.begun.extend_from_slice(last);
    }

    /// The program will write no more.
    pub fn sent_all(&mut self) {
        self.end_line();
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.begun);
        // What is no request is refused, and what is refused need not be one.
        if let Ok(Request { id: Some(id), method, params }) = serde_json::from_slice(&line) {
            let asked = Asked { method, params: params.map_or("{}", RawValue::get).to_owned() };
            self.asked.entry(id.get().to_owned()).or_default().push(asked);
        }
    }

    /// The daemon wrote this line; the error says where it, or the request that it answers, departs from the schema.
    pub fn read(&mut self, line: &str) -> Result<(), String> {
        let value = transcript::value(line)?;
        let of_line = |error: String| format!("{error}\nin the line {line}");
        if value.get("method").is_some() {
            return check_notification(&value).map_err(of_line);
        }
        check("Answer", &value)
            .or_else(|error| {
                // What is wrong within an error is said better by its own schema.
                value.get("error").map_or(Ok(()), |it| check("Error", it))?;
                Err(error)
            })
            .map_err(of_line)?;
        let id = serde_json::from_str::<Id<'_>>(line).map_err(|error| of_line(error.to_string()))?.id.get();
        let asked = self.asked.get_mut(id).filter(|asked| !asked.is_empty());
        let Some(result) = value.get("result") else {
            // Of several requests with this id nobody knows which one was refused.
            if let Some(asked) = asked.filter(|asked| asked.len() == 1) {
                asked.clear();
            }
            return Ok(());
        };
        let asked = asked.ok_or_else(|| of_line("nobody has asked for this answer".to_owned()))?;
        let mut first_error = None;
        for at in 0..asked.len() {
            match asked[at].check(result) {
                Ok(()) => {
                    asked.remove(at);
                    return Ok(());
                }
                Err(error) => drop(first_error.get_or_insert(error)),
            }
        }
        Err(of_line(first_error.unwrap_or_default()))
    }
}

#[derive(Deserialize)]
struct Id<'a> {
    #[serde(borrow)]
    id: &'a RawValue,
}

impl Asked {
    /// Whether the schema has these params, and this result of them.
    fn check(&self, result: &Value) -> Result<(), String> {
        let Self { method, params } = self;
        let name = camel(method);
        let value = transcript::value(params)?;
        check_params(method, &value).map_err(|error| {
            format!("the daemon took params of {method} that the schema has not: {error}: {params}")
        })?;
        check(&format!("{name}Result"), result)
            .map_err(|error| format!("as an answer to {method} {params}: {error}"))
    }
}

/// The most special schema first, since it says best what is wrong.
fn check_notification(line: &Value) -> Result<(), String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (method, params) = (text(&line["method"]), line.get("params").unwrap_or(&Value::Null));
    if method == "lifecycle" {
        check(&format!("Lifecycle{}", camel(&text(&params["event"]))), params)?;
    }
    check_params(&method, params)?;
    check("Notification", line)
}

/// Whether the schema has these params of a method or a notification.
pub fn check_params(method: &str, params: &Value) -> Result<(), String> {
    check(&format!("{}Params", camel(method)), params)
}

/// Whether the schema's definition `name` has this value; the error says where it departs.
pub fn check(name: &str, value: &Value) -> Result<(), String> {
    static VALIDATORS: OnceLock<ValidatorMap> = OnceLock::new();
    let validators = VALIDATORS.get_or_init(|| {
        let schema = serde_json::from_str(SCHEMA).expect("docs/schema/siod.schema.json is JSON");
        jsonschema::validator_map_for(&schema).expect("docs/schema/siod.schema.json is a JSON Schema")
    });
    let validator = validators.get(&format!("#/$defs/{name}"));
    let validator =
        validator.ok_or_else(|| format!("docs/schema/siod.schema.json does not define {name}"))?;
    validator.validate(value).map_err(|error| {
        let (place, error) = (error.instance_path().to_string(), error.to_string());
        format!("docs/schema/siod.schema.json, {name}: at {place:?}: {error}")
    })
}

/// `set_auth` as `SetAuth`.
fn camel(name: &str) -> String {
    let capital = |word: &str| {
        word.get(..1).unwrap_or_default().to_ascii_uppercase() + word.get(1..).unwrap_or_default()
    };
    name.split('_').map(capital).collect()
}
