//! Entries from CSV with a header.

use std::collections::BTreeMap;

use portolan::{Key, SmolStr, Value};

use super::{Entries, Entry, Held, ParseError};
use crate::json::value_from_text;

/// A row is an object of strings under the text in its key column; columns `key` and `value`,
/// as an export writes them, are a key with its value.
///
/// The column of an error is the number of the field, as in a spreadsheet.
pub(super) fn read(
    file: &[u8],
    key: Option<&str>,
    entries: &mut Entries,
) -> Result<(), ParseError> {
    if let Some((line, column)) = unclosed_quote(file) {
        let message = "a quote that is never closed".to_owned();
        return Err(ParseError {
            line,
            column,
            message,
        });
    }
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(file);
    let header = reader.headers().map_err(|error| located(&error))?.clone();
    let at_header = |column: usize, message| ParseError {
        line: 1,
        column: column as u64 + 1,
        message,
    };
    if header.is_empty() {
        return Err(at_header(0, "there is no header".to_owned()));
    }
    for (index, name) in header.iter().enumerate() {
        if header.iter().take(index).any(|before| before == name) {
            return Err(at_header(index, format!("the header has {name:?} twice")));
        }
    }
    let key_column = match key {
        None => 0,
        Some(key) => header.iter().position(|name| name == key).ok_or_else(|| {
            let there: Vec<_> = header.iter().collect();
            at_header(
                0,
                format!("the header has no {key:?}; it has {}", there.join(", ")),
            )
        })?,
    };
    let pairs = key_column == 0 && header.iter().eq(["key", "value"]);
    let mut record = csv::StringRecord::new();
    while reader
        .read_record(&mut record)
        .map_err(|error| located(&error))?
    {
        let line = record.position().map_or(0, csv::Position::line);
        let at = |column: usize, message| ParseError {
            line,
            column: column as u64 + 1,
            message,
        };
        if record.len() != header.len() {
            let (found, expected) = (record.len(), header.len());
            let last = found.min(expected) - 1;
            let plural = if found == 1 { "field" } else { "fields" };
            let message = format!("the row has {found} {plural}; the header has {expected}");
            return Err(at(last, message));
        }
        let value = if pairs {
            value_from_text(&record[1]).map_err(|message| at(1, message))?
        } else {
            let fields = header.iter().zip(&record);
            let fields = fields.map(|(name, text)| (SmolStr::new(name), Value::from(text)));
            Value::from(fields.collect::<BTreeMap<_, _>>())
        };
        let key = Key::from(&record[key_column]);
        let held = Held::from(value);
        let entry = Entry { key, held };
        entries
            .push(entry)
            .map_err(|message| at(key_column, message))?;
    }
    Ok(())
}

fn located(error: &csv::Error) -> ParseError {
    let line = error.position().map_or(1, csv::Position::line);
    match error.kind() {
        csv::ErrorKind::Utf8 { err, .. } => {
            let column = err.field() as u64 + 1;
            ParseError {
                line,
                column,
                message: "the field is not UTF-8".to_owned(),
            }
        }
        _ => ParseError {
            line,
            column: 1,
            message: error.to_string(),
        },
    }
}

/// Line and field of the quote that swallows the rest of the file, if one does; the reader
/// would take it without a word.
fn unclosed_quote(file: &[u8]) -> Option<(u64, u64)> {
    let (mut line, mut field) = (1, 1);
    let mut at_start = true;
    let mut opened = None;
    for &byte in file {
        match byte {
            b'"' if opened.is_some() => opened = None,
            // A quote straight after a closed one is an escaped quote: it opens again.
            b'"' if at_start => opened = Some((line, field)),
            b',' if opened.is_none() => {
                field += 1;
                at_start = true;
            }
            b'\n' => {
                line += 1;
                if opened.is_none() {
                    field = 1;
                    at_start = true;
                }
            }
            _ if opened.is_none() => at_start = false,
            _ => {}
        }
    }
    opened
}
