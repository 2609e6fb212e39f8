//! What is known of a map, so that after a break only what changed is told.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Change, Entry, Raw};

/// All that was told, by the JSON text of the paths.
#[derive(Default)]
pub(super) struct Held {
    /// Values, members and counts: the path, and which of them.
    plain: BTreeMap<(String, String), Known>,
    /// The elements of arrays, each with its id.
    arrays: BTreeMap<String, Vec<(String, Known)>>,
}

/// One value as it was last told.
struct Known {
    value: Raw,
    siblings: Option<Raw>,
    by: Option<String>,
    at: Option<String>,
}

impl Known {
    fn differs(&self, other: &Self) -> bool {
        let text = |raw: &Option<Raw>| raw.as_ref().map(|raw| raw.get().to_owned());
        self.value.get() != other.value.get() || text(&self.siblings) != text(&other.siblings)
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Place {
    Element { element: String, index: usize },
    Word(String),
}

/// What of a path it is about.
enum Subject {
    Plain((String, String)),
    Element(String, String, usize),
}

fn subject(path: &Raw, place: Option<&Raw>, value: Option<&Raw>) -> Subject {
    let path = path.get().to_owned();
    match place.map(|place| serde_json::from_str(place.get())) {
        Some(Ok(Place::Element { element, index })) => Subject::Element(path, element, index),
        Some(Ok(Place::Word(word))) if word == "member" => {
            let member = value.map_or("", |value| value.get());
            Subject::Plain((path, format!("member {member}")))
        }
        Some(Ok(Place::Word(word))) => Subject::Plain((path, word)),
        Some(Err(_)) | None => Subject::Plain((path, String::new())),
    }
}

impl Held {
    /// Takes in one change.
    pub(super) fn apply(&mut self, change: &Change) {
        let value = change.new.as_ref().or(change.old.as_ref());
        let known = change.new.as_ref().map(|new| Known {
            value: new.clone(),
            siblings: change.siblings.clone(),
            by: change.by.clone(),
            at: change.at.clone(),
        });
        match subject(&change.path, change.place.as_ref(), value) {
            Subject::Plain(place) => match known {
                Some(known) => drop(self.plain.insert(place, known)),
                None => drop(self.plain.remove(&place)),
            },
            Subject::Element(path, id, index) => {
                let elements = self.arrays.entry(path).or_default();
                let index = index.min(elements.len());
                let end = if change.old.is_some() {
                    index + 1
                } else {
                    index
                };
                let end = end.min(elements.len());
                elements.splice(index..end, known.map(|known| (id, known)));
            }
        }
    }

    /// What a snapshot tells.
    pub(super) fn of(entries: Vec<Entry>) -> Self {
        let mut held = Self::default();
        for entry in entries {
            held.apply(&Change {
                path: entry.path,
                place: entry.place,
                old: None,
                new: Some(entry.value),
                siblings: entry.siblings,
                by: entry.by,
                at: entry.at,
            });
        }
        held
    }

    /// What leads from this to another state, in an order in which it can be applied.
    pub(super) fn changes_to(&self, new: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (place, known) in &self.plain {
            if !new.plain.contains_key(place) {
                changes.push(change(&place.0, word(&place.1), Some(known), None));
            }
        }
        for (place, known) in &new.plain {
            let old = self.plain.get(place);
            if old.is_none_or(|old| old.differs(known)) {
                changes.push(change(&place.0, word(&place.1), old, Some(known)));
            }
        }
        let none = Vec::new();
        for (path, old) in &self.arrays {
            array_changes(
                path,
                old,
                new.arrays.get(path).unwrap_or(&none),
                &mut changes,
            );
        }
        for (path, new) in &new.arrays {
            if !self.arrays.contains_key(path) {
                array_changes(path, &none, new, &mut changes);
            }
        }
        changes
    }
}

/// First what goes, from the end; then what comes and changes, from the start: so each index is
/// right when its turn comes. What moved goes and comes.
fn array_changes(
    path: &str,
    old: &[(String, Known)],
    new: &[(String, Known)],
    changes: &mut Vec<Change>,
) {
    let before: HashMap<&str, usize> = old
        .iter()
        .enumerate()
        .map(|(index, (id, _))| (id.as_str(), index))
        .collect();
    let mut stays = vec![false; old.len()];
    let mut next = 0;
    for (id, _) in new {
        if let Some(index) = before.get(id.as_str()).filter(|index| **index >= next) {
            stays[*index] = true;
            next = index + 1;
        }
    }
    let element =
        |id: &str, index: usize| Some(raw(&serde_json::json!({ "element": id, "index": index })));
    for (index, (id, known)) in old.iter().enumerate().rev() {
        if !stays[index] {
            changes.push(change(path, element(id, index), Some(known), None));
        }
    }
    for (index, (id, known)) in new.iter().enumerate() {
        let stayed = before.get(id.as_str()).filter(|index| stays[**index]);
        let before = stayed.map(|index| &old[*index].1);
        if before.is_none_or(|before| before.differs(known)) {
            changes.push(change(path, element(id, index), before, Some(known)));
        }
    }
}

fn word(part: &str) -> Option<Raw> {
    match part {
        "" => None,
        "count" => Some(raw(&"count".into())),
        _ => Some(raw(&"member".into())),
    }
}

fn raw(value: &serde_json::Value) -> Raw {
    // proof: what is written here is JSON.
    serde_json::value::to_raw_value(value).expect("JSON")
}

fn change(path: &str, place: Option<Raw>, old: Option<&Known>, new: Option<&Known>) -> Change {
    Change {
        // proof: it was JSON when it came.
        path: RawValue::from_string(path.to_owned()).expect("it was JSON before"),
        place,
        old: old.map(|known| known.value.clone()),
        new: new.map(|known| known.value.clone()),
        siblings: new.and_then(|known| known.siblings.clone()),
        by: new.and_then(|known| known.by.clone()),
        at: new.and_then(|known| known.at.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(text: &str) -> Vec<Change> {
        serde_json::from_str(text).expect(text)
    }

    fn array(ids: &str) -> Held {
        let mut held = Held::default();
        for (index, id) in ids.chars().enumerate() {
            let change = format!(
                r#"[{{"path":["a"],"place":{{"element":"{id}","index":{index}}},"new":"{id}"}}]"#
            );
            held.apply(&changes(&change)[0]);
        }
        held
    }

    fn ids(held: &Held) -> String {
        let elements = held.arrays.get(r#"["a"]"#);
        elements.map_or_else(String::new, |elements| {
            elements.iter().map(|(id, _)| id.as_str()).collect()
        })
    }

    #[test]
    fn what_differs_leads_from_one_array_to_the_other() {
        let all = ["", "a", "abc", "cba", "bxa", "xyz", "acb", "abcdef", "fbdx"];
        for old in all {
            for new in all {
                let mut held = array(old);
                for change in held.changes_to(&array(new)) {
                    held.apply(&change);
                }
                assert_eq!(ids(&held), new, "from {old}");
                assert!(held.changes_to(&array(new)).is_empty());
            }
        }
    }

    #[test]
    fn what_differs_leads_from_one_state_to_the_other() {
        let old = r#"[{"path":["k"],"new":1},{"path":["s"],"place":"member","new":"x"},
            {"path":["c"],"place":"count","new":3}]"#;
        let new = r#"[{"path":["k"],"new":1,"siblings":[2]},{"path":["s"],"place":"member","new":"y"},
            {"path":["s"],"new":"a value beside it"}]"#;
        let held = |text: &str| {
            let mut held = Held::default();
            for change in &changes(text) {
                held.apply(change);
            }
            held
        };
        let told = held(old).changes_to(&held(new));
        let told: Vec<_> = told
            .iter()
            .map(|change| serde_json::to_string(change).expect("JSON"))
            .collect();
        let expected = [
            r#"{"path":["c"],"place":"count","old":3}"#,
            r#"{"path":["s"],"place":"member","old":"x"}"#,
            r#"{"path":["k"],"old":1,"new":1,"siblings":[2]}"#,
            r#"{"path":["s"],"new":"a value beside it"}"#,
            r#"{"path":["s"],"place":"member","new":"y"}"#,
        ];
        assert_eq!(told, expected);
    }
}
