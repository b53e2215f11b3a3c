//! `siod man`.

use std::io::{self, Write};

use clap::{Command, CommandFactory};
use clap_mangen::Man as Page;
use clap_mangen::roff::{Roff, roman};

use super::exit::{Exit, Failure};
use super::{Arguments, EXIT_CODES};

pub(super) const EXAMPLES: &str = "\
Examples:
  siod man | man -l -
  siod man > ~/.local/share/man/man1/siod.1";

pub(super) fn run() -> Result<Exit, Failure> {
    let page = page(Arguments::command())?;
    let mut out = io::stdout().lock();
    out.write_all(&page)?;
    out.flush()?;
    Ok(Exit::Done)
}

fn page(command: Command) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let whole = Page::new(command.clone().disable_help_flag(true));
    whole.render_title(&mut out)?;
    for (heading, render) in [
        ("NAME", Page::render_name_section as Render),
        ("SYNOPSIS", Page::render_synopsis_section),
        ("DESCRIPTION", Page::render_description_section),
    ] {
        add(&mut out, Roff::new().control("SH", [heading]))?;
        add_body(&mut out, &whole, render)?;
    }
    add(&mut out, Roff::new().control("SH", ["COMMANDS"]))?;
    for command in command.get_subcommands() {
        let name = format!("siod {}", command.get_name());
        add(&mut out, Roff::new().control("SS", [name.as_str()]))?;
        let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let command = command.clone().bin_name(name).disable_help_flag(true).disable_version_flag(true);
        let page = Page::new(command);
        add_body(&mut out, &page, Page::render_synopsis_section)?;
        add(&mut out, Roff::new().control("PP", []))?;
        add_body(&mut out, &page, Page::render_description_section)?;
        add_body(&mut out, &page, Page::render_options_section)?;
        add(&mut out, &paragraphs(&after))?;
    }
    add(&mut out, Roff::new().control("SH", ["OPTIONS OF EVERY COMMAND"]))?;
    add_body(&mut out, &whole, Page::render_options_section)?;
    add(&mut out, Roff::new().control("SH", ["EXIT STATUS"]))?;
    add(&mut out, &paragraphs(EXIT_CODES.trim_start_matches("Exit codes:\n")))?;
    Ok(out)
}

type Render = fn(&Page, &mut dyn Write) -> io::Result<()>;

/// A section without its headings, which are ours.
fn add_body(out: &mut Vec<u8>, page: &Page, render: Render) -> io::Result<()> {
    let mut text = Vec::new();
    render(page, &mut text)?;
    add_lines(out, &text, &[DEFINITIONS[0], DEFINITIONS[1], b".SH "]);
    Ok(())
}

fn add(out: &mut Vec<u8>, roff: &Roff) -> io::Result<()> {
    let mut text = Vec::new();
    roff.to_writer(&mut text)?;
    add_lines(out, &text, &DEFINITIONS);
    Ok(())
}

/// How the definitions begin that stand before each piece; those before the title hold for the page.
const DEFINITIONS: [&[u8]; 2] = [b".ie ", b".el "];

fn add_lines(out: &mut Vec<u8>, text: &[u8], without: &[&[u8]]) {
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    let kept = lines.filter(|line| !without.iter().any(|start| line.starts_with(start)));
    kept.for_each(|line| out.extend_from_slice(line));
}

/// Help text: what is indented keeps its lines.
fn paragraphs(text: &str) -> Roff {
    let mut roff = Roff::new();
    for paragraph in text.split("\n\n").filter(|paragraph| !paragraph.is_empty()) {
        roff.control("PP", []);
        let mut kept = false;
        for line in paragraph.lines() {
            if line.starts_with(' ') && !std::mem::replace(&mut kept, true) {
                roff.control("nf", []);
            }
            roff.text([roman(line)]);
        }
        if kept {
            roff.control("fi", []);
        }
    }
    roff
}
