//! The `siod` command.
use siod::service::{
    self,
    config::{self, Sources},
    environment::Environment,
};
fn main() {
    let mut sources = Sources::default();
    let mut args = std::env::args().skip(1);
    while let Some(a) = args.next() {
        match a.as_str() {
            "run" => {}
            "--config" => sources.files.push(args.next().unwrap().into()),
            "--socket" => sources.socket = args.next().map(Into::into),
            x => panic!("{x}"),
        }
    }
    let config = config::load(&sources, &Environment::of_process()).unwrap_or_else(|e| {
        eprintln!("{e}");
        std::process::exit(78)
    });
    match service::run(config) {
        Ok(e) => {
            eprintln!("{e:?}")
        }
        Err(e) => {
            eprintln!("{e}");
            std::process::exit(1)
        }
    }
}
