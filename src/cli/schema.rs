//! `siod schema`.

use std::io::{self, Write};

use clap::Args;
use strsim::damerau_levenshtein as distance;

use super::exit::{Exit, Failure};
use crate::api::schema;

/// Prints the JSON Schema of the local API, or of one method, notification or type
#[derive(Debug, Args)]
#[command(after_help = "\
Without a name it is the schema of any line, with all that lines are made of under $defs. A method has params and \
result, a notification has params. The schema is that of this version, to the member.

Examples:
  siod schema > siod.schema.json
  siod schema emit | jq .properties.params
  siod schema Snapshot | jq -r '.properties | keys[]'
  siod schema --list")]
pub(super) struct Schema {
    /// A method, a notification or a type, like emit, event or Snapshot
    name: Option<String>,
    /// Print the names there are, methods and notifications first
    #[arg(long, conflicts_with = "name")]
    list: bool,
}

impl Schema {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let text = match self.name {
            _ if self.list => schema::names().join("\n") + "\n",
            None => schema::WHOLE.to_owned(),
            Some(name) => schema::of(&name).ok_or_else(|| unknown(&name))?,
        };
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        Ok(Exit::Done)
    }
}

fn unknown(name: &str) -> Failure {
    let near = |known: &String| distance(&known.to_lowercase(), &name.to_lowercase());
    let nearest = schema::names().into_iter().min_by_key(near).filter(|known| near(known) < 4);
    let advice = nearest.map_or_else(String::new, |known| format!("did you mean {known}? "));
    Failure::Usage(format!("there is no schema of {name:?}; {advice}'siod schema --list' shows all names"))
}
