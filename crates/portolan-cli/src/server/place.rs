//! Where in a map a request is: the steps of its path, and what they mean.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::Method;
use axum::http::request::Parts;
use percent_encoding::percent_decode_str;
use portolan::{Document, Dot, Key, Kind, Location, engine_limits};
use serde::Deserialize;
use serde::de::{self, DeserializeOwned, Deserializer};

use super::app::App;
use super::problem::Problem;
use crate::json::{ParsedKey, dot, key_json};
use crate::moment::{self, When};

/// Containers, and what stands in the innermost.
const MAX_STEPS: usize = engine_limits::MAX_DEPTH + 1;

/// What may follow the `?`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyQuery {
    /// All siblings, winner first.
    #[serde(default, deserialize_with = "flag")]
    all: bool,
    /// Each step is JSON that gives its kind.
    #[serde(default, deserialize_with = "flag")]
    typed: bool,
    /// Of an array, its elements with their ids.
    #[serde(default, deserialize_with = "flag")]
    ids: bool,
    /// As it was then.
    at: Option<String>,
}

/// What is there or not: `?all`, `?all=true`.
pub(crate) fn flag<'de, D: Deserializer<'de>>(input: D) -> Result<bool, D::Error> {
    match &*String::deserialize(input)? {
        "" | "1" | "true" => Ok(true),
        other => Err(de::Error::custom(format_args!(
            "{other:?} after a name that stands by itself: leave it out"
        ))),
    }
}

/// Which key of which map a request is about, as it was written.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) map: String,
    pub(crate) steps: Vec<Key>,
    pub(crate) all: bool,
    pub(crate) ids: bool,
    pub(crate) at: Option<When>,
}

impl Place {
    pub(crate) fn missing(&self) -> Problem {
        Problem::no_key(&self.map, &steps_text(&self.steps))
    }

    pub(crate) fn no_array(&self) -> Problem {
        let place = steps_text(&self.steps);
        Problem::unacceptable(format!("{place} is no array: only elements have ids"))
    }
}

/// Steps as they are shown to people.
pub(crate) fn steps_text(steps: &[Key]) -> String {
    let texts: Vec<String> = steps.iter().map(key_json).collect();
    texts.join(" / ")
}

/// What the address names, each of its parts decoded.
pub(crate) struct Named<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<App>> for Named<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let path = Path::<T>::from_request_parts(parts, app).await;
        let Path(names) = path.map_err(|error| Problem::bad_request(error.body_text()))?;
        Ok(Self(names))
    }
}

impl FromRequestParts<Arc<App>> for Place {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let query = Query::<KeyQuery>::from_request_parts(parts, app).await;
        let Query(query) = query.map_err(|error| Problem::bad_request(error.body_text()))?;
        // As it was sent: an encoded slash belongs to a key, a plain one stands between two.
        let path = parts
            .uri
            .path()
            .strip_prefix("/v1/maps/")
            .unwrap_or_default();
        let (map, steps) = path.split_once("/keys/").unwrap_or((path, ""));
        let decoded = |text: &str| {
            let text = percent_decode_str(text).decode_utf8();
            text.map(String::from)
                .map_err(|_| Problem::bad_request("the path is not UTF-8"))
        };
        let step = |text: &str| {
            let text = decoded(text)?;
            if !query.typed {
                return Ok(Key::from(text));
            }
            let parsed = serde_json::from_str::<ParsedKey>(&text);
            parsed
                .map(|key| key.0)
                .map_err(|error| Problem::bad_request(format!("the typed key: {error}")))
        };
        let at = query.at.as_deref();
        let at = at.map(|at| When::parse(at, moment::now()));
        if at.is_some() && parts.method != Method::GET {
            return Err(Problem::bad_request(
                "the past can be read only: leave out `at`",
            ));
        }
        let place = Self {
            map: decoded(map)?,
            // One more than may be: nothing is gained by reading them all.
            steps: steps
                .split('/')
                .take(MAX_STEPS + 1)
                .map(step)
                .collect::<Result<_, _>>()?,
            all: query.all,
            ids: query.ids,
            at: at.transpose().map_err(Problem::bad_request)?,
        };
        check_steps(&place.steps)?;
        Ok(place)
    }
}

/// Steps given as a JSON list of keys.
pub(crate) fn parse_steps(text: &str) -> Result<Vec<Key>, Problem> {
    let steps = serde_json::from_str::<Vec<ParsedKey>>(text);
    let steps = steps.map_err(|error| Problem::bad_request(format!("`in`: {error}")))?;
    Ok(steps.into_iter().map(|step| step.0).collect())
}

/// Refuses paths that lead deeper than containers can be nested.
pub(crate) fn check_steps(steps: &[Key]) -> Result<(), Problem> {
    if steps.len() > MAX_STEPS {
        let detail = format!("a path has at most {MAX_STEPS} keys: flatten it");
        return Err(Problem::unacceptable(detail));
    }
    Ok(())
}

/// What a step behind an array names.
enum Asked {
    Index(usize),
    Id(Dot),
}

fn asked(step: &Key) -> Option<Asked> {
    match step {
        Key::Int(index) => usize::try_from(*index).ok().map(Asked::Index),
        Key::Element(id) => Some(Asked::Id(*id)),
        Key::Str(text) => match text.strip_prefix('@') {
            Some(id) => dot(id).map(Asked::Id),
            None => text.parse().ok().map(Asked::Index),
        },
        Key::Bool(_) | Key::Bytes(_) => None,
    }
}

/// The path that steps mean: behind what shows as an array, a number is an index, and `@` and an id
/// an element; every other step is a key. `None` where an element is meant that is not there.
pub(crate) fn resolve(document: &Document, steps: &[Key]) -> Option<Vec<Key>> {
    let (first, rest) = steps.split_first()?;
    let mut path = vec![first.clone()];
    if rest.is_empty() {
        return Some(path);
    }
    let mut at = Location::find(document, &path)?;
    for step in rest {
        let key = match asked(step) {
            Some(asked) if shows_array(&at) => {
                let id = match asked {
                    Asked::Index(index) => at.array().id(index)?,
                    Asked::Id(id) => at.array().index_of(id).map(|_| id)?,
                };
                Key::Element(id)
            }
            _ => step.clone(),
        };
        at = at.step(&key)?;
        path.push(key);
    }
    Some(path)
}

/// The path that steps mean, or meant when there was something there: an element that is deleted
/// is named by its id.
pub(crate) fn path_ever(document: &Document, steps: &[Key]) -> Vec<Key> {
    resolve(document, steps).unwrap_or_else(|| {
        let keys = steps.iter().map(|step| match asked(step) {
            Some(Asked::Id(id)) => Key::Element(id),
            _ => step.clone(),
        });
        keys.collect()
    })
}

/// The element that the last of the steps names by its id, shown or deleted, and the path of the
/// array before it.
pub(crate) fn element(document: &Document, steps: &[Key]) -> Option<(Vec<Key>, Dot)> {
    let (last, before) = steps.split_last()?;
    match asked(last)? {
        Asked::Id(id) => Some((resolve(document, before)?, id)),
        Asked::Index(_) => None,
    }
}

/// Whether of a map and an array that may stand here the array was written last.
fn shows_array(at: &Location<'_>) -> bool {
    if at.array().is_empty() || at.map().is_empty() {
        return !at.array().is_empty();
    }
    // Which was written last costs all that is in them.
    let held = at.held();
    let mut kinds = held.iter().filter_map(portolan::Held::kind);
    kinds.find(|kind| matches!(kind, Kind::Map | Kind::Array)) == Some(Kind::Array)
}
