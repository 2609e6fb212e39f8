//! import.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use portolan::Value;

use super::{output, written};
use crate::arguments::Import;
use crate::client::Client;
use crate::failure::Failure;
use crate::import::{Entries, Held, Layout};
use crate::json::{key_json, value_json};

/// `portolan import`
pub(crate) fn import(arguments: &Import) -> Result<(), Failure> {
    let Import {
        map,
        file,
        format,
        nested,
        rows,
        key,
        duplicates,
        server,
    } = arguments;
    let layout = Layout::choose(file, *format, rows.as_deref(), key.clone(), *duplicates);
    let layout = layout.map_err(Failure::Usage)?;
    let client = Client::new(server)?;
    let start = Instant::now();
    let bytes = read(file)?;
    let name = file.display();
    let mut entries = layout
        .parse(&bytes)
        .map_err(|error| Failure::Usage(format!("{name}, {error}; nothing was imported")))?;
    drop(bytes);
    if *nested {
        for entry in &mut entries.list {
            entry.held = std::mem::take(&mut entry.held).nested();
        }
    }
    let body = operations(&entries);
    let bar = progress(body.len() as u64);
    let mut reader = bar.wrap_read(body.as_slice());
    let stored = client.transact(map, body.len(), &mut reader);
    bar.finish_and_clear();
    stored.map(drop)?;
    let mut line = format!(
        "imported {} into {map}",
        count(entries.list.len(), "entry", "entries")
    );
    let took = start.elapsed().as_secs_f64();
    let _ = write!(line, " in {took:.2} s");
    if entries.left_out > 0 {
        let _ = write!(
            line,
            "; {} left out",
            count(entries.left_out, "duplicate", "duplicates")
        );
    }
    // Siblings are values of writers who did not know of each other. An import is one writer, and
    // to borrow the dots of others would give two operations one name.
    let with_siblings = entries
        .list
        .iter()
        .filter(|entry| !entry.held.siblings.is_empty());
    match with_siblings.count() {
        0 => {}
        1 => line.push_str("; of 1 key with siblings only the winner"),
        n => {
            let _ = write!(line, "; of {n} keys with siblings only the winners");
        }
    }
    let mut out = output();
    written(writeln!(out, "{line}").and_then(|()| out.flush()))
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = if file == Path::new("-") {
        std::io::stdin().read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|mut file| file.read_to_end(&mut bytes))
    };
    match read {
        Ok(_) => Ok(bytes),
        Err(error) => Err(Failure::Usage(format!(
            "cannot read {}: {error}",
            file.display()
        ))),
    }
}

/// The transaction as NDJSON.
fn operations(entries: &Entries) -> Vec<u8> {
    let mut body = String::new();
    for entry in &entries.list {
        let key = key_json(&entry.key);
        if entry.held.has_containers() {
            // What is in the file is to stand there, and not what it makes of what was there.
            operation(&mut body, "unset", std::slice::from_ref(&key), None);
        }
        put(&mut body, &mut vec![key], &entry.held);
    }
    body.into_bytes()
}

/// Writes what stands in one place.
fn put(body: &mut String, path: &mut Vec<String>, held: &Held) {
    if let Some(value) = &held.value {
        operation(body, "set", path, Some(&value_json(value)));
    }
    put_containers(body, path, held);
}

/// The array comes last: behind one a number would be an index.
fn put_containers(body: &mut String, path: &mut Vec<String>, held: &Held) {
    for entry in &held.map {
        path.push(key_json(&entry.key));
        put(body, path, &entry.held);
        path.pop();
    }
    for member in &held.set {
        operation(body, "insert", path, Some(&value_json(member)));
    }
    if let Some(count) = held.counter {
        operation(body, "add", path, Some(&count.to_string()));
    }
    for (index, element) in held.array.iter().enumerate() {
        // An element begins with a value; one that has none loses it once something else is there.
        let value = element.value.as_ref().unwrap_or(&Value::Null);
        operation(body, "append", path, Some(&value_json(value)));
        path.push(index.to_string());
        put_containers(body, path, element);
        if element.value.is_none() {
            operation(body, "unset-values", path, None);
        }
        path.pop();
    }
}

fn operation(body: &mut String, name: &str, path: &[String], value: Option<&str>) {
    let place = match path {
        [key] => format!("\"key\":{key}"),
        path => format!("\"path\":[{}]", path.join(",")),
    };
    let value = value.map_or_else(String::new, |value| format!(",\"value\":{value}"));
    // Writing to a string does not fail.
    let _ = writeln!(body, "{{\"op\":\"{name}\",{place}{value}}}");
}

/// Drawn on a terminal only.
fn progress(bytes: u64) -> ProgressBar {
    const TEMPLATE: &str = "{msg} {wide_bar} {bytes}/{total_bytes} {elapsed}";
    let style = ProgressStyle::with_template(TEMPLATE).expect("the template is well-formed");
    let bar = ProgressBar::new(bytes)
        .with_style(style)
        .with_message("importing");
    // Time goes on while the server stores, after all is sent.
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
