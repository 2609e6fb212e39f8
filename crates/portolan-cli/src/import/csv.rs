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
    check_quotes(file)?;
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

/// Refuses a quote that is never closed, and what stands beside a quoted text in its field: the
/// reader would take both without a word. The place is that of the field.
fn check_quotes(file: &[u8]) -> Result<(), ParseError> {
    /// Where in a field.
    #[derive(Clone, Copy, PartialEq)]
    enum At {
        Start,
        Plain,
        Quoted,
        /// Behind a quote that closes the text, or with another one stands for a quote in it.
        Closed,
    }
    let (mut line, mut field, mut at) = (1, 1, At::Start);
    let mut start = (line, field);
    let wrong = |(line, column), message: &str| {
        let message = message.to_owned();
        Err(ParseError {
            line,
            column,
            message,
        })
    };
    for &byte in file {
        if at == At::Start {
            start = (line, field);
        }
        at = match (at, byte) {
            (At::Quoted, b'"') => At::Closed,
            (At::Start | At::Closed, b'"') | (At::Quoted, _) => At::Quoted,
            (_, b',') => {
                field += 1;
                At::Start
            }
            (_, b'\r' | b'\n') => {
                field = 1;
                At::Start
            }
            (At::Closed, _) => return wrong(start, "text behind the quote that closes the field"),
            (At::Start | At::Plain, _) => At::Plain,
        };
        line += u64::from(byte == b'\n');
    }
    match at {
        At::Quoted => wrong(start, "a quote that is never closed"),
        _ => Ok(()),
    }
}
