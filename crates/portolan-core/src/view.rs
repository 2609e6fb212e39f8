//! Reading containers. A container in which there is nothing reads as an empty one.

use alloc::vec;
use core::ops::{Bound, RangeBounds};

use smallvec::SmallVec;

use crate::clock::Timestamp;
use crate::containers::{Form, Kind, ROOT};
use crate::document::{Document, starting_with};
use crate::entries::{Entries, Siblings};
use crate::key::{Key, KeyRef};
use crate::replica::Dot;
use crate::sequence::{Sequence, Spot};
use crate::sets::{member_key, member_of};
use crate::slab::{NONE, Slot};
use crate::sorting::sort_by;
use crate::value::Value;

/// What stands under a key, of one kind.
#[derive(Clone, Debug)]
pub enum Held<'a> {
    /// Values, the winner first.
    Values(Siblings<'a>),
    /// A map.
    Map(MapView<'a>),
    /// An array.
    Array(ArrayView<'a>),
    /// A set.
    Set(SetView<'a>),
    /// What a counter shows.
    Counter(i64),
}

impl Held<'_> {
    /// The kind of container; `None` for values.
    pub fn kind(&self) -> Option<Kind> {
        Some(match self {
            Held::Values(_) => return None,
            Held::Map(_) => Kind::Map,
            Held::Array(_) => Kind::Array,
            Held::Set(_) => Kind::Set,
            Held::Counter(_) => Kind::Counter,
        })
    }
}

/// Everything under one key, the kind written last first.
pub type AllHeld<'a> = SmallVec<[Held<'a>; 1]>;

impl Document {
    /// Everything under a key: values and containers, the kind written last first.
    pub fn held<'k>(&self, key: impl Into<KeyRef<'k>>) -> AllHeld<'_> {
        self.root().held(key)
    }

    /// The map under a key of the root.
    #[must_use]
    pub fn map<'k>(&self, key: impl Into<KeyRef<'k>>) -> MapView<'_> {
        self.root().map(key)
    }

    /// The array under a key of the root.
    #[must_use]
    pub fn array<'k>(&self, key: impl Into<KeyRef<'k>>) -> ArrayView<'_> {
        self.root().array(key)
    }

    /// The observed-remove set under a key of the root.
    #[must_use]
    pub fn or_set<'k>(&self, key: impl Into<KeyRef<'k>>) -> SetView<'_> {
        self.root().or_set(key)
    }

    /// What the counter under a key of the root shows.
    pub fn counter<'k>(&self, key: impl Into<KeyRef<'k>>) -> i64 {
        self.root().counter(key)
    }

    fn inner(&self, container: Option<u32>, key: KeyRef<'_>, form: Form) -> Option<u32> {
        self.containers.find(container?, &key.to_key(), form)
    }

    /// What stands in a chain, and with the value that an element was born with.
    pub(crate) fn all_held<'a>(&'a self, head: Slot, values: Siblings<'a>) -> AllHeld<'a> {
        let mut all: SmallVec<[(Timestamp, Held<'a>); 2]> = SmallVec::new();
        if let Some(winner) = values.clone().next() {
            all.push((winner.timestamp, Held::Values(values)));
        }
        let chain = (head != NONE).then(|| self.chain(head));
        let containers = chain.into_iter().flatten();
        for number in containers.filter_map(|slot| self.slab[slot].inner()) {
            let view = Some(number);
            let held = match self.containers.get(number).form {
                Form::Map => Held::Map(MapView::new(self, view)),
                Form::Array => Held::Array(ArrayView::new(self, view)),
                Form::Set => Held::Set(SetView::new(self, view)),
                Form::Counter => Held::Counter(self.count(number)),
                Form::Moves => continue,
            };
            all.push((Timestamp::default(), held));
            if all.len() > 1 {
                for (timestamp, held) in &mut all {
                    *timestamp = (*timestamp).max(self.latest_of(held, number));
                }
            }
        }
        // Containers before values that are as old.
        sort_by(&mut all, |(a, one), (b, other)| {
            (*b, other.kind()).cmp(&(*a, one.kind()))
        });
        all.into_iter().map(|(_, held)| held).collect()
    }

    fn latest_of(&self, held: &Held<'_>, number: u32) -> Timestamp {
        let number = match held {
            Held::Values(_) => return Timestamp::default(),
            Held::Map(map) => map.container,
            Held::Array(array) => array.container,
            Held::Set(set) => set.container,
            Held::Counter(_) => Some(number),
        };
        number.map_or(Timestamp::default(), |number| self.latest_in(number))
    }

    /// When something that shows in a container was last written. Costs all that is in it.
    pub(crate) fn latest_in(&self, container: u32) -> Timestamp {
        let mut latest = Timestamp::default();
        let mut inner = vec![container];
        while let Some(container) = inner.pop() {
            for head in self.heads(container) {
                for slot in self.chain(head) {
                    latest = latest.max(self.slab.stamp(slot).timestamp);
                    inner.extend(self.slab[slot].inner());
                }
            }
            if let Some(sequence) = self.sequence(container) {
                let born = sequence.iter(&self.elements, 0);
                let born = born.filter(|spot| self.elements[*spot].born().is_some());
                let born = born.map(|spot| self.elements[spot].timestamp()).max();
                latest = latest.max(born.unwrap_or_default());
            }
        }
        latest
    }
}

/// A map, to read.
#[derive(Clone, Copy, Debug)]
pub struct MapView<'a> {
    document: &'a Document,
    container: Option<u32>,
}

impl<'a> MapView<'a> {
    pub(crate) fn new(document: &'a Document, container: Option<u32>) -> Self {
        Self {
            document,
            container,
        }
    }

    fn find(&self, key: KeyRef<'_>) -> Slot {
        let found = self.container.and_then(|map| self.document.find(map, key));
        found.unwrap_or(NONE)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        match self.container {
            None => 0,
            Some(ROOT) => self.document.len(),
            Some(map) => self.document.containers.get(map).items as usize,
        }
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The winner under the key; `None` where there are only containers.
    pub fn get<'k>(&self, key: impl Into<KeyRef<'k>>) -> Option<&'a Value> {
        self.document.winner(self.container?, key.into())
    }

    /// All siblings under the key, the winner first.
    pub fn get_all<'k>(&self, key: impl Into<KeyRef<'k>>) -> Siblings<'a> {
        Siblings::new(self.document, self.find(key.into()))
    }

    /// Whether there is anything under the key.
    pub fn contains_key<'k>(&self, key: impl Into<KeyRef<'k>>) -> bool {
        self.find(key.into()) != NONE
    }

    /// Everything under a key: values and containers, the kind written last first.
    pub fn held<'k>(&self, key: impl Into<KeyRef<'k>>) -> AllHeld<'a> {
        let head = self.find(key.into());
        self.document
            .all_held(head, Siblings::new(self.document, head))
    }

    /// All keys in order, each with its siblings; a key that has only containers has none.
    pub fn iter(&self) -> Entries<'a> {
        self.range(..)
    }

    /// The keys of a range, in order.
    pub fn range(&self, keys: impl RangeBounds<Key>) -> Entries<'a> {
        self.entries((keys.start_bound().cloned(), keys.end_bound().cloned()))
    }

    /// The string keys that start so, in order.
    pub fn prefix(&self, prefix: &str) -> Entries<'a> {
        self.entries(starting_with(prefix))
    }

    fn entries(&self, bounds: (Bound<Key>, Bound<Key>)) -> Entries<'a> {
        // No container has the largest number.
        let container = self.container.unwrap_or(u32::MAX);
        Entries::new(self.document, container, bounds)
    }

    /// The map under a key.
    #[must_use]
    pub fn map<'k>(&self, key: impl Into<KeyRef<'k>>) -> MapView<'a> {
        let inner = self.document.inner(self.container, key.into(), Form::Map);
        MapView::new(self.document, inner)
    }

    /// The array under a key.
    #[must_use]
    pub fn array<'k>(&self, key: impl Into<KeyRef<'k>>) -> ArrayView<'a> {
        let inner = self.document.inner(self.container, key.into(), Form::Array);
        ArrayView::new(self.document, inner)
    }

    /// The observed-remove set under a key.
    #[must_use]
    pub fn or_set<'k>(&self, key: impl Into<KeyRef<'k>>) -> SetView<'a> {
        let inner = self.document.inner(self.container, key.into(), Form::Set);
        SetView::new(self.document, inner)
    }

    /// What the counter under a key shows; 0 where there is none.
    pub fn counter<'k>(&self, key: impl Into<KeyRef<'k>>) -> i64 {
        let key = key.into();
        let inner = self.document.inner(self.container, key, Form::Counter);
        inner.map_or(0, |counter| self.document.count(counter))
    }
}

impl<'a> IntoIterator for &MapView<'a> {
    type Item = (&'a Key, Siblings<'a>);
    type IntoIter = Entries<'a>;

    fn into_iter(self) -> Entries<'a> {
        self.iter()
    }
}

/// An observed-remove set, to read.
#[derive(Clone, Copy, Debug)]
pub struct SetView<'a> {
    document: &'a Document,
    container: Option<u32>,
}

impl<'a> SetView<'a> {
    fn new(document: &'a Document, container: Option<u32>) -> Self {
        Self {
            document,
            container,
        }
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        let known = self.container.map(|set| self.document.containers.get(set));
        known.map_or(0, |known| known.items as usize)
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it is a member.
    pub fn contains(&self, member: impl Into<Value>) -> bool {
        let key = member_key(&member.into());
        let found = |set| self.document.find(set, key.borrowed());
        self.container.and_then(found).is_some()
    }

    /// All members: booleans, integers, strings, then all others, each kind in order.
    pub fn iter(&self) -> impl Iterator<Item = Value> + use<'a> {
        let map = MapView::new(self.document, self.container);
        map.iter().filter_map(|(key, _)| member_of(key))
    }
}

/// An array, to read. Indices count the elements that show.
#[derive(Clone, Copy, Debug)]
pub struct ArrayView<'a> {
    document: &'a Document,
    container: Option<u32>,
}

impl<'a> ArrayView<'a> {
    fn new(document: &'a Document, container: Option<u32>) -> Self {
        Self {
            document,
            container,
        }
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        let array = self
            .container
            .and_then(|array| self.document.sequence(array));
        array.map_or(0, Sequence::len)
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The winner at an index; `None` where there is no element, or only containers in it.
    /// Logarithmic.
    pub fn get(&self, index: usize) -> Option<&'a Value> {
        self.get_all(index).next().map(|winner| winner.value)
    }

    /// All siblings at an index, the winner first.
    pub fn get_all(&self, index: usize) -> Siblings<'a> {
        match self.at(index) {
            Some(element) => Siblings::of_element(self.document, element),
            None => Siblings::new(self.document, NONE),
        }
    }

    /// Everything that the element at an index holds, the kind written last first.
    pub fn held(&self, index: usize) -> AllHeld<'a> {
        match self.at(index) {
            Some(element) => self.held_by(element),
            None => AllHeld::new(),
        }
    }

    fn held_by(&self, element: Spot) -> AllHeld<'a> {
        let head = self.document.written(element).unwrap_or(NONE);
        let values = Siblings::of_element(self.document, element);
        self.document.all_held(head, values)
    }

    fn at(&self, index: usize) -> Option<Spot> {
        self.document.element_at(self.container?, index)
    }

    /// The id of the element at an index: it keeps it for life. Logarithmic.
    pub fn id(&self, index: usize) -> Option<Dot> {
        self.at(index).map(|element| self.document.dot_at(element))
    }

    /// The index at which an element stands; `None` where it is unknown or deleted. Logarithmic.
    pub fn index_of(&self, id: Dot) -> Option<usize> {
        let element = self.document.known_element(self.container?, id)?;
        let sequence = self.document.sequence(self.container?)?;
        sequence.index_of(&self.document.elements, element)
    }

    /// The elements in order, each with its id and siblings.
    pub fn iter(&self) -> impl Iterator<Item = (Dot, Siblings<'a>)> + use<'a> {
        self.slice(0)
    }

    /// As [`iter`](Self::iter), from an index on.
    pub fn slice(&self, from: usize) -> impl Iterator<Item = (Dot, Siblings<'a>)> + use<'a> {
        let document = self.document;
        let sequence = self.container.and_then(|array| document.sequence(array));
        let elements = sequence.map(|sequence| sequence.iter(&document.elements, from));
        let elements = elements.into_iter().flatten();
        elements.map(move |element| Siblings::with_id(document, element))
    }

    /// The map that the element at an index holds.
    #[must_use]
    pub fn map(&self, index: usize) -> MapView<'a> {
        MapView::new(self.document, self.inner(index, Form::Map))
    }

    /// The array that the element at an index holds.
    #[must_use]
    pub fn array(&self, index: usize) -> ArrayView<'a> {
        ArrayView::new(self.document, self.inner(index, Form::Array))
    }

    /// The observed-remove set that the element at an index holds.
    #[must_use]
    pub fn or_set(&self, index: usize) -> SetView<'a> {
        SetView::new(self.document, self.inner(index, Form::Set))
    }

    /// What the counter that the element at an index holds shows.
    pub fn counter(&self, index: usize) -> i64 {
        let inner = self.inner(index, Form::Counter);
        inner.map_or(0, |counter| self.document.count(counter))
    }

    fn inner(&self, index: usize, form: Form) -> Option<u32> {
        let id = self.id(index)?;
        self.document
            .inner(self.container, KeyRef::Element(id), form)
    }
}
