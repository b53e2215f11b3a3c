//! Makes `docs/schema/` from the types of the API: those that serde reads requests into and writes answers from, and,
//! where lines are put together by hand, those that describe them next to it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

use super::tighten::{By, finish};
use super::{extract, is_own_name, text};
use crate::api::dispatch::Method;
use crate::api::message::{self, ErrorKind};
use crate::api::reload::Reloaded;
use crate::api::results;
use crate::hub::Snapshot;
use crate::hub::inbox::GoodbyeParams;
use crate::hub::notice::Members;
use crate::hub::notice::schema::{Common, EventParams, LaggedParams, OutgoingParams};
use crate::hub::options::ConnectionOptions;

type Make = fn(&mut SchemaGenerator) -> Schema;

/// The methods: what each does, its params and its result.
const METHODS: [(&str, &str, Make, Make); 13] = [
    (
        "hello",
        "Says who the program is and asks who the daemon is; optional, at any time.",
        inline::<message::Hello>,
        inline::<results::HelloResult<'_>>,
    ),
    ("list", "Shows all connections.", inline::<message::Nothing>, inline::<results::ListResult>),
    (
        "status",
        "Shows the daemon, connections and, for the role `control`, programs.",
        inline::<message::Status>,
        inline::<results::StatusResult<'_>>,
    ),
    (
        "subscribe",
        "Listens to connections. The answer comes first, then what is replayed, then what is live, with nothing left \
         out or doubled in between.",
        inline::<message::Subscribe>,
        inline::<results::SubscribeResult<'_>>,
    ),
    (
        "unsubscribe",
        "Ends a subscription; after the answer nothing of it comes.",
        inline::<message::Unsubscribe>,
        inline::<results::Empty>,
    ),
    (
        "emit",
        "Emits an event to the server; what one program emits on one connection arrives in that order.",
        inline::<message::Emit<'_>>,
        inline::<results::EmitResults>,
    ),
    (
        "ack",
        "Answers an event that came with `ack`; the first answer of any program goes to the server.",
        inline::<message::Ack<'_>>,
        inline::<results::Empty>,
    ),
    (
        "connect",
        "Starts a connection that is not active; harmless on one that is.",
        inline::<message::Connect<'_>>,
        refer::<Snapshot>,
    ),
    (
        "disconnect",
        "Disconnects as the official client does; nothing comes back by itself.",
        inline::<message::Named>,
        refer::<Snapshot>,
    ),
    (
        "set_auth",
        "Sets the auth object of the next CONNECT and of those after it.",
        inline::<message::SetAuth<'_>>,
        inline::<results::Empty>,
    ),
    (
        "open",
        "Adds a connection, or attaches to the one that has this name, this URL and these options. Options that are \
         left out are those of `[defaults]` of the configuration.",
        inline::<ConnectionOptions>,
        inline::<results::OpenResult>,
    ),
    ("close", "Disconnects a connection and forgets it.", inline::<message::Named>, inline::<results::Empty>),
    (
        "reload",
        "Reads the configuration again; names what became of its connections, sorted.",
        inline::<message::Nothing>,
        inline::<Reloaded>,
    ),
];

/// The notifications and their params.
const NOTIFICATIONS: [(&str, Make); 5] = [
    ("event", inline::<EventParams>),
    ("lifecycle", inline::<Members<'_>>),
    ("outgoing", inline::<OutgoingParams>),
    ("lagged", inline::<LaggedParams>),
    ("goodbye", inline::<GoodbyeParams>),
];

fn inline<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    T::json_schema(generator)
}

fn refer<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

fn whole() -> Value {
    let settings = SchemaSettings::draft2020_12();
    let mut maker = Maker {
        read: settings.clone().for_deserialize().into_generator(),
        written: settings.for_serialize().into_generator(),
        definitions: BTreeMap::new(),
    };
    maker.methods();
    maker.notifications();
    maker.errors();
    maker.types();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "siod",
        "description": format!(
            "A line of the local API of siod, version {}, in either direction.", message::API_VERSION
        ),
        "oneOf": [refer_to("Request"), refer_to("Answer"), refer_to("Notification")],
        "$defs": maker.definitions,
    })
}

struct Maker {
    /// For what programs write.
    read: SchemaGenerator,
    /// For what the daemon writes.
    written: SchemaGenerator,
    definitions: BTreeMap<String, Value>,
}

impl Maker {
    fn define(&mut self, name: impl Into<String>, schema: Value) {
        let name = name.into();
        if let Some(other) = self.definitions.get(&name) {
            assert_eq!(other, &schema, "two types are called {name}");
        }
        self.definitions.insert(name, schema);
    }

    fn methods(&mut self) {
        let (mut requests, mut results) = (Vec::new(), Vec::new());
        for (method, says, params, result) in METHODS {
            let role = Method::of(method).unwrap_or_else(|| panic!("there is no method {method}")).role();
            let params = finish(params(&mut self.read), By::Program);
            let params = if method == "open" { with_name(params) } else { params };
            let result = finish(result(&mut self.written), By::Daemon);
            let name = camel(method);
            let (params_name, result_name) = (format!("{name}Params"), format!("{name}Result"));
            requests.push(request(method, &params_name, params.get("required").is_some()));
            results.push(refer_to(&result_name));
            self.define(
                method,
                json!({
                    "description": format!("{says} Takes the role `{}`.", role.name()),
                    "type": "object",
                    "properties": { "params": refer_to(&params_name), "result": refer_to(&result_name) },
                    "required": ["params", "result"],
                    "additionalProperties": false,
                }),
            );
            self.define(params_name, described(params, &format!("Params of the method `{method}`.")));
            self.define(result_name, described(result, &format!("Result of the method `{method}`.")));
        }
        self.define("Request", json!({ "description": "A line of a program.", "oneOf": requests }));
        self.define("Answer", answer(&results));
        let id =
            "The id of a request, which comes back to the byte. Without one a request is never answered.";
        self.define("Id", json!({ "description": id, "type": ["string", "number", "null"] }));
    }

    fn notifications(&mut self) {
        let mut lines = Vec::new();
        for (method, params) in NOTIFICATIONS {
            let mut params = finish(params(&mut self.written), By::Daemon);
            if method == "lifecycle" {
                params = self.lifecycle(&params);
            }
            let name = format!("{}Params", camel(method));
            lines.push(notification(method, &name));
            self.define(
                method,
                json!({
                    "description": params["description"],
                    "type": "object",
                    "properties": { "params": refer_to(&name) },
                    "required": ["params"],
                    "additionalProperties": false,
                }),
            );
            self.define(name, params);
        }
        let description = "A line of the daemon that is no answer.";
        self.define("Notification", json!({ "description": description, "oneOf": lines }));
    }

    /// A schema for each lifecycle event: what it says of its own and what all say.
    fn lifecycle(&mut self, members: &Value) -> Value {
        let common = finish(inline::<Common>(&mut self.written), By::Daemon);
        let mut names = Vec::new();
        for variant in members["oneOf"].as_array().expect("one variant for each event") {
            let mut event = variant.clone();
            let name = event["properties"]["event"]["const"].as_str().expect("a name").to_owned();
            assert!(message::LIFECYCLE.contains(&name.as_str()), "subscribe does not know {name}");
            for (member, schema) in common["properties"].as_object().expect("members") {
                event["properties"][member] = schema.clone();
            }
            let required = event["required"].as_array_mut().expect("at least its name");
            required.extend(common["required"].as_array().expect("all of them").iter().cloned());
            names.push(format!("Lifecycle{}", camel(&name)));
            self.define(format!("Lifecycle{}", camel(&name)), event);
        }
        assert_eq!(names.len(), message::LIFECYCLE.len());
        let events: Vec<_> = names.iter().map(|name| refer_to(name)).collect();
        json!({ "description": "The connection itself changed.", "oneOf": events })
    }

    fn errors(&mut self) {
        let kinds = finish(inline::<ErrorKind>(&mut self.read), By::Daemon);
        self.define("Error", error(&kinds));
        self.define("ErrorKind", kinds);
    }

    /// All that the others refer to.
    fn types(&mut self) {
        let (read, written) = (self.read.take_definitions(true), self.written.take_definitions(true));
        for (definitions, by) in [(read, By::Program), (written, By::Daemon)] {
            for (name, schema) in definitions {
                self.define(name, finish(schema.try_into().expect("a schema"), by));
            }
        }
    }
}

fn request(method: &str, params: &str, needs_params: bool) -> Value {
    json!({
        "title": format!("{}Request", camel(method)),
        "type": "object",
        "properties": {
            "jsonrpc": { "const": "2.0" },
            "id": refer_to("Id"),
            "method": { "const": method },
            "params": refer_to(params),
        },
        "required": if needs_params { json!(["method", "params"]) } else { json!(["method"]) },
    })
}

fn notification(method: &str, params: &str) -> Value {
    json!({
        "title": format!("{}Notification", camel(method)),
        "type": "object",
        "properties": {
            "jsonrpc": { "const": "2.0" },
            "method": { "const": method },
            "params": refer_to(params),
        },
        "required": ["jsonrpc", "method", "params"],
        "additionalProperties": false,
    })
}

fn refer_to(name: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{name}") })
}

fn described(mut schema: Value, description: &str) -> Value {
    schema["description"] = description.into();
    schema
}

/// `set_auth` as `SetAuth`.
fn camel(name: &str) -> String {
    let capital = |word: &str| word[..1].to_ascii_uppercase() + &word[1..];
    name.split('_').map(capital).collect()
}

/// The params of `open`, which takes two members besides the options; see `dispatch`.
fn with_name(mut options: Value) -> Value {
    options["properties"]["name"] = json!({
        "description": "The connection's name: 1 to 64 characters, no control characters, none of `* ? [ ]`.",
        "type": "string",
        "minLength": 1,
        "maxLength": 64,
        "pattern": r"^[^*?\[\]\u0000-\u001f\u007f-\u009f]+$",
    });
    options["properties"]["persist"] = json!({
        "description": "It lasts until `close` or the end of the daemon; else as long as one program that opened it is \
                        attached.",
        "type": ["boolean", "null"],
        "default": false,
    });
    options["required"] = json!(["name"]);
    options
}

fn answer(results: &[Value]) -> Value {
    let one = |title: &str, member: &str, schema: Value| {
        json!({
            "title": title,
            "type": "object",
            "properties": { "jsonrpc": { "const": "2.0" }, "id": refer_to("Id"), member: schema },
            "required": ["jsonrpc", "id", member],
            "additionalProperties": false,
        })
    };
    let done = one("ResultAnswer", "result", json!({ "anyOf": results }));
    let refused = one("ErrorAnswer", "error", refer_to("Error"));
    json!({ "description": "The one answer to a request that has an id.", "oneOf": [done, refused] })
}

/// Each kind has its code, and one of them has the server's words.
fn error(kinds: &Value) -> Value {
    let pair = |kind: &Value| {
        let kind: ErrorKind = serde_json::from_value(kind["const"].clone()).expect("a kind");
        let (code, word) = kind.code();
        let data = match kind {
            ErrorKind::ConnectFailed => {
                json!({ "type": "object", "properties": { "kind": { "const": word } } })
            }
            _ => json!({ "type": "object", "properties": { "kind": { "const": word }, "data": false } }),
        };
        json!({ "title": word, "properties": { "code": { "const": code }, "data": data } })
    };
    let pairs: Vec<_> = kinds["oneOf"].as_array().expect("one for each kind").iter().map(pair).collect();
    json!({
        "description": "Why a request was refused.",
        "type": "object",
        "properties": {
            "code": { "description": "The number of the kind; two kinds share one.", "type": "integer" },
            "message": { "description": "For people: what was wrong and what to do.", "type": "string" },
            "data": {
                "type": "object",
                "properties": {
                    "kind": refer_to("ErrorKind"),
                    "data": { "description": "What the server said; for `connect_failed`, where it said something." },
                },
                "required": ["kind"],
                "additionalProperties": false,
            },
        },
        "required": ["code", "message", "data"],
        "additionalProperties": false,
        "oneOf": pairs,
    })
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/schema")
}

/// The files, by their names.
fn files() -> BTreeMap<String, String> {
    let whole = whole();
    let names = super::definitions(&whole).into_iter().map(|(name, _)| name).filter(|name| is_own_name(name));
    let one = |name: String| {
        let schema = extract(&whole, &name).expect("it was just found there");
        (format!("{name}.schema.json"), schema)
    };
    let files: BTreeMap<_, _> = names.map(one).collect();
    files.into_iter().chain([("siod.schema.json".to_owned(), text(&whole))]).collect()
}

#[test]
fn the_files_of_docs_schema_are_those_of_the_types() {
    let folder = folder();
    let made = files();
    if std::env::var_os("SIOD_SCHEMA").is_some_and(|it| it == "write") {
        for (name, text) in &made {
            std::fs::write(folder.join(name), text).expect("the folder can be written");
        }
    }
    let found: BTreeMap<_, _> = std::fs::read_dir(&folder)
        .expect("the folder is there")
        .map(|file| file.expect("it can be read"))
        .map(|file| (file.file_name().into_string().expect("UTF-8"), file.path()))
        .map(|(name, path)| (name, std::fs::read_to_string(path).expect("it can be read")))
        .collect();
    let names: BTreeSet<_> = made.keys().chain(found.keys()).collect();
    let stale: Vec<_> = names.into_iter().filter(|name| made.get(*name) != found.get(*name)).collect();
    assert!(stale.is_empty(), "stale in docs/schema, write them anew with `just schema`: {stale:?}");
}

#[test]
fn it_is_a_json_schema_in_which_nothing_is_missing() {
    let whole = whole();
    jsonschema::meta::validate(&whole).expect("a schema");
    let definitions = super::definitions(&whole);
    for name in super::references(&whole) {
        assert!(definitions.contains_key(name), "{name} is referred to and not defined");
    }
}

#[test]
fn each_name_has_its_schema_which_stands_for_itself() {
    let names = super::names();
    assert!(names.len() > 50, "{names:?}");
    assert_eq!(names[0], "ack", "methods and notifications come first");
    for name in names {
        let schema: Value = serde_json::from_str(&super::of(&name).expect("it is named")).expect("JSON");
        jsonschema::validator_for(&schema).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    assert_eq!(super::of("lsit"), None);
}
