//! Files as entries of a map: read whole and checked whole before anything is sent.

mod csv;
mod json;

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use portolan::{Key, Value};

use crate::arguments::{Duplicates, ImportFormat};
use crate::json::check_key;

/// What the file says about one key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: Key,
    pub(crate) held: Held,
}

/// What stands in one place.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Held {
    pub(crate) value: Option<Value>,
    /// Values that stood beside it.
    pub(crate) siblings: Vec<Value>,
    pub(crate) map: Vec<Entry>,
    pub(crate) array: Vec<Held>,
    pub(crate) set: Vec<Value>,
    pub(crate) counter: Option<i64>,
}

impl From<Value> for Held {
    fn from(value: Value) -> Self {
        Self {
            value: Some(value),
            ..Self::default()
        }
    }
}

impl Held {
    pub(crate) fn has_containers(&self) -> bool {
        let none = self.map.is_empty() && self.array.is_empty() && self.set.is_empty();
        !none || self.counter.is_some()
    }

    /// With maps for the objects and arrays for the lists in values. Empty ones stay values:
    /// containers in which there is nothing are not there.
    pub(crate) fn nested(self) -> Self {
        match self.value {
            Some(Value::Map(fields)) if !fields.is_empty() => {
                let fields = fields.iter().map(|(name, value)| Entry {
                    key: Key::Str(name.clone()),
                    held: Self::from(value.clone()).nested(),
                });
                Self {
                    value: None,
                    map: fields.collect(),
                    ..self
                }
            }
            Some(Value::List(items)) if !items.is_empty() => {
                let items = items.iter().map(|item| Self::from(item.clone()).nested());
                Self {
                    value: None,
                    array: items.collect(),
                    ..self
                }
            }
            _ => self,
        }
    }
}

/// How a file is to be read.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) format: ImportFormat,
    /// Where the rows are in a JSON document; `None` for an object of keys and values.
    pub(crate) rows: Option<Pointer>,
    /// The field of a row that is its key.
    pub(crate) key: Option<String>,
    pub(crate) duplicates: Duplicates,
}

/// What is wrong with a file, and where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ParseError {
    pub(crate) line: u64,
    pub(crate) column: u64,
    pub(crate) message: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            line,
            column,
            message,
        } = self;
        write!(f, "line {line}, column {column}: {message}")
    }
}

/// A JSON pointer (RFC 6901).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Pointer(Vec<String>);

impl Pointer {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix('/') else {
            return match text {
                "" => Ok(Self::default()),
                _ => Err(format!("{text:?} is no JSON pointer: it starts with `/`")),
            };
        };
        let unescaped = |token: &str| token.replace("~1", "/").replace("~0", "~");
        Ok(Self(rest.split('/').map(unescaped).collect()))
    }
}

impl Layout {
    /// The layout that the options ask for or, failing that, that the name of the file suggests.
    pub(crate) fn choose(
        file: &Path,
        format: Option<ImportFormat>,
        rows: Option<&str>,
        key: Option<String>,
        duplicates: Duplicates,
    ) -> Result<Self, String> {
        let extension = file
            .extension()
            .and_then(|e| e.to_str())
            .unwrap_or_default();
        let format = match (format, rows, extension.to_ascii_lowercase().as_str()) {
            (Some(format), _, _) => format,
            (None, Some(_), _) | (None, None, "json") => ImportFormat::Json,
            (None, None, "ndjson" | "jsonl") => ImportFormat::Ndjson,
            (None, None, "csv") => ImportFormat::Csv,
            (None, None, _) => {
                return Err(format!(
                    "cannot tell the format of {}: say --format json, ndjson or csv",
                    file.display()
                ));
            }
        };
        if rows.is_some() && format != ImportFormat::Json {
            return Err("--rows is for rows inside a JSON document".to_owned());
        }
        let rows = match (rows, &key) {
            (Some(pointer), _) => Some(Pointer::parse(pointer)?),
            // A key without a place: the document itself is the list of rows.
            (None, Some(_)) if format == ImportFormat::Json => Some(Pointer::default()),
            (None, _) => None,
        };
        Ok(Self {
            format,
            rows,
            key,
            duplicates,
        })
    }

    /// Reads a file; all of its entries or none.
    pub(crate) fn parse(&self, file: &[u8]) -> Result<Entries, ParseError> {
        let file = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
        let mut entries = Entries::new(self.duplicates);
        match (self.format, &self.rows, &self.key) {
            (ImportFormat::Csv, _, key) => csv::read(file, key.as_deref(), &mut entries)?,
            (ImportFormat::Ndjson, _, key) => json::read_lines(file, key.as_deref(), &mut entries)?,
            (ImportFormat::Json, Some(rows), Some(key)) => {
                json::read_rows(file, &rows.0, key, &mut entries)?;
            }
            (ImportFormat::Json, _, _) => json::read_object(file, &mut entries)?,
        }
        Ok(entries)
    }
}

/// The entries of a file, one for each key.
#[derive(Debug)]
pub(crate) struct Entries {
    pub(crate) list: Vec<Entry>,
    /// Rows left out because their key occurred elsewhere.
    pub(crate) left_out: usize,
    rule: Duplicates,
    /// Where in the list a key is, and which row of the file that was, from 1.
    places: HashMap<Key, (usize, usize)>,
    rows: usize,
}

impl Entries {
    fn new(rule: Duplicates) -> Self {
        let (list, places) = (Vec::new(), HashMap::new());
        Self {
            list,
            left_out: 0,
            rule,
            places,
            rows: 0,
        }
    }

    /// Takes the next row of the file.
    fn push(&mut self, entry: Entry) -> Result<(), String> {
        check_key(&entry.key)?;
        self.rows += 1;
        let Some((index, row)) = self.places.get_mut(&entry.key) else {
            self.places
                .insert(entry.key.clone(), (self.list.len(), self.rows));
            self.list.push(entry);
            return Ok(());
        };
        self.left_out += 1;
        match self.rule {
            Duplicates::Refuse => {
                return Err(format!(
                    "the key {:?} is in entry {} and again in entry {}: \
                     say --duplicates first or last to take one of them",
                    entry.key, row, self.rows
                ));
            }
            Duplicates::First => {}
            Duplicates::Last => {
                self.list[*index] = entry;
                *row = self.rows;
            }
        }
        Ok(())
    }

    /// Takes the next row of the file, whose key is one of its fields.
    fn push_row(&mut self, row: Value, key: &str) -> Result<(), String> {
        let Value::Map(fields) = &row else {
            let (number, kind) = (self.rows + 1, row.kind());
            return Err(format!(
                "entry {number} is not an object with a field {key:?}; it is of kind {kind}"
            ));
        };
        let key = match fields.get(key) {
            Some(Value::Str(text)) => Key::Str(text.clone()),
            Some(Value::Int(i)) => Key::Int(*i),
            Some(Value::Bool(b)) => Key::Bool(*b),
            Some(Value::Bytes(bytes)) => Key::Bytes(bytes.clone()),
            Some(other) => {
                return Err(format!(
                    "the field {key:?} of entry {} is of kind {}, which is no key",
                    self.rows + 1,
                    other.kind()
                ));
            }
            None => {
                let there: Vec<_> = fields
                    .keys()
                    .take(8)
                    .map(|name| format!("{name:?}"))
                    .collect();
                return Err(format!(
                    "entry {} has no field {key:?}; it has {}",
                    self.rows + 1,
                    if there.is_empty() {
                        "none".to_owned()
                    } else {
                        there.join(", ")
                    }
                ));
            }
        };
        let held = Held::from(row);
        self.push(Entry { key, held })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(format: ImportFormat) -> Layout {
        Layout {
            format,
            rows: None,
            key: None,
            duplicates: Duplicates::Refuse,
        }
    }

    fn rows(pointer: &str, key: &str) -> Layout {
        let rows = Some(Pointer::parse(pointer).expect("a pointer"));
        Layout {
            rows,
            key: Some(key.to_owned()),
            ..layout(ImportFormat::Json)
        }
    }

    fn parse(layout: &Layout, text: &str) -> Vec<(String, String)> {
        let entries = layout.parse(text.as_bytes()).expect("a good file");
        let show = |e: &Entry| {
            (
                crate::json::key_json(&e.key),
                crate::json::value_json(e.held.value.as_ref().expect("a value")),
            )
        };
        entries.list.iter().map(show).collect()
    }

    fn fail(layout: &Layout, text: &str) -> (u64, u64, String) {
        let error = layout.parse(text.as_bytes()).expect_err("a broken file");
        (error.line, error.column, error.message)
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn an_object_gives_its_fields() {
        let entries = parse(
            &layout(ImportFormat::Json),
            "\u{feff}{\"a\": 1, \"\": [null, 1.0]}",
        );
        assert_eq!(entries, [pair("\"a\"", "1"), pair("\"\"", "[null,1.0]")]);
    }

    #[test]
    fn rows_are_found_by_their_pointer() {
        let text = r#"{"x": [1], "a/b": {"rows": [{"id": 7, "n": "x"}, {"id": "7"}]}, "y": {}}"#;
        let entries = parse(&rows("/a~1b/rows", "id"), text);
        let expected = [
            pair("7", r#"{"id":7,"n":"x"}"#),
            pair("\"7\"", r#"{"id":"7"}"#),
        ];
        assert_eq!(entries, expected);
        assert_eq!(
            parse(&rows("", "id"), r#"[{"id": true}]"#),
            [pair("true", r#"{"id":true}"#)]
        );
        assert_eq!(
            parse(&rows("/1", "id"), r#"[0, [{"id": 1}]]"#),
            [pair("1", r#"{"id":1}"#)]
        );
    }

    #[test]
    fn lines_keep_the_kind_of_keys_and_siblings() {
        let text = "{\"key\":1,\"value\":\"x\"}\r\n\n{\"key\":{\"$bytes\":\"AA==\"},\"value\":2,\"siblings\":[3]}";
        let entries = layout(ImportFormat::Ndjson)
            .parse(text.as_bytes())
            .expect("a good file");
        assert_eq!(entries.list[0].key, Key::from(1i64));
        assert_eq!(entries.list[1].key, Key::from(&b"\0"[..]));
        assert_eq!(entries.list[1].held.siblings, [Value::from(3i64)]);
        let by_field = Layout {
            key: Some("id".to_owned()),
            ..layout(ImportFormat::Ndjson)
        };
        assert_eq!(
            parse(&by_field, "{\"id\":\"a\"}\n"),
            [pair("\"a\"", r#"{"id":"a"}"#)]
        );
    }

    #[test]
    fn csv_rows_are_objects_of_strings() {
        let text = "id,name\n007,\"a \"\"b\"\",\nc\"\n8,\n";
        let entries = parse(&layout(ImportFormat::Csv), text);
        let first = pair("\"007\"", r#"{"id":"007","name":"a \"b\",\nc"}"#);
        assert_eq!(entries, [first, pair("\"8\"", r#"{"id":"8","name":""}"#)]);
        let by_name = Layout {
            key: Some("name".to_owned()),
            ..layout(ImportFormat::Csv)
        };
        assert_eq!(parse(&by_name, "id,name\n1,x\n")[0].0, "\"x\"");
        let exported = "key,value\na,\"{\"\"n\"\":1}\"\nb,plain\n";
        let expected = [pair("\"a\"", r#"{"n":1}"#), pair("\"b\"", "\"plain\"")];
        assert_eq!(parse(&layout(ImportFormat::Csv), exported), expected);
    }

    #[test]
    fn what_is_broken_is_named_with_its_place() {
        let json = layout(ImportFormat::Json);
        for (layout, text, line, column, words) in [
            (&json, "{\"a\": 1,\n \"b\": oops}", 2, 7, "expected"),
            (&json, "{\"a\": 1", 1, 7, "EOF"),
            (&json, "", 1, 1, "EOF"),
            (&json, "[1]", 1, 1, "an object of keys and values"),
            (&json, "{} x", 1, 4, "trailing"),
            (&json, "{\"a\":\n9223372036854775808}", 2, 19, "64 bits"),
            (&json, "{\"a\":1,\n\"a\":2}", 2, 6, "again in entry 2"),
            (
                &rows("/r", "id"),
                "{\"r\":[{\"id\":1},\n{\"x\":2}]}",
                2,
                8,
                "no field \"id\"",
            ),
            (
                &rows("/r", "id"),
                "{\"r\":[{\"id\":1},\n5]}",
                2,
                2,
                "is not an object",
            ),
            (&rows("/r", "id"), "{\"q\":[]}", 1, 8, "nothing at"),
            (&rows("/r", "id"), "{\"r\":{}}", 1, 7, "a list of rows"),
            (
                &layout(ImportFormat::Ndjson),
                "{\"key\":1,\"value\":2}\n{\"key\":}",
                2,
                8,
                "expected",
            ),
            (
                &layout(ImportFormat::Ndjson),
                "{\"key\":1}",
                1,
                9,
                "missing field `value`",
            ),
            (
                &layout(ImportFormat::Ndjson),
                "{\"key\":1,\"value\":2}{",
                1,
                20,
                "trailing",
            ),
            (&layout(ImportFormat::Csv), "a,b\n1,2\n3\n", 3, 1, "1 field"),
            (
                &layout(ImportFormat::Csv),
                "a,b\n1,2\n3,\"x\ny\n",
                3,
                2,
                "never closed",
            ),
            (
                &layout(ImportFormat::Csv),
                "a,b\n1,2\n1,3\n",
                3,
                1,
                "again in entry 2",
            ),
            (&layout(ImportFormat::Csv), "a,a\n", 1, 2, "twice"),
            (&layout(ImportFormat::Csv), "", 1, 1, "header"),
        ] {
            let (l, c, message) = fail(layout, text);
            assert!(message.contains(words), "{text:?}: {message}");
            assert_eq!((l, c), (line, column), "{text:?}: {message}");
        }
        let error = layout(ImportFormat::Csv)
            .parse(b"a,b\n1,\xff\n")
            .expect_err("not UTF-8");
        assert_eq!((error.line, error.column), (2, 2));
        assert!(json.parse(b"{\"a\":\"\xff\"}").is_err());
        let long = format!("{{\"{}\": 1}}", "k".repeat(5000));
        assert!(fail(&json, &long).2.contains("limit"));
    }

    #[test]
    fn duplicates_follow_the_rule() {
        let text = "{\"a\":1,\"b\":2,\"a\":3}";
        for (duplicates, kept) in [(Duplicates::First, "1"), (Duplicates::Last, "3")] {
            let layout = Layout {
                duplicates,
                ..layout(ImportFormat::Json)
            };
            assert_eq!(
                parse(&layout, text),
                [pair("\"a\"", kept), pair("\"b\"", "2")]
            );
            assert_eq!(
                layout.parse(text.as_bytes()).expect("a good file").left_out,
                1
            );
        }
    }

    #[test]
    fn the_format_is_chosen_by_options_then_by_the_name() {
        let choose = |file: &str, format, rows| {
            Layout::choose(Path::new(file), format, rows, None, Duplicates::Refuse)
                .map(|l| l.format)
        };
        assert_eq!(choose("x.JSON", None, None), Ok(ImportFormat::Json));
        assert_eq!(choose("x.jsonl", None, None), Ok(ImportFormat::Ndjson));
        assert_eq!(choose("x.csv", None, None), Ok(ImportFormat::Csv));
        assert_eq!(
            choose("-", Some(ImportFormat::Csv), None),
            Ok(ImportFormat::Csv)
        );
        assert_eq!(choose("-", None, Some("/r")), Ok(ImportFormat::Json));
        assert!(choose("x", None, None).is_err());
        assert!(choose("x.csv", Some(ImportFormat::Csv), Some("/r")).is_err());
        assert!(choose("x.json", None, Some("r")).is_err());
    }
}
