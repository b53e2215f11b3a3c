//! The sources of the configuration, laid over one another into one tree that knows where each key was written.
//!
//! Types and the meaning of keys are not looked at here, save that a variable of the environment is text and takes
//! the first form that fits its key.

use std::collections::{BTreeMap, HashSet};
use std::fmt::{self, Write as _};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use config::{Map, Value as Laid};
use serde::de::{self, Deserialize};
use serde_json::{Number, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::service::environment::Environment;
use crate::service::exposure::Exposed;
use crate::service::visible::is_hidden;

/// A larger configuration is a mistake, like a path to a device.
const LARGEST_FILE: u64 = 4 << 20;

/// What the layering has everything under. Of keys at the top it would take dots and brackets for paths, and make room for
/// as many elements as a number in brackets says; below it takes keys as they are.
const ALL: &str = "all";

/// Where a key stands: `["connections", "chat", "url"]`; an index of an array is `[0]`.
pub(super) type Key = Vec<String>;

/// A key as a reader writes it: `connections."a.b".transports[0]`.
pub(super) fn shown(key: &[String]) -> String {
    let mut text = String::new();
    for part in key {
        let index = part.starts_with('[') && part.ends_with(']');
        if !text.is_empty() && !index {
            text.push('.');
        }
        if index {
            text.push_str(part);
        } else {
            text.push_str(&quoted_key(part));
        }
    }
    text
}

/// A key of TOML, in quotes only where it needs them.
pub(super) fn quoted_key(key: &str) -> String {
    let bare =
        !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if bare { key.to_owned() } else { quoted(key) }
}

/// A string of TOML, with nothing in it that is not seen.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::new();
    for character in Value::from(text).to_string().chars() {
        // TOML's escapes are those of JSON, but that it has no pairs of surrogates.
        match u32::from(character) {
            _ if !is_hidden(character) => quoted.push(character),
            // Writing to a String cannot fail.
            code @ 0x1_0000.. => drop(write!(quoted, "\\U{code:08X}")),
            code => drop(write!(quoted, "\\u{code:04X}")),
        }
    }
    quoted
}

/// Where a key was written, as an error names it: `siod.toml:3:1`, or `$SIOD__LOG__LEVEL`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    source: String,
    /// Line and column, both from 1; not known of JSON, absent of variables.
    position: Option<(usize, usize)>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some((line, column)) => write!(f, "{}:{line}:{column}", self.source),
            None => f.write_str(&self.source),
        }
    }
}

/// The places of all keys.
#[derive(Debug, Default)]
pub(super) struct Places(BTreeMap<Key, Place>);

impl Places {
    /// The place of `key` itself.
    pub(super) fn exactly(&self, key: &[String]) -> Option<&Place> {
        self.0.get(key)
    }

    /// The place of `key`, or of the nearest table around it that has one.
    pub(super) fn nearest(&self, key: &[String]) -> Option<&Place> {
        (1..=key.len()).rev().find_map(|length| self.exactly(&key[..length]))
    }
}

/// All sources as one.
#[derive(Debug)]
pub(super) struct Layers {
    pub(super) tree: Value,
    pub(super) places: Places,
    /// Those that were read, in order.
    pub(super) files: Vec<PathBuf>,
    /// Those of them whose secrets everybody can read.
    pub(super) exposed: Vec<Exposed>,
}

/// Reads the files named, or the default file; then `conf.d` beside the first; then the environment.
///
/// `fits` says whether a tree with one key, as given, is a good configuration.
pub(super) fn read(
    named: &[PathBuf],
    environment: &Environment,
    fits: impl Fn(&Value) -> bool,
) -> Result<Layers, Vec<String>> {
    let mut reader = Reader::default();
    match named {
        [] => {
            if let Some(file) = environment.default_file() {
                // Only absence is fine: a file that may not be read is not the same as no configuration.
                let absent = |error: std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
                if !fs::symlink_metadata(&file).is_err_and(absent) {
                    reader.file(&file);
                }
                reader.folder_beside(&file);
            }
        }
        [main, ..] => {
            for file in named {
                reader.file(file);
            }
            reader.folder_beside(main);
        }
    }
    let files = reader.laid()?;
    let mut variables = environment.with_prefix("SIOD__").peekable();
    let tree = if variables.peek().is_some() {
        for (name, text) in variables {
            reader.variable(name, text, &files, &fits);
        }
        reader.laid()?
    } else {
        files
    };
    Ok(Layers { tree, places: reader.places, files: reader.files, exposed: reader.exposed })
}

#[derive(Default)]
struct Reader {
    layers: Vec<Layer>,
    places: Places,
    files: Vec<PathBuf>,
    exposed: Vec<Exposed>,
    problems: Vec<String>,
}

impl Reader {
    /// What has been read, later sources over earlier ones: tables are merged, everything else is replaced.
    fn laid(&mut self) -> Result<Value, Vec<String>> {
        if !self.problems.is_empty() {
            return Err(std::mem::take(&mut self.problems));
        }
        let builder = self
            .layers
            .iter()
            .fold(config::Config::builder(), |builder, layer| builder.add_source(layer.clone()));
        let tree = builder.build().and_then(config::Config::try_deserialize::<Value>);
        let mut tree = tree.map_err(|error| vec![error.to_string()])?;
        Ok(tree.get_mut(ALL).map_or_else(|| Value::Object(serde_json::Map::new()), Value::take))
    }

    fn file(&mut self, path: &Path) {
        match read_bounded(path) {
            Ok((text, metadata)) => {
                let tree = if path.extension().is_some_and(|extension| extension == "json") {
                    self.json(path, &text)
                } else {
                    self.toml(path, &text)
                };
                if let Some(tree) = tree {
                    self.exposed.extend(Exposed::configuration(path, &metadata, &tree));
                    self.add(&tree);
                }
            }
            Err(message) => self.problems.push(format!("{}: {message}", path.display())),
        }
        self.files.push(path.to_owned());
    }

    fn folder_beside(&mut self, main: &Path) {
        let folder = main.with_file_name("conf.d");
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => {
                return self.problems.push(format!("{}: cannot be read: {error}", folder.display()));
            }
        };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        // As a shell reads `*.toml`: editors keep what is not finished in files that begin with a dot.
        let hidden =
            |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let mut paths: Vec<_> =
            paths.filter(|path| path.extension().is_some_and(|it| it == "toml") && !hidden(path)).collect();
        paths.sort();
        for path in &paths {
            self.file(path);
        }
    }

    fn toml(&mut self, path: &Path, text: &str) -> Option<Value> {
        let place = Placer::new(path.display().to_string(), text);
        match DeTable::parse(text) {
            Ok(table) => Some(self.toml_table(&place, &mut Key::new(), table.get_ref())),
            Err(error) => {
                let at = place.at(error.span().map_or(0, |span| span.start));
                let message = error.message().lines().collect::<Vec<_>>().join("; ");
                self.problems.push(format!("{at}: {message}"));
                None
            }
        }
    }

    fn toml_table(&mut self, place: &Placer<'_>, key: &mut Key, table: &DeTable<'_>) -> Value {
        let mut tree = serde_json::Map::new();
        for (name, value) in table {
            key.push(name.get_ref().to_string());
            self.places.0.insert(key.clone(), place.at(name.span().start));
            tree.insert(name.get_ref().to_string(), self.toml_value(place, key, value));
            key.pop();
        }
        Value::Object(tree)
    }

    fn toml_value(&mut self, place: &Placer<'_>, key: &mut Key, value: &Spanned<DeValue<'_>>) -> Value {
        let wrong = match value.get_ref() {
            DeValue::String(text) => return Value::from(text.as_ref()),
            DeValue::Boolean(boolean) => return Value::from(*boolean),
            DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
                Ok(integer) => return Value::from(integer),
                Err(_) => "is a number of more than 64 bits",
            },
            DeValue::Float(float) => match float.as_str().parse().ok().and_then(Number::from_f64) {
                Some(float) => return Value::Number(float),
                None => "found inf or nan, expected a number",
            },
            DeValue::Datetime(_) => "found a date or time without quotes; write it as a string",
            DeValue::Array(array) => {
                let mut items = Vec::new();
                for (index, item) in array.iter().enumerate() {
                    key.push(format!("[{index}]"));
                    self.places.0.insert(key.clone(), place.at(item.span().start));
                    items.push(self.toml_value(place, key, item));
                    key.pop();
                }
                return Value::Array(items);
            }
            DeValue::Table(table) => return self.toml_table(place, key, table),
        };
        self.problems.push(format!("{}: {}: {wrong}", place.at(value.span().start), shown(key)));
        Value::Null
    }

    fn json(&mut self, path: &Path, text: &str) -> Option<Value> {
        let problem = match serde_json::from_str(text) {
            Ok(Strict(tree @ Value::Object(_))) => {
                self.place_all(
                    &mut Key::new(),
                    &tree,
                    &Place { source: path.display().to_string(), position: None },
                );
                return Some(tree);
            }
            Ok(_) => format!("{}: expected a JSON object", path.display()),
            Err(error) => {
                let message = error.to_string();
                let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(before, _)| before);
                format!("{}:{}:{}: {message}", path.display(), error.line(), error.column())
            }
        };
        self.problems.push(problem);
        None
    }

    fn place_all(&mut self, key: &mut Key, tree: &Value, place: &Place) {
        if let Value::Object(members) = tree {
            for (name, value) in members {
                key.push(name.clone());
                self.places.0.insert(key.clone(), place.clone());
                self.place_all(key, value, place);
                key.pop();
            }
        }
    }

    /// `SIOD__CONNECTIONS__Chat__TIMEOUT=5s` as the key `connections.Chat.timeout`.
    fn variable(&mut self, name: &str, text: &str, files: &Value, fits: impl Fn(&Value) -> bool) {
        let Some(key) = variable_key(name, files) else {
            return self.problems.push(format!("${name}: has an empty level between two double underscores"));
        };
        let toml = || {
            DeValue::parse(text)
                .ok()
                .map(|value| Reader::default().toml_value(&Placer::default(), &mut Key::new(), &value))
        };
        let json = || serde_json::from_str(text).ok().map(|Strict(value)| value);
        let as_text = nested(&key, Value::from(text));
        let others = [toml(), json()].into_iter().flatten().map(|value| nested(&key, value));
        let tree = if fits(&as_text) { None } else { others.into_iter().find(|tree| fits(tree)) };
        let tree = tree.unwrap_or(as_text);
        self.place_all(
            &mut Key::new(),
            &nested(&key, Value::Null),
            &Place { source: format!("${name}"), position: None },
        );
        self.add(&tree);
    }

    fn add(&mut self, tree: &Value) {
        match Map::<String, Laid>::deserialize(nested(&[ALL.to_owned()], tree.clone())) {
            Ok(map) => self.layers.push(Layer(map)),
            Err(error) => self.problems.push(error.to_string()),
        }
    }
}

/// The key that a variable names. Names of options are in lower case; names that a user gives keep their case, save
/// that a connection whose name differs in nothing but case is the one meant.
fn variable_key(variable: &str, files: &Value) -> Option<Key> {
    let mut parts = variable.split("__").skip(1).map(str::to_owned).collect::<Vec<_>>();
    if parts.iter().any(String::is_empty) {
        return None;
    }
    let mut free = false;
    for index in 0..parts.len() {
        if index == 1 && parts[0] == "connections" {
            parts[1] = connection_name(&parts[1], files);
        } else if !free {
            parts[index].make_ascii_lowercase();
            free = index > 0 && matches!(parts[index].as_str(), "auth" | "extra_headers" | "query");
        }
    }
    Some(parts)
}

fn connection_name(written: &str, files: &Value) -> String {
    let names =
        || files.get("connections").and_then(Value::as_object).into_iter().flatten().map(|(name, _)| name);
    let mut alike = names().filter(|name| name.eq_ignore_ascii_case(written));
    match (names().any(|name| name == written), alike.next(), alike.next()) {
        (false, Some(name), None) => name.clone(),
        _ => written.to_owned(),
    }
}

fn nested(key: &[String], value: Value) -> Value {
    key.iter().rfold(value, |value, part| Value::Object([(part.clone(), value)].into_iter().collect()))
}

fn read_bounded(path: &Path) -> Result<(String, fs::Metadata), String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    let metadata = fs::metadata(path).map_err(cannot)?;
    if !metadata.is_file() {
        return Err("is no regular file; expected a configuration file".to_owned());
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err("is larger than 4 MiB; expected a configuration file".to_owned());
    }
    String::from_utf8(bytes)
        .map(|text| (text, metadata))
        .map_err(|error| format!("is not UTF-8 from byte {} on", error.utf8_error().valid_up_to()))
}

/// One source in the form that the layering takes.
#[derive(Clone, Debug)]
struct Layer(Map<String, Laid>);

impl config::Source for Layer {
    fn clone_into_box(&self) -> Box<dyn config::Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Laid>, config::ConfigError> {
        Ok(self.0.clone())
    }
}

#[derive(Default)]
struct Placer<'a> {
    file: String,
    text: &'a str,
    /// Where lines end: all keys are looked up, and there may be thousands.
    ends: Vec<usize>,
}

impl<'a> Placer<'a> {
    fn new(file: String, text: &'a str) -> Self {
        Self { file, text, ends: memchr::memchr_iter(b'\n', text.as_bytes()).collect() }
    }

    /// The place of a byte; columns count characters.
    fn at(&self, offset: usize) -> Place {
        let offset = offset.min(self.text.len());
        let lines_before = self.ends.partition_point(|end| *end < offset);
        let start = lines_before.checked_sub(1).map_or(0, |last| self.ends[last] + 1);
        let column = self.text.get(start..offset).unwrap_or_default().chars().count() + 1;
        Place { source: self.file.clone(), position: Some((lines_before + 1, column)) }
    }
}

/// A JSON value in which no object has a key twice.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> de::Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        let in_range = i64::try_from(value).map_err(|_| E::custom("a number of more than 64 bits"))?;
        Ok(Value::from(in_range))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Strict(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let (mut members, mut names) = (serde_json::Map::new(), HashSet::new());
        while let Some(name) = map.next_key::<String>()? {
            if !names.insert(name.clone()) {
                return Err(de::Error::custom(format_args!("the key {name:?} is there twice; keep one")));
            }
            members.insert(name, map.next_value::<Strict>()?.0);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_variables() {
        let files = serde_json::json!({"connections": {"Ticks": {}, "a": {}, "A": {}}});
        for (variable, key) in [
            ("SIOD__LOG__LEVEL", Some("log.level")),
            ("SIOD__api__Max_Line", Some("api.max_line")),
            ("SIOD__CONNECTIONS__Ticks__URL", Some("connections.Ticks.url")),
            ("SIOD__CONNECTIONS__TICKS__URL", Some("connections.Ticks.url")),
            ("SIOD__CONNECTIONS__New__TLS__CA_FILE", Some("connections.New.tls.ca_file")),
            ("SIOD__CONNECTIONS__A__URL", Some("connections.A.url")),
            ("SIOD__CONNECTIONS__Ticks__QUERY__Room", Some("connections.Ticks.query.Room")),
            ("SIOD__CONNECTIONS__Query__URL", Some("connections.Query.url")),
            ("SIOD__DEFAULTS__EXTRA_HEADERS__X-A", Some("defaults.extra_headers.X-A")),
            ("SIOD__", None),
            ("SIOD__API____SOCKET", None),
        ] {
            assert_eq!(variable_key(variable, &files).as_deref().map(shown).as_deref(), key, "{variable}");
        }
    }

    #[test]
    fn keys_are_shown_as_written() {
        let key = |parts: &[&str]| shown(&parts.iter().map(|&part| part.to_owned()).collect::<Vec<_>>());
        assert_eq!(key(&["connections", "a.b", "transports", "[0]"]), "connections.\"a.b\".transports[0]");
        assert_eq!(key(&["connections", "", "url"]), "connections.\"\".url");
        assert_eq!(key(&["log"]), "log");
    }

    #[test]
    fn strings_show_all_that_is_in_them() {
        let text = "a\"\u{7f}\u{9b}\u{202e}\u{e0041}\n\x1bü";
        let shown = quoted(text);
        assert_eq!(shown, r#""a\"\u007F\u009B\u202E\U000E0041\n\u001bü""#);
        let table: toml::Table = toml::from_str(&format!("x = {shown}")).unwrap();
        assert_eq!(table["x"].as_str(), Some(text));
    }

    #[test]
    fn positions_count_characters() {
        let placer = Placer::new("f".into(), "ä = 1\nü = x");
        for (offset, place) in [(0, "f:1:1"), (6, "f:1:6"), (12, "f:2:5"), (999, "f:2:6")] {
            assert_eq!(placer.at(offset).to_string(), place);
        }
    }
}
