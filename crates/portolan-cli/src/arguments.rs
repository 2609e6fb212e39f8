//! The command line: what may be asked for.

mod redis;
mod serve;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use self::redis::{Redis, RedisOperation};
pub(crate) use self::serve::{LogFormat, Serve};
use crate::moment::When;

const EXIT_CODES: &str = "Exit codes: 0 done, 1 not found, 2 wrong usage, 3 could not reach the \
                          server, 4 refused.";

/// One map that many processes hold at once.
#[derive(Debug, Parser)]
#[command(name = "portolan", version, after_help = EXIT_CODES, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a server: a replica of every map, with a WebSocket and HTTP listener
    Serve(Box<Serve>),
    /// Print the value of a key
    Get(Get),
    /// Write a value; ends when the server has stored it
    Set(Set),
    /// Remove a key; ends when the server has stored it
    Unset(Unset),
    /// Add to a counter
    #[command(override_usage = "portolan add [OPTIONS] <MAP> <KEY>... <N>")]
    Add(Write),
    /// Append to an array
    Append(Append),
    /// Insert into a set
    #[command(override_usage = "portolan insert [OPTIONS] <MAP> <KEY>... <VALUE>")]
    Insert(Write),
    /// Remove from a set
    #[command(override_usage = "portolan remove [OPTIONS] <MAP> <KEY>... <VALUE>")]
    Remove(Write),
    /// Bring a deleted element of an array back
    Undelete(Undelete),
    /// Print what became of a map: who changed what, and when
    History(History),
    /// List the keys of a map
    Keys(Keys),
    /// Print changes as they happen; survives restarts of the server
    Watch(Watch),
    /// Write the entries of a file into a map, all in one transaction
    Import(Import),
    /// Print a whole map
    Export(Export),
    /// Show what the server holds and whom it is connected to
    Status(Status),
    /// List the replicas that a map waits for before it lets go of what was deleted
    Members(Members),
    /// Wait no longer for a replica that will not come back
    Forget(Forget),
    /// Use a coordinated map on Redis, which Go services may share
    Redis(Redis),
    /// Check a store that no server has open
    Verify(Verify),
    /// Print the completions for a shell
    Completions(Completions),
}

/// Where the server is.
#[derive(Debug, Args)]
pub(crate) struct Server {
    /// The server's URL
    #[arg(
        long = "server",
        env = "PORTOLAN_SERVER",
        value_name = "URL",
        default_value = "http://127.0.0.1:7117",
        help_heading = "Server"
    )]
    pub(crate) url: String,
    /// The token that gives access
    #[arg(
        long,
        env = "PORTOLAN_TOKEN",
        value_name = "JWT",
        hide_env_values = true,
        help_heading = "Server"
    )]
    pub(crate) token: Option<String>,
    /// Trust the certificates in this PEM file instead of the public ones
    #[arg(
        long,
        env = "PORTOLAN_CA",
        value_name = "FILE",
        help_heading = "Server"
    )]
    pub(crate) ca: Option<PathBuf>,
}

/// Which key of which map.
#[derive(Clone, Debug, Args)]
pub(crate) struct Place {
    /// Name of the map
    pub(crate) map: String,
    /// The key
    #[arg(allow_hyphen_values = true)]
    pub(crate) key: String,
    /// The keys that lead further down; of an array an index, or `@` and an element's id
    #[arg(value_name = "KEY", allow_negative_numbers = true)]
    pub(crate) deeper: Vec<String>,
    /// Each KEY is JSON that gives its kind: 1, true, "text" or {"$bytes": "<base64>"}
    #[arg(long)]
    pub(crate) typed: bool,
}

impl Place {
    /// The keys from the root.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        let deeper = self.deeper.iter().map(String::as_str);
        std::iter::once(self.key.as_str()).chain(deeper)
    }
}

/// Which key of which map, and what to write there.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// Name of the map
    pub(crate) map: String,
    /// The key
    #[arg(allow_hyphen_values = true)]
    pub(crate) key: String,
    /// What to write: JSON if it parses as JSON, else a string; `-` reads standard input
    #[arg(allow_hyphen_values = true)]
    pub(crate) value: String,
    /// Where more follows, all but the last are keys that lead further down, and the last is what
    /// to write
    #[arg(value_name = "…", allow_negative_numbers = true)]
    pub(crate) rest: Vec<String>,
    /// Each KEY is JSON that gives its kind: 1, true, "text" or {"$bytes": "<base64>"}
    #[arg(long)]
    pub(crate) typed: bool,
}

impl Target {
    /// The place, and the text of the value.
    pub(crate) fn split(&self) -> (Place, &str) {
        let (deeper, value) = match self.rest.split_last() {
            None => (Vec::new(), &self.value),
            Some((last, between)) => {
                let deeper = std::iter::once(&self.value).chain(between);
                (deeper.cloned().collect(), last)
            }
        };
        let place = Place {
            map: self.map.clone(),
            key: self.key.clone(),
            deeper,
            typed: self.typed,
        };
        (place, value)
    }
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    #[command(flatten)]
    pub(crate) place: Place,
    /// All siblings, the winner first
    #[arg(long)]
    pub(crate) all: bool,
    /// The elements of an array with their ids
    #[arg(long, conflicts_with = "all")]
    pub(crate) ids: bool,
    /// As it was then: 2026-01-31T12:00:00Z, how long ago (15m, 2h, 1d), or milliseconds since 1970
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) at: Option<String>,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: Server,
}

/// A moment, checked where the mistake is made.
fn moment(text: &str) -> Result<String, String> {
    When::parse(text, 0).map(|_| text.to_owned())
}

#[derive(Debug, Args)]
#[command(override_usage = "portolan set [OPTIONS] <MAP> <KEY>... <VALUE>")]
pub(crate) struct Set {
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) server: Server,
}

/// add, insert, remove.
#[derive(Debug, Args)]
pub(crate) struct Write {
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Debug, Args)]
#[command(override_usage = "portolan append [OPTIONS] <MAP> <KEY>... <VALUE>")]
pub(crate) struct Append {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Insert before the element at this index instead
    #[arg(long, value_name = "INDEX")]
    pub(crate) at: Option<usize>,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Debug, Args)]
pub(crate) struct Unset {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Debug, Args)]
#[command(override_usage = "portolan undelete [OPTIONS] <MAP> <KEY>... <ID>")]
pub(crate) struct Undelete {
    /// The place of the array, and the element's id, as `history` and `get --ids` tell it
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Debug, Args)]
pub(crate) struct History {
    /// Name of the map
    pub(crate) map: String,
    /// Only what happened under this key; more keys lead further down
    #[arg(value_name = "KEY", allow_negative_numbers = true)]
    pub(crate) keys: Vec<String>,
    /// Each KEY is JSON that gives its kind: 1, true, "text" or {"$bytes": "<base64>"}
    #[arg(long)]
    pub(crate) typed: bool,
    /// From when on: 2026-01-31T12:00:00Z, how long ago (15m, 2h, 1d), milliseconds since 1970, or
    /// a version
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) since: Option<String>,
    /// Until when, in the same forms
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) until: Option<String>,
    /// Each change by itself, instead of what is different in the end
    #[arg(long)]
    pub(crate) each: bool,
    /// Only so many, the latest
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// One JSON object a line for every change
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Debug, Args)]
pub(crate) struct Keys {
    /// Name of the map
    pub(crate) map: String,
    /// Only the keys that match: `*` stands for anything but `/`, `**` for anything
    pub(crate) pattern: Option<String>,
    /// Of the map under this key; repeated, further down
    #[arg(long = "in", value_name = "KEY")]
    pub(crate) within: Vec<String>,
    /// One key a line as JSON that gives its kind
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// Name of the map
    pub(crate) map: String,
    /// Only the paths that match: `*` stands for anything but `/`, `**` for anything
    pub(crate) pattern: Option<String>,
    /// One JSON object a line for every change
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// Name of the map
    pub(crate) map: String,
    /// The file; `-` reads standard input
    pub(crate) file: PathBuf,
    /// How to read it [default: by the file's extension, or by --rows]
    #[arg(long)]
    pub(crate) format: Option<ImportFormat>,
    /// Make maps of the objects and arrays of the lists in values, at every depth, instead of one
    /// value of each
    #[arg(long)]
    pub(crate) nested: bool,
    /// Where the rows are in a JSON document, as a JSON pointer (RFC 6901)
    #[arg(long, value_name = "POINTER", requires = "key")]
    pub(crate) rows: Option<String>,
    /// The field of each row that is its key [default for CSV: the first column]
    #[arg(long, value_name = "FIELD")]
    pub(crate) key: Option<String>,
    /// What to do where the file has one key twice
    #[arg(long, value_name = "RULE", default_value = "refuse")]
    pub(crate) duplicates: Duplicates,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ImportFormat {
    /// An object of keys and values, or rows in a document
    Json,
    /// An object a line: {"key": …, "value": …}, or a row with --key
    Ndjson,
    /// A header, then a row a line
    Csv,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Duplicates {
    /// Import nothing
    Refuse,
    /// Take the first
    First,
    /// Take the last
    Last,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Name of the map
    pub(crate) map: String,
    /// How to write it; ndjson alone keeps siblings, and the kind of each key and container
    #[arg(long, default_value = "json")]
    pub(crate) format: ExportFormat,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// One object of winners
    Json,
    /// One object a line: {"key": …, "value": …, "siblings": […]}, for containers "map", "array",
    /// "set" or "counter" in place of the value
    Ndjson,
    /// Columns key and value (as JSON)
    Csv,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Debug, Args)]
pub(crate) struct Members {
    /// Name of the map
    pub(crate) map: String,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Debug, Args)]
pub(crate) struct Forget {
    /// Name of the map
    pub(crate) map: String,
    /// The replica's id, as `members` tells it
    pub(crate) replica: String,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The folder of the store
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
