//! Measures siod beside what people would use instead, on the same work, interleaved in one run.
//!
//! The process that is started measures and is the load generator; it starts the fast server and the splice relay, which
//! are this program too, the daemon, and the bridges on Node and Python. docs/performance.md tells how to read what comes
//! out.

mod goals;
mod load;
mod packages;
mod peers;
mod relay;
mod report;
mod results;
mod scenarios;
mod server;
mod wire;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};
use lexopt::prelude::*;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use peers::{Peer, Programs};
use results::Results;
use scenarios::{Depth, Rig, Scenario};

/// Takes back what the line on the terminal said.
const CLEAR: &str = "\r\x1b[K";

const HELP: &str = "\
Measures siod beside a splice relay, bridges on Node and Python, and no sharing.

  just compare [OPTIONS]            measures
  just compare report [FILE] [DOC]  makes plots and the tables of docs/performance.md from a result file

  --quick         what the goals are about, in short runs
  --smoke         everything once and tiny, to see that it works; no goals
  --only PREFIX   the scenario of this name, or all whose name begins so; may be repeated
  --peers LIST    only these of siod,relay,node,tuned,python,direct
  --rounds N      so many runs of each (5; 3 with --quick, 1 with --smoke)
  --siod PATH     this daemon instead of one that is built now
  --out FILE      where the results go (target/compare/results.json)
  --list          the names of all scenarios
";

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("compare: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let mut arguments = lexopt::Parser::from_env();
    let options = match arguments.next()? {
        Some(Value(word)) if word == "server" => return server::run().map(|()| ExitCode::SUCCESS),
        Some(Value(word)) if word == "relay" => {
            let (port, socket) = (arguments.value()?.parse()?, arguments.value()?);
            return relay::run(port, Path::new(&socket)).map(|()| ExitCode::SUCCESS);
        }
        Some(Value(word)) if word == "report" => {
            let mut paths = arguments.raw_args()?.map(PathBuf::from);
            let results = paths.next().unwrap_or_else(|| kept("results.json"));
            let document = paths.next().unwrap_or_else(report::document);
            report::write(&results, &document)?;
            return Ok(ExitCode::SUCCESS);
        }
        first => Options::parse(first.map(own), &mut arguments)?,
    };
    match options {
        Some(options) => compare(&options),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// An argument that does not borrow from the parser.
enum Argument {
    Long(String),
    Other(OsString),
}

fn own(argument: lexopt::Arg<'_>) -> Argument {
    match argument {
        Long(name) => Argument::Long(name.to_owned()),
        Short(letter) => Argument::Other(format!("-{letter}").into()),
        Value(word) => Argument::Other(word),
    }
}

struct Options {
    depth: Depth,
    only: Vec<String>,
    peers: Vec<Peer>,
    rounds: usize,
    siod: Option<PathBuf>,
    out: PathBuf,
}

impl Options {
    /// None when there is nothing left to do.
    fn parse(first: Option<Argument>, arguments: &mut lexopt::Parser) -> Result<Option<Self>> {
        let (mut depth, mut rounds) = (Depth::Full, None);
        let (mut only, mut peers, mut siod, mut out) = (Vec::new(), Peer::ALL.to_vec(), None, None);
        let mut next = first;
        while let Some(argument) = next {
            let Argument::Long(name) = argument else {
                let Argument::Other(word) = argument else { unreachable!() };
                bail!("{} is not understood; --help shows what is", word.display());
            };
            match name.as_str() {
                "quick" => depth = Depth::Quick,
                "smoke" => depth = Depth::Smoke,
                "only" => only.push(arguments.value()?.string()?),
                "peers" => peers = parse_peers(&arguments.value()?.string()?)?,
                "rounds" => rounds = Some(arguments.value()?.parse()?),
                "siod" => siod = Some(arguments.value()?.into()),
                "out" => out = Some(arguments.value()?.into()),
                "list" => {
                    for scenario in scenarios::all(Depth::Full) {
                        println!("{}", scenario.name);
                    }
                    return Ok(None);
                }
                "help" => {
                    print!("{HELP}");
                    return Ok(None);
                }
                _ => bail!("there is no --{name}; --help shows what there is"),
            }
            next = arguments.next()?.map(own);
        }
        let rounds = rounds.unwrap_or(depth.choose(5, 3, 1));
        ensure!(rounds > 0, "--rounds must be 1 at least");
        // Nobody's results are lost to a trial.
        let out = out.unwrap_or_else(|| kept(depth.choose("results.json", "results.json", "smoke.json")));
        Ok(Some(Self { depth, only, peers, rounds, siod, out }))
    }

    /// A whole name is only that: `flood/100x1` is not `flood/100x10`.
    fn choose(&self) -> Vec<Scenario> {
        let all = scenarios::all(self.depth);
        let is_whole = |prefix: &str| all.iter().any(|scenario| scenario.name == prefix);
        let (whole, prefixes): (Vec<_>, Vec<_>) =
            self.only.iter().cloned().partition(|prefix| is_whole(prefix));
        let wanted = |name: &str| {
            self.only.is_empty()
                || whole.iter().any(|whole| whole == name)
                || prefixes.iter().any(|prefix| name.starts_with(prefix.as_str()))
        };
        all.into_iter().filter(|scenario| wanted(&scenario.name)).collect()
    }
}

fn parse_peers(list: &str) -> Result<Vec<Peer>> {
    let find = |name: &str| Peer::ALL.into_iter().find(|peer| peer.name() == name);
    list.split(',').map(|name| find(name).with_context(|| format!("there is no peer {name:?}"))).collect()
}

fn kept(file: &str) -> PathBuf {
    packages::repository().join("target/compare").join(file)
}

fn compare(options: &Options) -> Result<ExitCode> {
    let scenarios = options.choose();
    ensure!(
        !scenarios.is_empty(),
        "no scenario begins with {}; --list shows them",
        options.only.join(" or ")
    );
    raise_limits()?;
    let (rig, mut peers) = prepare(options)?;
    let mut results = Results::new(&rig, options.rounds);
    if rig.programs.python.is_none() {
        peers.retain(|peer| *peer != Peer::Python);
    }
    let watched = std::io::stderr().is_terminal();
    for scenario in &scenarios {
        let present: Vec<Peer> = scenario.peers.iter().copied().filter(|peer| peers.contains(peer)).collect();
        for round in 1..=options.rounds {
            for peer in &present {
                if watched {
                    eprint!("{CLEAR}{} · round {round} of {} · {peer}", scenario.name, options.rounds);
                }
                let outcome = scenario.run(&rig, *peer);
                results.add(&scenario.name, *peer, round, outcome);
            }
        }
        if watched {
            eprint!("{CLEAR}");
        }
        println!("{}", results.table_of(&scenario.name));
    }
    if let Some(folder) = options.out.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&options.out, serde_json::to_vec_pretty(&results)?)
        .with_context(|| format!("writing {}", options.out.display()))?;
    if options.depth == Depth::Smoke {
        try_report(&results, &options.out)?;
    } else {
        let mut outcomes = goals::judge(&results);
        if !options.only.is_empty() {
            outcomes.retain(|outcome| outcome.met.is_some());
        }
        print!("{}", goals::table(&outcomes));
    }
    println!("results: {}", options.out.display());
    for void in &results.void {
        println!("VOID: {} · {} · round {}: {}", void.scenario, void.peer, void.round, void.why);
    }
    Ok(if results.void.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Nobody needs the report of a smoke run; it is only to work, and to find all that the goals are about.
fn try_report(results: &Results, out: &Path) -> Result<()> {
    let misnamed = goals::misnamed(results);
    ensure!(misnamed.is_empty(), "no scenario measures what these goals are about: {}", misnamed.join(", "));
    let folder = tempfile::tempdir()?;
    let document = folder.path().join("performance.md");
    std::fs::copy(report::document(), &document)?;
    report::write(out, &document)
}

fn prepare(options: &Options) -> Result<(Rig, Vec<Peer>)> {
    let built;
    let siod = match &options.siod {
        Some(siod) => siod,
        None => {
            built = build(options.depth)?;
            &built
        }
    };
    let siod = siod.canonicalize().with_context(|| format!("no daemon at {}", siod.display()))?;
    let own = std::env::current_exe()?;
    // Both lie in a folder of the target folder that has the profile's name.
    let target = own.ancestors().nth(2).context("this program is not in a target folder")?;
    let python = if options.peers.contains(&Peer::Python) {
        packages::python(target)
            .inspect_err(|error| {
                eprintln!("\n!!! THE PYTHON BRIDGE IS LEFT OUT: python-socketio cannot be installed:\n!!! {error:#}\n");
            })
            .ok()
    } else {
        None
    };
    let modules = packages::node(target)?;
    let rig = Rig {
        programs: Programs { siod, own, modules, python, stall: options.depth.stall() },
        depth: options.depth,
    };
    Ok((rig, options.peers.clone()))
}

/// Builds the daemon as it is installed, or as it is tested where only that it works is of interest.
fn build(depth: Depth) -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--bin", "siod", "--message-format", "json-render-diagnostics", "--manifest-path"]);
    cargo.arg(packages::repository().join("Cargo.toml")).stderr(Stdio::inherit());
    if depth != Depth::Smoke {
        cargo.arg("--release");
    }
    let output = cargo.output().context("cargo cannot be started")?;
    ensure!(output.status.success(), "siod does not build");
    let messages = output.stdout.split(|byte| *byte == b'\n');
    let mut executables = messages.filter_map(|message| {
        let message: serde_json::Value = serde_json::from_slice(message).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    });
    executables.next_back().context("cargo does not say where siod is")
}

/// A thousand programs are a thousand descriptors, here and in what is measured.
fn raise_limits() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}
