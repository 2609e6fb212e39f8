//! get, set, unset, add, append, insert, remove, undelete, keys, export.

use std::fmt::{self, Write as _};
use std::io::{BufRead as _, BufReader, BufWriter, IsTerminal as _, Read as _, Write as _};

use anstream::eprintln;
use portolan::{Key, Value};
use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, Visitor};

use serde_json::value::RawValue;

use super::{output, written};
use crate::arguments::{
    Append, Export, ExportFormat, Get, Keys, Place, Server, Set, Undelete, Unset, Write,
};
use crate::client::{Client, key_path, map_path, segment};
use crate::failure::Failure;
use crate::json::{ParsedKey, dot, key_json, key_text, value_from_text, value_json};

/// `portolan get`
pub(crate) fn get(arguments: &Get) -> Result<(), Failure> {
    let client = Client::new(&arguments.server)?;
    let mut path = key_path(&arguments.place, true);
    if let Some(at) = &arguments.at {
        path = format!("{path}&at={}", segment(at));
    }
    if arguments.ids {
        return elements(&client, &format!("{path}&ids"), arguments.json);
    }
    let text = text(client.get(&path, &[])?)?;
    // As the server wrote it, however deep it is.
    let siblings: Vec<&RawValue> =
        serde_json::from_str(&text).map_err(|error| no_portolan(&error))?;
    let Some(winner) = siblings.first() else {
        return Err(Failure::NotFound("the key has no value".to_owned()));
    };
    let mut out = output();
    let printed = match (arguments.all, arguments.json) {
        (true, true) => writeln!(out, "{}", text.trim_end()),
        (false, true) => writeln!(out, "{winner}"),
        (true, false) => siblings
            .iter()
            .try_for_each(|value| writeln!(out, "{}", plain(value))),
        (false, false) => writeln!(out, "{}", plain(winner)),
    };
    written(printed.and_then(|()| out.flush()))?;
    let more = siblings.len() - 1;
    if more > 0 && !arguments.all && std::io::stderr().is_terminal() {
        let stand = if more == 1 { "stands" } else { "stand" };
        eprintln!("{more} more {stand} beside it: --all shows them");
    }
    Ok(())
}

/// The elements of an array, each with its id.
fn elements(client: &Client, path: &str, json: bool) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct Element<'a> {
        id: &'a str,
        #[serde(borrow)]
        value: &'a RawValue,
    }
    let text = text(client.get(path, &[])?)?;
    let elements: Vec<Element<'_>> =
        serde_json::from_str(&text).map_err(|error| no_portolan(&error))?;
    let mut out = BufWriter::new(output());
    if json {
        written(writeln!(out, "{}", text.trim_end()))?;
    } else {
        for Element { id, value } in elements {
            written(writeln!(out, "@{id} {value}"))?;
        }
    }
    written(out.flush())
}

/// `portolan set`
pub(crate) fn set(arguments: &Set) -> Result<(), Failure> {
    let client = Client::new(&arguments.server)?;
    let (place, value) = arguments.target.split();
    let value = read_value(value)?;
    client.put(&key_path(&place, false), &value_json(&value))
}

/// The value that an argument gives.
fn read_value(text: &str) -> Result<Value, Failure> {
    let text = match text {
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
    value.map_err(|error| Failure::Usage(format!("the value: {error}")))
}

/// `portolan add`
pub(crate) fn add(arguments: &Write) -> Result<(), Failure> {
    let (place, text) = arguments.target.split();
    let value = read_value(text)?;
    if value.as_int().is_none() {
        return Err(Failure::Usage(format!("{text} is no integer of 64 bits")));
    }
    write(&arguments.server, &place, "add", &value, None).map(drop)
}

/// `portolan append`
pub(crate) fn append(arguments: &Append) -> Result<(), Failure> {
    let (place, text) = arguments.target.split();
    let operation = match arguments.at {
        Some(_) => "insert",
        None => "append",
    };
    let value = read_value(text)?;
    write(&arguments.server, &place, operation, &value, arguments.at).map(drop)
}

/// `portolan insert`
pub(crate) fn insert(arguments: &Write) -> Result<(), Failure> {
    let (place, text) = arguments.target.split();
    write(
        &arguments.server,
        &place,
        "insert",
        &read_value(text)?,
        None,
    )
    .map(drop)
}

/// `portolan remove`
pub(crate) fn remove(arguments: &Write) -> Result<(), Failure> {
    let (place, text) = arguments.target.split();
    let done = write(
        &arguments.server,
        &place,
        "remove",
        &read_value(text)?,
        None,
    )?;
    if done.unset == 0 {
        return Err(Failure::NotFound(format!("{text} is no member of the set")));
    }
    Ok(())
}

/// `portolan undelete`
pub(crate) fn undelete(arguments: &Undelete) -> Result<(), Failure> {
    let mut place = arguments.place.clone();
    let Some(id) = place.deeper.pop() else {
        return Err(Failure::Usage("the element's id is missing".to_owned()));
    };
    let id = id.strip_prefix('@').unwrap_or(&id);
    let Some(id) = dot(id) else {
        return Err(Failure::Usage(format!(
            "{id} is no id of an element: `portolan history` tells those of deleted ones"
        )));
    };
    let mut keys = keys_json(&place)?;
    keys.push(key_json(&Key::Element(id)));
    let body = format!("{{\"op\":\"undelete\",\"path\":[{}]}}\n", keys.join(","));
    let done = transact(&arguments.server, &place.map, &body)?;
    if done.changed == 0 {
        return Err(Failure::NotFound(format!(
            "the element {id} is not deleted"
        )));
    }
    Ok(())
}

/// What the server says that a transaction did.
#[derive(Deserialize)]
struct Done {
    unset: usize,
    #[serde(default)]
    changed: usize,
}

/// The keys of a place as JSON that gives their kinds.
fn keys_json(place: &Place) -> Result<Vec<String>, Failure> {
    if !place.typed {
        return Ok(place.keys().map(|key| key_json(&Key::from(key))).collect());
    }
    let parsed = place.keys().map(serde_json::from_str::<ParsedKey>);
    let texts = parsed.map(|key| key.map(|key| key_json(&key.0)));
    let texts: Result<_, _> = texts.collect();
    texts.map_err(|error| Failure::Usage(format!("the typed key: {error}")))
}

fn transact(server: &Server, map: &str, body: &str) -> Result<Done, Failure> {
    let client = Client::new(server)?;
    let answer = text(client.transact(map, body.len(), &mut body.as_bytes())?)?;
    serde_json::from_str(&answer).map_err(|error| no_portolan(&error))
}

/// A transaction of one operation.
fn write(
    server: &Server,
    place: &Place,
    operation: &str,
    value: &Value,
    index: Option<usize>,
) -> Result<Done, Failure> {
    let keys = keys_json(place)?.join(",");
    let index = index.map_or_else(String::new, |index| format!(",\"index\":{index}"));
    let value = value_json(value);
    let body = format!("{{\"op\":\"{operation}\",\"path\":[{keys}],\"value\":{value}{index}}}\n");
    transact(server, &place.map, &body)
}

/// `portolan unset`
pub(crate) fn unset(arguments: &Unset) -> Result<(), Failure> {
    Client::new(&arguments.server)?.delete(&key_path(&arguments.place, false))
}

/// `portolan keys`
pub(crate) fn keys(arguments: &Keys) -> Result<(), Failure> {
    let client = Client::new(&arguments.server)?;
    let mut path = format!("{}/keys", map_path(&arguments.map));
    let mut query = Vec::new();
    if let Some(pattern) = &arguments.pattern {
        query.push(format!("pattern={}", segment(pattern)));
    }
    if !arguments.within.is_empty() {
        let keys = arguments.within.iter().map(|key| key_json(&Key::from(key)));
        let keys = keys.collect::<Vec<_>>().join(",");
        query.push(format!("in={}", segment(&format!("[{keys}]"))));
    }
    if !query.is_empty() {
        path = format!("{path}?{}", query.join("&"));
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
        ExportFormat::Json | ExportFormat::Csv => "application/json",
        ExportFormat::Ndjson => "application/x-ndjson",
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

fn csv_table(object: impl std::io::Read) -> Result<Vec<u8>, Failure> {
    let mut table = csv::Writer::from_writer(Vec::new());
    let wrong = |error: csv::Error| Failure::Refused(format!("cannot write CSV: {error}"));
    table.write_record(["key", "value"]).map_err(wrong)?;
    let mut input = serde_json::Deserializer::from_reader(object);
    let read = Rows(&mut table).deserialize(&mut input);
    read.and_then(|()| input.end())
        .map_err(|error| match error.io_error_kind() {
            Some(kind) => broken_off(&kind.into()),
            None => no_portolan(&error),
        })?;
    table
        .into_inner()
        .map_err(|error| Failure::Refused(format!("cannot write CSV: {error}")))
}

/// The fields of an object as rows, one after the other.
struct Rows<'t>(&'t mut csv::Writer<Vec<u8>>);

impl<'de> DeserializeSeed<'de> for Rows<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Rows<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of keys and values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut input: A) -> Result<(), A::Error> {
        while let Some(name) = input.next_key::<String>()? {
            // As the server wrote it, however deep it is.
            let value: Box<RawValue> = input.next_value()?;
            let row = self.0.write_record([name.as_str(), value.get()]);
            row.map_err(de::Error::custom)?;
        }
        Ok(())
    }
}

/// A string as it is, everything else as JSON, spread over lines where that helps.
fn plain(value: &RawValue) -> String {
    shown(value.get(), std::io::stdout().is_terminal())
}

fn shown(json: &str, on_terminal: bool) -> String {
    if json.starts_with('"') {
        // What others have written is not to steer the terminal.
        let harmless = |text: &String| {
            let mut steering = text.chars().filter(|c| c.is_control());
            !on_terminal || steering.all(|c| matches!(c, '\n' | '\t'))
        };
        let text = serde_json::from_str(json).ok().filter(harmless);
        return text.unwrap_or_else(|| escaped(json));
    }
    let wide = json.starts_with(['[', '{']) && on_terminal;
    let parsed = wide.then(|| serde_json::from_str::<serde_json::Value>(json).ok());
    let pretty = parsed
        .flatten()
        .and_then(|parsed| serde_json::to_string_pretty(&parsed).ok());
    pretty.unwrap_or_else(|| json.to_owned())
}

/// JSON without control characters: it may hold those above U+007F as they are.
fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_control() {
            // Writing to a string does not fail.
            let _ = write!(text, "\\u{:04x}", u32::from(c));
        } else {
            text.push(c);
        }
    }
    text
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_does_not_steer_the_terminal_and_goes_through_a_pipe_as_it_is() {
        let (plain, steering) = (r#""two\nlines\t\u00fc""#, r#""\u001b[2J\u009bm""#);
        for on_terminal in [false, true] {
            assert_eq!(shown(plain, on_terminal), "two\nlines\t\u{fc}");
        }
        assert_eq!(shown(steering, false), "\u{1b}[2J\u{9b}m");
        assert_eq!(shown(steering, true), steering);
        assert_eq!(shown("\"\u{9b}m\"", true), r#""\u009bm""#);
        assert_eq!(shown("[1]", false), "[1]");
        assert_eq!(shown("[1]", true), "[\n  1\n]");
    }
}
