//! What the targets begin with: packets, requests and configurations that the tests and the documentation have anyway.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use siod::engineio::Frame;

/// The folder of the repository.
pub const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Changes an input as libFuzzer does; now and then one of `beginnings` takes its place, to go on from there.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32, beginnings: &[Vec<u8>]) -> usize {
    const RARELY: usize = 512;
    let dice = seed as usize;
    if dice.is_multiple_of(RARELY)
        && !beginnings.is_empty()
        && let beginning = &beginnings[dice / RARELY % beginnings.len()]
        && beginning.len() <= max_size
    {
        data[..beginning.len()].copy_from_slice(beginning);
        return beginning.len();
    }
    libfuzzer_sys::fuzzer_mutate(data, size, max_size)
}

/// What the official parsers wrote or refuse, as `tests/vectors` has it: the frames of each case.
pub fn vectors(name: &str) -> Vec<Vec<Frame>> {
    let frame = |frame: &Value| match (frame["text"].as_str(), frame["base64"].as_str()) {
        (Some(text), _) => Frame::Text(text.into()),
        (None, base64) => {
            let bytes = BASE64_STANDARD.decode(base64.expect("a frame is text or base64"));
            Frame::Binary(bytes.expect("base64").into())
        }
    };
    let text = text(&format!("tests/vectors/{name}.json"));
    let vectors: Value = serde_json::from_str(&text).expect("JSON");
    let cases =
        ["cases", "invalid", "quirks"].into_iter().filter_map(|set| vectors[set].as_array()).flatten();
    cases.filter_map(|case| Some(case["encoded"].as_array()?.iter().map(frame).collect())).collect()
}

/// A file of the repository.
pub fn text(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The bytes of a frame, whatever it is.
pub fn bytes(frame: &Frame) -> &[u8] {
    match frame {
        Frame::Text(text) => text.as_bytes(),
        Frame::Binary(bytes) => bytes,
    }
}
