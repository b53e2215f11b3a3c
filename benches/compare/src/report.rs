//! The plots and tables of docs/performance.md, from a result file.

mod plot;

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use self::plot::{Chart, Series};
use crate::goals;
use crate::packages;
use crate::peers::Peer;
use crate::results::{Metric, Results, number};

/// What stands between these is made anew.
const BEGIN: &str = "<!-- results: made by `just compare report` -->";
const END: &str = "<!-- end of results -->";

/// Where the results of a quiet machine stand.
pub(crate) fn document() -> PathBuf {
    packages::repository().join("docs/performance.md")
}

/// Writes the plots into a folder that is named like the document, and the tables into the document.
pub(crate) fn write(results: &Path, document: &Path) -> Result<()> {
    let json = fs::read(results).with_context(|| format!("reading {}", results.display()))?;
    let results: Results = serde_json::from_slice(&json).context("the result file")?;
    let folder = document.with_extension("");
    let name = folder.file_name().context("the document has a name")?.to_string_lossy().into_owned();
    let charts = charts(&results);
    if !charts.is_empty() {
        fs::create_dir_all(&folder)?;
    }
    for (file, chart) in &charts {
        fs::write(folder.join(file), chart.svg())?;
    }
    let plots: Vec<_> =
        charts.iter().map(|(file, chart)| (format!("{name}/{file}"), chart.title.as_str())).collect();
    let text = fs::read_to_string(document).with_context(|| format!("reading {}", document.display()))?;
    fs::write(document, replace(&text, &section(&results, &plots))?)?;
    println!("{}: {} plots and the tables of {}", document.display(), charts.len(), results.date);
    Ok(())
}

fn replace(text: &str, section: &str) -> Result<String> {
    let (before, rest) =
        text.split_once(BEGIN).with_context(|| format!("the document has no line {BEGIN}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("the document has no line {END}"))?;
    ensure!(!after.contains(BEGIN), "the document has {BEGIN} twice");
    Ok(format!("{before}{BEGIN}\n\n{section}\n{END}{after}"))
}

fn section(results: &Results, plots: &[(String, &str)]) -> String {
    let mut out = String::new();
    let machine = &results.machine;
    let values = match results.rounds {
        1 => "of one run each".to_owned(),
        rounds => format!("median of {rounds} runs each"),
    };
    let facts = [
        ("date", results.date.clone()),
        ("siod", results.siod.clone()),
        (
            "machine",
            format!(
                "{}, {} cores, {}, Linux {}",
                machine.processor, machine.cores, machine.memory, machine.kernel
            ),
        ),
        ("load before (1, 5, 15 minutes)", machine.load.clone()),
        ("command", format!("`{}`", results.command)),
        ("values", values),
        ("void runs", results.void.len().to_string()),
    ];
    push(&mut out, &["", ""], facts.iter().map(|(name, value)| vec![(*name).to_owned(), value.clone()]));
    out.push_str("\n### Goals\n\n");
    let outcomes = goals::judge(results);
    let rows = outcomes.iter().map(|outcome| {
        vec![outcome.work.clone(), outcome.goal.clone(), outcome.shown(), outcome.verdict().to_owned()]
    });
    push(&mut out, &["work", "goal", "measured", ""], rows);
    if !plots.is_empty() {
        out.push_str("\n### Plots\n");
        for (file, title) in plots {
            let _infallible = write!(out, "\n![{title}]({file})\n");
        }
    }
    out.push_str("\n### Everything\n");
    for scenario in &results.scenarios {
        let _infallible = write!(out, "\n#### {}\n\n", scenario.name);
        let metrics: Vec<&str> = scenario
            .peers
            .iter()
            .max_by_key(|peer| peer.metrics.len())
            .map_or(Vec::new(), |peer| peer.metrics.iter().map(|metric| metric.name.as_str()).collect());
        let head: Vec<&str> = std::iter::once("").chain(metrics.iter().copied()).collect();
        let rows = scenario.peers.iter().map(|peer| {
            let title =
                Peer::ALL.into_iter().find(|known| known.name() == peer.peer).map_or("?", Peer::title);
            let cell = |name: &&str| {
                peer.metrics.iter().find(|metric| metric.name == *name).map_or("–".into(), spread)
            };
            std::iter::once(title.to_owned()).chain(metrics.iter().map(cell)).collect()
        });
        push(&mut out, &head, rows);
    }
    for void in &results.void {
        let _infallible =
            write!(out, "\nVoid: {} · {} · round {}: {}\n", void.scenario, void.peer, void.round, void.why);
    }
    out
}

/// The median, and between what all were.
fn spread(metric: &Metric) -> String {
    let (low, high) = metric
        .values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(*value), high.max(*value)));
    let median = number(metric.median());
    let (low, high) = (number(low), number(high));
    if low == high { median } else { format!("{median} ({low} to {high})") }
}

fn push(out: &mut String, head: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let mut line = |cells: &[String]| {
        let _infallible = writeln!(out, "| {} |", cells.join(" | "));
    };
    line(&head.iter().map(|&cell| cell.to_owned()).collect::<Vec<_>>());
    line(&vec!["---".to_owned(); head.len()]);
    rows.for_each(|row| line(&row));
}

fn charts(results: &Results) -> Vec<(String, Chart)> {
    let mut charts = Vec::new();
    let metrics = [
        ("rate", "deliveries/s", "Deliveries a second"),
        ("cpu", "CPU s per million", "CPU seconds for a million deliveries"),
    ];
    for (kind, metric, title) in metrics {
        for (size, label) in [(100, "100 B"), (1024, "1 KiB"), (16384, "16 KiB")] {
            let programs = [1, 10, 100, 1000];
            let names = programs.map(|programs| format!("flood/{size}x{programs}"));
            let chart = Chart {
                title: format!("{title}, events of {label}, by programs"),
                ticks: programs.map(|programs| programs.to_string()).to_vec(),
                series: series(results, &names, metric),
            };
            charts.push((format!("flood-{kind}-{size}.svg"), chart));
        }
    }
    for (metric, kind, title) in [
        ("deliveries/s", "rate", "Deliveries a second"),
        ("CPU s per million", "cpu", "CPU seconds for a million deliveries"),
    ] {
        let names = [100, 1024, 16384].map(|size| format!("flood/{size}x10"));
        let chart = Chart {
            title: format!("{title}, 10 programs, by size of the event"),
            ticks: ["100 B", "1 KiB", "16 KiB"].map(str::to_owned).to_vec(),
            series: series(results, &names, metric),
        };
        charts.push((format!("size-{kind}.svg"), chart));
    }
    let names =
        ["trip/64/one core", "trip/4096/one core", "trip/64/free", "trip/4096/free"].map(str::to_owned);
    let chart = Chart {
        title: "Emit and answer, median in µs".to_owned(),
        ticks: ["64 B, one core", "4 KiB, one core", "64 B, free", "4 KiB, free"].map(str::to_owned).to_vec(),
        series: series(results, &names, "p50 µs"),
    };
    charts.push(("trips.svg".to_owned(), chart));
    // One point is no plot.
    charts.retain(|(_, chart)| chart.points() > 1);
    charts
}

fn series(results: &Results, scenarios: &[String], metric: &str) -> Vec<Series> {
    Peer::ALL
        .into_iter()
        .map(|peer| Series {
            name: peer.title(),
            values: scenarios.iter().map(|scenario| results.median(scenario, peer, metric)).collect(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let text = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let once = replace(&text, "new").unwrap();
        assert_eq!(once, format!("before\n{BEGIN}\n\nnew\n{END}\nafter\n"));
        assert_eq!(replace(&once, "new").unwrap(), once);
        replace("nothing", "new").unwrap_err();
    }
}
