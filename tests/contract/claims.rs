//! Every sentence of `docs/api.md` that can fail has a test: `claims.txt` names it.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

const API: &str = include_str!("../../docs/api.md");
const CLAIMS: &str = include_str!("claims.txt");

/// What claims begin with, and the tests each names.
fn claims() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut claims: Vec<(&str, Vec<&str>)> = Vec::new();
    // The first paragraph says what this is.
    let (_, rest) = CLAIMS.split_once("\n\n").expect("it has a preface");
    for line in rest.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match (line.strip_prefix("    "), claims.last_mut()) {
            (Some(test), Some((_, tests))) => tests.push(test),
            _ => claims.push((line, Vec::new())),
        }
    }
    claims
}

/// The sentences and the rows of tables, without the examples.
fn sentences(document: &str) -> Vec<String> {
    let (mut sentences, mut paragraph, mut in_example) = (Vec::new(), String::new(), false);
    for line in document.lines().chain([""]) {
        let is_fence = line.starts_with("```");
        in_example ^= is_fence;
        let is_row = line.starts_with('|');
        if is_fence || is_row || line.is_empty() || line.starts_with("- ") || line.starts_with('#') {
            let text = std::mem::take(&mut paragraph);
            let marked = text.replace(".** ", ".\n").replace(". ", ".\n");
            sentences.extend(marked.lines().filter(|sentence| !sentence.is_empty()).map(str::to_owned));
        }
        if in_example || is_fence || line.starts_with('#') {
            continue;
        }
        if !is_row {
            let text = line.strip_prefix("- ").unwrap_or(line).trim();
            paragraph += if paragraph.is_empty() { "" } else { " " };
            paragraph += text;
        } else if !line.chars().all(|c| matches!(c, '|' | '-' | ' ')) {
            sentences.push(line.to_owned());
        }
    }
    sentences
}

/// The names of all functions of a folder.
fn functions(folder: &Path, names: &mut HashSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder of this repository") {
        let path = entry.expect("it can be read").path();
        if path.is_dir() {
            functions(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source of this repository");
            names.extend(
                text.split("fn ").skip(1).filter_map(|rest| Some(rest.split_once('(')?.0.to_owned())),
            );
        }
    }
}

#[test]
fn every_sentence_of_the_document_has_its_tests() {
    let (sentences, claims) = (sentences(API), claims());
    assert!(sentences.len() > 200, "the sentences of docs/api.md were not found");
    let missing: Vec<_> = sentences
        .iter()
        .filter(|sentence| !claims.iter().any(|(begin, _)| sentence.starts_with(begin)))
        .collect();
    assert!(missing.is_empty(), "write into tests/contract/claims.txt which tests show: {missing:#?}");
    let gone: Vec<_> = claims
        .iter()
        .filter(|(begin, _)| !sentences.iter().any(|sentence| sentence.starts_with(begin)))
        .collect();
    assert!(gone.is_empty(), "docs/api.md does not say so any more: {gone:#?}");
    let mut tests = HashSet::new();
    for folder in ["src", "tests"] {
        functions(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut tests);
    }
    for (begin, named) in claims {
        assert!(!named.is_empty(), "{begin:?} names no test, nor a dash");
        for test in named {
            assert!(test == "-" || tests.contains(test), "{begin:?} names `{test}`, which is no test");
        }
    }
}
