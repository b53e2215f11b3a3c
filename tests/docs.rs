//! The documentation is true: every example of `docs/api.md` is played against the real daemon, and the programs and
//! commands of the README and of `examples/` are run as they stand.

mod common;
mod docs {
    pub mod markdown;
    pub mod play;
}

use docs::markdown::{blocks, headings};
use docs::play::Play;

const API: &str = include_str!("../docs/api.md");

#[tokio::test]
async fn every_example_of_the_api_happens() {
    let examples: Vec<_> = blocks(API).filter(|block| block.language == "text").collect();
    assert!(examples.len() > 15, "the examples of docs/api.md were not found");
    for example in examples {
        // Shown where the test fails.
        println!("docs/api.md:{}", example.line);
        Play::start(example.rest).await.run(&example.text).await;
    }
}

#[test]
fn every_method_has_an_example() {
    for method in headings(API).filter_map(|heading| heading.strip_prefix("### `")?.strip_suffix('`')) {
        let request = format!(r#""method":"{method}""#);
        assert!(blocks(API).any(|block| block.text.contains(&request)), "no example of {method}");
    }
}
