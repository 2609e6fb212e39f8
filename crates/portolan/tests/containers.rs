//! Containers within maps: handles, events, typed reads.

mod common;

use std::collections::BTreeMap;

use common::{Server, client, converge, memory, soon, until};
use portolan::{
    Change, Content, Delta, Document, Dot, Entry, Error, Event, Key, Kind, Location, LocationMut,
    Map, Node, Pattern, Place, ReplicaId, Transaction, Value,
};
use proptest::collection::vec;
use proptest::prelude::*;

async fn map() -> Map {
    let node = Node::builder().spawn().await.unwrap();
    node.open("m").await.unwrap()
}

/// What a watcher knows of one path.
#[derive(Clone, Debug, Default, PartialEq)]
struct Known {
    values: Vec<Value>,
    elements: Vec<(Dot, Vec<Value>)>,
    members: Vec<Value>,
    count: i64,
}

/// A map as its watcher knows it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Copy(BTreeMap<Vec<Key>, Known>);

impl Copy {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Changed(batch) => batch.changes.iter().for_each(|change| self.change(change)),
            Event::Snapshot { entries, .. } => *self = Self::of_entries(entries),
        }
    }

    fn change(&mut self, change: &Change) {
        let known = self.0.entry(change.path.clone()).or_default();
        let all: Vec<Value> = change.new.iter().chain(&change.siblings).cloned().collect();
        match change.place {
            Place::Key => {
                let before = known.values.first();
                assert_eq!(before, change.old.as_ref(), "{:?}", change.path);
                known.values = all;
            }
            Place::Element { id, index } => match (&change.old, &change.new) {
                (None, Some(_)) => known.elements.insert(index, (id, all)),
                (Some(_), None) => assert_eq!(known.elements.remove(index).0, id),
                _ => {
                    assert_eq!(known.elements[index].0, id);
                    known.elements[index].1 = all;
                }
            },
            Place::Member => {
                known
                    .members
                    .retain(|member| Some(member) != change.old.as_ref());
                known.members.extend(all);
            }
            Place::Count => {
                assert_eq!(change.old, Some(known.count.into()));
                known.count = change.new.as_ref().and_then(Value::as_int).unwrap();
            }
        }
    }

    fn of_entries(entries: &[Entry]) -> Self {
        let mut copy = Self::default();
        for entry in entries {
            let known = copy.0.entry(entry.path.clone()).or_default();
            let value = entry.value.clone();
            let all = [value.clone()].into_iter().chain(entry.siblings.clone());
            match entry.place {
                Place::Key => known.values = all.collect(),
                Place::Element { id, index } => {
                    assert_eq!(index, known.elements.len());
                    known.elements.push((id, all.collect()));
                }
                Place::Member => known.members.push(value),
                Place::Count => known.count = value.as_int().unwrap(),
            }
        }
        copy
    }

    fn of(document: &Document) -> Self {
        let mut copy = Self::default();
        copy.take(&[], &[Content::of_map(document.root())]);
        copy
    }

    fn take(&mut self, path: &[Key], all: &[Content]) {
        let under = |key: &Key| [path, std::slice::from_ref(key)].concat();
        for content in all {
            let known = self.0.entry(path.to_vec()).or_default();
            match content {
                Content::Values(values) if !matches!(path.last(), Some(Key::Element(_))) => {
                    known.values.clone_from(values);
                }
                Content::Values(_) => {}
                Content::Map(entries) => {
                    for (key, all) in entries {
                        self.take(&under(key), all);
                    }
                }
                Content::Array(elements) => {
                    let values = elements.iter().map(|(id, all)| {
                        let values = all.iter().find_map(|content| match content {
                            Content::Values(values) => Some(values.clone()),
                            _ => None,
                        });
                        (*id, values.unwrap_or(vec![Value::Null]))
                    });
                    known.elements = values.collect();
                    for (id, all) in elements {
                        self.take(&under(&Key::Element(*id)), all);
                    }
                }
                Content::Set(members) => known.members.clone_from(members),
                Content::Counter(count) => known.count = *count,
            }
        }
    }

    /// Without what is as good as nothing, and members in one order.
    fn settled(&self) -> Self {
        let mut copy = self.clone();
        for known in copy.0.values_mut() {
            known.members.sort_by_key(|member| format!("{member:?}"));
        }
        copy.0.retain(|_, known| *known != Known::default());
        copy
    }

    fn matching(&self, pattern: &str) -> Self {
        let pattern = Pattern::new(pattern).unwrap();
        let paths = self.0.iter().filter(|(path, _)| pattern.matches_path(path));
        Self(
            paths
                .map(|(path, known)| (path.clone(), known.clone()))
                .collect(),
        )
    }
}

/// One operation somewhere in a small tree.
#[derive(Clone, Debug)]
struct Operation {
    path: Vec<usize>,
    what: usize,
    n: usize,
}

fn operations(most: usize) -> impl Strategy<Value = Vec<Operation>> {
    let operation = (vec(0..4usize, 1..4), 0..12usize, 0..6usize);
    vec(
        operation.prop_map(|(path, what, n)| Operation { path, what, n }),
        1..most,
    )
}

impl Operation {
    /// Follows the path: a number is a key, or an element where there is an array.
    fn apply(&self, tx: &mut Transaction<'_>) -> Result<(), Error> {
        let name = |n: usize| Key::from(["a", "b", "c", "d"][n]);
        let mut path = vec![name(self.path[0])];
        for n in &self.path[1..] {
            let at = Location::find(tx.document(), &path).unwrap();
            let id = at.array().id(*n);
            path.push(id.map_or_else(|| name(*n), Key::Element));
        }
        let len = Location::find(tx.document(), &path).unwrap().array().len();
        let at = LocationMut::find(tx, &path)?;
        let n = self.n as i64;
        match self.what {
            0 | 1 => at.set(n)?,
            2 => drop(at.unset()?),
            3 | 4 => drop(at.into_array().append(n)?),
            5 => drop(at.into_array().insert(self.n.min(len), n)?),
            6 if len > 0 => at.into_array().delete(self.n % len)?,
            7 if len > 0 => at.into_array().move_to(self.n % len, (self.n * 7) % len)?,
            8 if len > 0 => at.into_array().set(self.n % len, n)?,
            9 => at.into_or_set().insert(n)?,
            10 => drop(at.into_or_set().remove(n)?),
            _ => at.into_counter().add(n - 2)?,
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn events_of_nested_containers_replayed_are_the_state(
        rounds in vec((0..2usize, any::<bool>(), operations(6)), 1..12),
    ) {
        let mut replicas = [1, 2].map(|id| Document::new(ReplicaId::new(id)));
        let mut copies = [Copy::default(), Copy::default()];
        for replica in &mut replicas {
            replica.observe(true);
        }
        for (now, (at, meet, operations)) in rounds.into_iter().enumerate() {
            let done = replicas[at].transact(now as u64 + 1, |tx| {
                operations.iter().try_for_each(|operation| operation.apply(tx))
            });
            done.unwrap();
            if meet {
                let delta = replicas[at].delta_since(&replicas[1 - at].version());
                let delta = Delta::decode(&delta.encode()).unwrap();
                replicas[1 - at].apply(&delta);
            }
            for (replica, copy) in replicas.iter_mut().zip(&mut copies) {
                for batch in replica.take_changes() {
                    batch.changes.iter().for_each(|change| copy.change(change));
                }
                prop_assert_eq!(copy.settled(), Copy::of(replica).settled());
            }
        }
    }

    #[test]
    fn a_watcher_keeps_an_exact_copy_of_nested_maps(
        rounds in vec((any::<bool>(), operations(6)), 1..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let node = Node::builder().watch_queue(12).spawn().await.unwrap();
            let map = node.open("m").await.unwrap();
            let patterns = ["**", "a/*", "*/*/**", "{b,c}"];
            let watches = patterns.map(|pattern| map.watch(pattern).unwrap());
            let mut watched: Vec<_> = watches.into_iter().map(|w| (w, Copy::default())).collect();
            let mut beneath = (map.map("a").watch("**").unwrap(), Copy::default());
            for (read, operations) in &rounds {
                let each = |tx: &mut Transaction<'_>| {
                    operations.iter().try_for_each(|operation| operation.apply(tx))
                };
                map.transact(each).unwrap();
                if !read {
                    continue;
                }
                let whole = map.read(Copy::of).settled();
                assert_eq!(Copy::of_entries(&map.entries()).settled(), whole);
                for (pattern, (watch, copy)) in patterns.iter().zip(&mut watched) {
                    while let Some(event) = watch.try_next() {
                        copy.event(&event);
                    }
                    assert_eq!(copy.settled(), whole.matching(pattern), "{pattern}");
                }
                while let Some(event) = beneath.0.try_next() {
                    beneath.1.event(&event);
                }
                assert_eq!(beneath.1.settled(), whole.matching("a/**"));
            }
        });
    }
}

#[tokio::test]
async fn handles_lead_to_containers_at_any_depth() {
    let fleet = map().await;
    let ada = fleet.map("users").map("ada");
    assert!(
        ada.is_empty() && !fleet.contains_key("users"),
        "a handle makes nothing"
    );
    ada.set("name", "Ada").unwrap();
    let first = ada.array("inbox").append("hello").unwrap();
    ada.array("inbox").insert(0, "urgent").unwrap();
    ada.or_set("tags").insert("admin").unwrap();
    ada.counter("hits").add(5).unwrap();
    ada.counter("hits").add(-2).unwrap();
    assert_eq!(ada.get("name"), Some(Value::from("Ada")));
    assert_eq!(
        ada.array("inbox").values(),
        [Value::from("urgent"), Value::from("hello")]
    );
    assert_eq!(ada.array("inbox").index_of(first), Some(1));
    assert!(ada.or_set("tags").contains("admin"));
    assert_eq!(ada.counter("hits").get(), 3);
    assert_eq!((ada.len(), fleet.len()), (4, 1));
    assert_eq!(fleet.get("users"), None, "a map is no value");

    let inbox = ada.array("inbox");
    inbox.move_to(1, 0).unwrap();
    assert_eq!(inbox.get(0), Some(Value::from("hello")));
    inbox.delete(0).unwrap();
    assert_eq!(inbox.index_of(first), None);
    assert!(inbox.undelete(first).unwrap());
    inbox.set(0, "hi").unwrap();
    assert_eq!(inbox.slice(0, 1), [Value::from("hi")]);
    assert!(inbox.delete(7).is_err());
    assert!(inbox.clear().unwrap() && inbox.is_empty());
    assert!(ada.or_set("tags").remove("admin").unwrap() && ada.or_set("tags").is_empty());
    assert!(ada.counter("hits").reset().unwrap());
    assert_eq!(ada.counter("hits").get(), 0);
    assert!(fleet.unset("users").unwrap());
    assert!(fleet.is_empty() && ada.is_empty());
}

#[tokio::test]
async fn a_handle_into_an_element_follows_it() {
    let map = map().await;
    let todo = map.array("todo");
    todo.append("first").unwrap();
    todo.append("second").unwrap();
    let second = todo.map(1).unwrap();
    second.set("done", true).unwrap();
    todo.move_to(1, 0).unwrap();
    assert_eq!(second.get("done"), Some(Value::from(true)));
    todo.counter(0).unwrap().add(1).unwrap();
    let kinds: Vec<_> = todo.held(0).iter().map(Content::kind).collect();
    assert_eq!(kinds, [Some(Kind::Counter), Some(Kind::Map), None]);
    todo.delete(0).unwrap();
    assert_eq!(second.get("done"), None);
    assert!(
        second.set("done", false).is_err(),
        "there is no such element"
    );
    assert!(todo.map(7).is_none());
}

#[tokio::test]
async fn containers_are_written_within_a_transaction_too() {
    let map = map().await;
    let mut changes = map.watch("**").unwrap();
    map.transact(|tx| {
        tx.map("users").map("ada").array("inbox").append("hello")?;
        tx.or_set("tags").insert("x")?;
        tx.counter("hits").add(1)?;
        Ok::<_, Error>(())
    })
    .unwrap();
    let Some(Event::Changed(batch)) = changes.next().await else {
        panic!("one batch")
    };
    assert_eq!(batch.changes.len(), 3);
    assert!(changes.try_next().is_none());
}

#[derive(serde::Deserialize, PartialEq, Debug)]
struct User {
    name: String,
    inbox: Vec<String>,
    tags: std::collections::BTreeSet<i64>,
    hits: u32,
    by_day: BTreeMap<u8, Vec<bool>>,
}

#[tokio::test]
async fn a_container_reads_as_the_programs_own_type() {
    let map = map().await;
    let ada = map.map("users").map("ada");
    ada.set("name", "Ada").unwrap();
    ada.array("inbox").append("hello").unwrap();
    ada.or_set("tags").insert(7).unwrap();
    ada.counter("hits").add(3).unwrap();
    ada.map("by_day").array(12).append(true).unwrap();
    let users: BTreeMap<String, User> = map.get_as("users").unwrap().unwrap();
    let expected = User {
        name: "Ada".to_owned(),
        inbox: vec!["hello".to_owned()],
        tags: [7].into(),
        hits: 3,
        by_day: [(12, vec![true])].into(),
    };
    assert_eq!(users["ada"], expected);
    assert_eq!(ada.get_as::<i64>("hits").unwrap(), Some(3));
    assert!(ada.get_as::<i64>("inbox").is_err());
    assert_eq!(ada.get_as::<i64>("nothing").unwrap(), None);
    // Keys that are alike as text.
    map.map("odd").set(1, "integer").unwrap();
    map.map("odd").set("1", "text").unwrap();
    assert!(map.get_as::<BTreeMap<String, String>>("odd").is_err());
}

#[tokio::test]
async fn a_key_of_several_kinds_shows_the_kind_written_last() {
    let map = map().await;
    map.set("k", "value").unwrap();
    map.counter("k").add(2).unwrap();
    assert_eq!(map.get_as::<i64>("k").unwrap(), Some(2));
    map.array("k").append("x").unwrap();
    assert_eq!(
        map.get_as::<Vec<String>>("k").unwrap(),
        Some(vec!["x".to_owned()])
    );
    map.set("k", "again").unwrap();
    assert_eq!(map.get_as::<String>("k").unwrap().as_deref(), Some("again"));
    let kinds: Vec<_> = map.held("k").iter().map(Content::kind).collect();
    assert_eq!(kinds, [None, Some(Kind::Array), Some(Kind::Counter)]);
    assert_eq!(map.get("k"), Some(Value::from("again")));
}

#[tokio::test]
async fn a_pattern_matches_the_paths_of_containers() {
    let map = map().await;
    let mut inboxes = map.watch("users/*/inbox").unwrap();
    let mut deep = map.map("users").watch("*/inbox/*/**").unwrap();
    let inbox = map.map("users").map("ada").array("inbox");
    inbox.append("hello").unwrap();
    inbox.map(0).unwrap().set("read", true).unwrap();
    map.map("users").map("ada").set("name", "Ada").unwrap();
    let paths = |event: Option<Event>| match event {
        Some(Event::Changed(batch)) => batch.changes.iter().map(|c| c.path.len()).collect(),
        _ => Vec::new(),
    };
    assert_eq!(paths(inboxes.try_next()), [3]);
    assert_eq!(paths(inboxes.try_next()), [0; 0]);
    assert_eq!(paths(deep.try_next()), [5], "an element is a segment");
    assert_eq!(paths(deep.try_next()), [0; 0]);
}

#[tokio::test]
async fn containers_converge_through_a_server() {
    let server = Server::start(memory().await).await;
    let (a, b) = (client(&server).await, client(&server).await);
    let (a, b) = (a.open("m").await.unwrap(), b.open("m").await.unwrap());
    let mut watch = b.watch("**").unwrap();
    let mut copy = Copy::default();
    for n in 0..50i64 {
        for map in [&a, &b] {
            map.map("x").array("list").append(n).unwrap();
            map.map("x").counter("count").add(n).unwrap();
            map.or_set("set").insert(n % 7).unwrap();
        }
        a.map("x").array("list").move_to(0, n as usize).unwrap();
        b.or_set("set").remove(n % 5).unwrap();
    }
    soon("flush", a.flush_peers()).await.unwrap();
    soon("flush", b.flush_peers()).await.unwrap();
    converge(&a, &b).await;
    assert_eq!(a.map("x").counter("count").get(), 2 * (0..50).sum::<i64>());
    assert_eq!(a.map("x").array("list").len(), 100);
    until("the copy is exact", &b, |b| {
        while let Some(event) = watch.try_next() {
            copy.event(&event);
        }
        copy.settled() == b.read(Copy::of).settled()
    })
    .await;
}
