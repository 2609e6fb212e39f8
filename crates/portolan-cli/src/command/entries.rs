//! get, set, unset, keys, export.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, BufWriter, IsTerminal as _, Read as _, Write};

use anstream::eprintln;
use portolan::{Key, Value};
use serde::Deserialize;

use super::{output, written};
use crate::arguments::{Export, ExportFormat, Get, Keys, Set, Unset};
use crate::client::{Client, key_path, map_path, segment};
use crate::failure::Failure;
use crate::json::{ParsedKey, ParsedValue, key_json, key_text, value_from_text, value_json};

/// `portolan get`
pub(crate) fn get(arguments: &Get) -> Result<(), Failure> {
    let client = Client::new(&arguments.server)?;
    let text = text(client.get(&key_path(&arguments.place, true), &[])?)?;
    let siblings: Vec<ParsedValue> =
        serde_json::from_str(&text).map_err(|error| no_portolan(&error))?;
    let Some(winner) = siblings.first() else {
        return Err(Failure::NotFound("the key has no value".to_owned()));
    };
    let mut out = output();
    let printed = match (arguments.all, arguments.json) {
        (true, true) => writeln!(out, "{}", text.trim_end()),
        (false, true) => writeln!(out, "{}", value_json(&winner.0)),
        (true, false) => siblings
            .iter()
            .try_for_each(|value| writeln!(out, "{}", plain(&value.0))),
        (false, false) => writeln!(out, "{}", plain(&winner.0)),
    };
    written(printed.and_then(|()| out.flush()))?;
    let more = siblings.len() - 1;
    if more > 0 && !arguments.all && std::io::stderr().is_terminal() {
        let values = if more == 1 {
            "value was"
        } else {
            "values were"
        };
        eprintln!("{more} more {values} written at the same time: --all shows them");
    }
    Ok(())
}

/// `portolan set`
pub(crate) fn set(arguments: &Set) -> Result<(), Failure> {
    let client = Client::new(&arguments.server)?;
    let text = match arguments.value.as_str() {
        "-" => {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            read.map_err(|error| Failure::Usage(format!("cannot read standard input: {error}")))?;
            // The newline that ends what `echo` writes is not meant.
            let line = text.strip_suffix('\n').unwrap_or(&text);
            line.strip_suffix('\r').unwrap_or(line).to_owned()
        }
        text => text.to_owned(),
    };
    let value = value_from_text(&text);
    let value = value.map_err(|error| Failure::Usage(format!("the value: {error}")))?;
    client.put(&key_path(&arguments.place, false), &value_json(&value))
}

/// `portolan unset`
pub(crate) fn unset(arguments: &Unset) -> Result<(), Failure> {
    Client::new(&arguments.server)?.delete(&key_path(&arguments.place, false))
}

/// `portolan keys`
pub(crate) fn keys(arguments: &Keys) -> Result<(), Failure> {
    let client = Client::new(&arguments.server)?;
    let mut path = format!("{}/keys", map_path(&arguments.map));
    if let Some(pattern) = &arguments.pattern {
        path = format!("{path}?pattern={}", segment(pattern));
    }
    let response = client.get(&path, &[("accept", "application/x-ndjson")])?;
    let mut out = BufWriter::new(output());
    for line in BufReader::new(response.into_body().into_reader()).lines() {
        let line = line.map_err(|error| broken_off(&error))?;
        if arguments.json {
            written(writeln!(out, "{line}"))?;
            continue;
        }
        let key: ParsedKey = serde_json::from_str(&line).map_err(|error| no_portolan(&error))?;
        let text = key_text(&key.0);
        // One key stays on one line.
        let text = if text.contains(char::is_control) {
            line.into()
        } else {
            text
        };
        written(writeln!(out, "{text}"))?;
    }
    written(out.flush())
}

/// `portolan export`
pub(crate) fn export(arguments: &Export) -> Result<(), Failure> {
    let client = Client::new(&arguments.server)?;
    let accept = match arguments.format {
        ExportFormat::Json => "application/json",
        ExportFormat::Ndjson | ExportFormat::Csv => "application/x-ndjson",
    };
    let response = client.get(&map_path(&arguments.map), &[("accept", accept)])?;
    let mut body = response.into_body().into_reader();
    let mut out = BufWriter::new(std::io::stdout().lock());
    if arguments.format == ExportFormat::Csv {
        let table = csv_table(BufReader::new(body))?;
        written(out.write_all(&table))?;
        return written(out.flush());
    }
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match body.read(&mut buffer).map_err(|error| broken_off(&error))? {
            0 => break,
            length => written(out.write_all(&buffer[..length]))?,
        }
    }
    if arguments.format == ExportFormat::Json {
        written(out.write_all(b"\n"))?;
    }
    written(out.flush())
}

#[derive(Deserialize)]
struct Line {
    key: ParsedKey,
    value: ParsedValue,
}

fn csv_table(lines: impl std::io::BufRead) -> Result<Vec<u8>, Failure> {
    let mut table = csv::Writer::from_writer(Vec::new());
    let wrong = |error: csv::Error| Failure::Refused(format!("cannot write CSV: {error}"));
    table.write_record(["key", "value"]).map_err(wrong)?;
    // A string can look like another key only if it looks like JSON, which few do.
    let mut texts: HashSet<String> = HashSet::new();
    for line in lines.lines() {
        let line: Line = serde_json::from_str(&line.map_err(|error| broken_off(&error))?)
            .map_err(|error| no_portolan(&error))?;
        let text = key_text(&line.key.0);
        let may_clash = !matches!(&line.key.0, Key::Str(text) if !looks_like_other_key(text));
        if may_clash && !texts.insert(text.clone().into_owned()) {
            let key = key_json(&line.key.0);
            return Err(Failure::Refused(format!(
                "two keys would both be written {text} (one is {key}): export with --format ndjson"
            )));
        }
        let value = value_json(&line.value.0);
        table
            .write_record([text.as_ref(), value.as_str()])
            .map_err(wrong)?;
    }
    table
        .into_inner()
        .map_err(|error| Failure::Refused(format!("cannot write CSV: {error}")))
}

fn looks_like_other_key(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '-' | '{' | 't' | 'f'))
}

/// A string as it is, everything else as JSON, spread over lines where that helps.
fn plain(value: &Value) -> String {
    match value {
        Value::Str(text) => text.to_string(),
        Value::List(_) | Value::Map(_) if std::io::stdout().is_terminal() => {
            let json = serde_json::to_string_pretty(&crate::json::JsonValue(value));
            json.expect("a value always serialises")
        }
        other => value_json(other),
    }
}

/// The whole of an answer.
pub(super) fn text(response: ureq::http::Response<ureq::Body>) -> Result<String, Failure> {
    let mut text = String::new();
    response
        .into_body()
        .into_reader()
        .read_to_string(&mut text)
        .map_err(|error| broken_off(&error))?;
    Ok(text)
}

pub(super) fn broken_off(error: &std::io::Error) -> Failure {
    Failure::Unreachable(format!("the server's answer broke off: {error}"))
}

pub(super) fn no_portolan(error: &serde_json::Error) -> Failure {
    Failure::Refused(format!(
        "the server's answer cannot be read: {error}; is it of this release?"
    ))
}
