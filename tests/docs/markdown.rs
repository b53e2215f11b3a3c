//! As much of Markdown as the tests need.

/// A fenced block.
pub(crate) struct Block<'a> {
    /// The line of the file on which the fence opens.
    pub(crate) line: usize,
    /// The first word behind the fence.
    pub(crate) language: &'a str,
    /// What follows that word.
    pub(crate) rest: &'a str,
    pub(crate) text: String,
}

pub(crate) fn blocks(markdown: &str) -> impl Iterator<Item = Block<'_>> {
    let mut lines = markdown.lines().enumerate();
    std::iter::from_fn(move || {
        let (line, info) = lines.find_map(|(n, line)| Some((n + 1, line.strip_prefix("```")?)))?;
        let (language, rest) = info.split_once(' ').unwrap_or((info, ""));
        let text = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```");
        Some(Block { line, language, rest, text: text.collect::<Vec<_>>().join("\n") })
    })
}

pub(crate) fn headings(markdown: &str) -> impl Iterator<Item = &str> {
    markdown.lines().filter(|line| line.starts_with('#'))
}
