//! A line of a program: as JSON, as a request, as the parameters of every method, and as arguments that go out.
//!
//! `serde_json` says what is right, wherever siod reads by itself.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use siod::api::message::{self, ErrorKind, Members, Request};
use siod::json::{self, MAX_DEPTH, Reader, Tokens};
use siod::socketio::Args;

static BEGINNINGS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let text = siod_fuzz::text("docs/api.md");
    text.lines().filter_map(|line| Some(line.strip_prefix("→ ")?.as_bytes().to_vec())).collect()
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    siod_fuzz::mutate(data, size, max_size, seed, &BEGINNINGS)
});

fuzz_target!(|line: &[u8]| {
    let text = std::str::from_utf8(line).ok();
    if let Some(text) = text {
        is_json_or_not(text);
        is_string_or_not(text);
    }
    is_request_or_not(line, text);
});

/// The value of a text that is JSON, to the byte.
fn raw(text: &str) -> Option<&RawValue> {
    serde_json::from_str(text).ok()
}

/// Arrays and objects within one another in valid JSON.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0, 0);
    for token in Tokens::new(text) {
        match token.kind() {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth -= 1,
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

fn is_json_or_not(text: &str) {
    let value = raw(text);
    let is_taken = value.is_some_and(|_| depth(text) <= MAX_DEPTH);
    let inspected = json::inspect(text);
    assert_eq!(inspected.is_ok(), is_taken, "{inspected:?}");
    // These give some answer on any text, and must end.
    let line = json::minify(text);
    assert!(json::values(text).count() <= text.len());
    let (Some(value), Ok(seen)) = (value, inspected) else {
        assert_eq!(json::inspect_array(text), None);
        return;
    };
    assert!(!line.contains(['\n', '\r']));
    assert_eq!(seen.line_breaks, line != text, "there is something to take away, or there is not");
    assert!(Tokens::new(&line).map(|token| token.text).eq(Tokens::new(text).map(|token| token.text)));
    // The parser that builds values goes one level less deep.
    if let Ok(tree) = serde_json::from_str::<Value>(text) {
        assert_eq!(serde_json::from_str::<Value>(&line).expect("still JSON"), tree);
    }
    let items: Option<Vec<&RawValue>> = serde_json::from_str(text).ok();
    let items = items.map(|items| items.into_iter().map(RawValue::get).collect::<Vec<_>>());
    let ours = json::array_items(text);
    assert_eq!(ours.map(|items| json::values(items).collect::<Vec<_>>()), items);
    let first = ours.and_then(json::split_first);
    assert_eq!(json::inspect_array(text).map(|(first, others, _)| (first, others)), first);
    if ours.is_some() {
        goes_out(text, &line);
    }
    reads_members(text, value);
}

/// An object is read member by member as it is as a whole.
fn reads_members(text: &str, value: &RawValue) {
    let Ok(Members(members)) = serde_json::from_str::<Members<'_>>(value.get()) else { return };
    let mut reader = Reader::new(text);
    reader.enter().expect("an object");
    for (name, value) in members {
        let quoted = format!("\"{}\"", reader.name().expect("a member").expect("one more"));
        assert_eq!(json::unquote(&quoted).as_deref(), Some(name.as_str()));
        assert_eq!(reader.value(), Some(value.get()));
    }
    assert_eq!(reader.name(), Some(None));
    assert_eq!(reader.end(), Some(()));
}

/// An array as the arguments of an event, plain and with binary values.
fn goes_out(array: &str, line: &str) {
    let plain = Args::from_consumer(array, false, 0).expect("an array");
    assert_eq!(Args::from_array(array.into()).as_ref(), Ok(&plain));
    assert_eq!(Some(plain.json()), json::array_items(line));
    let Ok(args) = Args::from_consumer(array, true, 3) else { return };
    assert!(args.attachments().len() <= 3);
    let mut out = Vec::new();
    args.write_array(&mut out);
    let out = String::from_utf8(out).expect("UTF-8");
    assert_eq!(json::validate(&out), Ok(()));
    assert_eq!(Args::from_consumer(&out, true, 3), Ok(args), "what goes out comes back");
}

fn is_string_or_not(text: &str) {
    let said = json::unquote(text);
    if let Ok(said_by_serde) = serde_json::from_str::<String>(text.trim_ascii()) {
        assert_eq!(json::unquote(text.trim_ascii()).as_deref(), Some(said_by_serde.as_str()));
    }
    if let Some(said) = said {
        let mut quoted = Vec::new();
        json::push_string(&mut quoted, &said);
        let quoted = std::str::from_utf8(&quoted).expect("UTF-8");
        assert_eq!(Some(quoted.to_owned()), serde_json::to_string(said.as_ref()).ok());
        assert_eq!(json::unquote(quoted), Some(said));
    }
}

/// What a line is, by its members.
#[derive(Debug, PartialEq)]
enum Verdict<'a> {
    NoJson,
    NoRequest,
    Request { id: Option<&'a str>, method: String, params: Option<&'a str> },
}

fn is_request_or_not(line: &[u8], text: Option<&str>) {
    let ours = match Request::parse(line) {
        Ok(request) => {
            takes_params(&request);
            let Request { id, method, params } = request;
            Verdict::Request { id: id.map(RawValue::get), method, params: params.map(RawValue::get) }
        }
        Err(malformed) => match malformed.error.kind {
            ErrorKind::ParseError => Verdict::NoJson,
            ErrorKind::InvalidRequest => Verdict::NoRequest,
            other => panic!("no line is {other:?}"),
        },
    };
    assert_eq!(ours, text.and_then(raw).map_or(Verdict::NoJson, verdict));
}

fn verdict(value: &RawValue) -> Verdict<'_> {
    request(value).unwrap_or(Verdict::NoRequest)
}

fn request(value: &RawValue) -> Option<Verdict<'_>> {
    if depth(value.get()) > MAX_DEPTH {
        return None;
    }
    let Members(members) = serde_json::from_str(value.get()).ok()?;
    let [mut version, mut id, mut method, mut params] = [None; 4];
    for (name, value) in members {
        let place = match name.as_str() {
            "jsonrpc" => &mut version,
            "id" => &mut id,
            "method" => &mut method,
            "params" => &mut params,
            _ => continue,
        };
        if place.replace(value.get()).is_some() {
            return None;
        }
    }
    if version.is_some_and(|version| json::unquote(version).as_deref() != Some("2.0")) {
        return None;
    }
    if id.is_some_and(|id| matches!(id.as_bytes()[0], b'[' | b'{' | b't' | b'f')) {
        return None;
    }
    Some(Verdict::Request { id, method: json::unquote(method?)?.into_owned(), params })
}

/// Of the parameters of `emit`.
const MEMBERS: [&str; 8] =
    ["connection", "event", "args", "ack", "timeout", "volatile", "binary", "compress"];

/// As each method takes them; none may break, and what is wrong is said of the right method.
fn takes_params(request: &Request<'_>) {
    let refused = [
        request.params::<message::Hello>().err(),
        request.params::<message::Nothing>().err(),
        request.params::<message::Status>().err(),
        request.params::<message::Subscribe>().err(),
        request.params::<message::Unsubscribe>().err(),
        request.params::<message::Emit<'_>>().err(),
        request.params::<message::Ack<'_>>().err(),
        request.params::<message::Connect<'_>>().err(),
        request.params::<message::Named>().err(),
        request.params::<message::SetAuth<'_>>().err(),
    ];
    let is_object = request.params.is_none_or(|params| params.get().starts_with('{'));
    for error in refused.into_iter().flatten() {
        assert_eq!(error.kind, ErrorKind::InvalidParams);
        let about = format!("params of {}: ", request.method);
        assert_eq!(error.message.starts_with(&about), is_object, "{}", error.message);
    }
    as_written(request);
}

/// The strictness of the methods: what is taken has no member that is unknown or there twice, and each has its type.
fn as_written(request: &Request<'_>) {
    let Ok(emit) = request.params::<message::Emit<'_>>() else { return };
    let params = request.params.expect("some members must be there").get();
    let Members(members) = serde_json::from_str(params).expect("an object");
    let Ok(tree) = serde_json::from_str::<Map<String, Value>>(params) else { return };
    assert_eq!(members.len(), tree.len(), "a member is there twice");
    assert_eq!(tree["connection"], emit.connection.as_str());
    assert_eq!(tree["event"], emit.event.as_str());
    let flag = |name: &str| tree.get(name).map_or(Some(false), Value::as_bool);
    assert_eq!(
        (flag("ack"), flag("volatile"), flag("binary")),
        (Some(emit.ack), Some(emit.volatile), Some(emit.binary))
    );
    assert_eq!(tree.get("timeout").and_then(Value::as_u64), emit.timeout);
    let args = members.iter().find(|(name, _)| name == "args").map(|(_, args)| args.get());
    assert_eq!(
        emit.args.map(RawValue::get),
        args.filter(|args| *args != "null"),
        "arguments are kept to the byte"
    );
    assert!(tree.keys().all(|name| MEMBERS.contains(&name.as_str())));
}
