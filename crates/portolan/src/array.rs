//! An array within a map.

use std::fmt;

use portolan_core::{ArrayMut, ArrayView, Dot, Key, Transaction, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::content::Content;
use crate::convert::{from_value, to_value};
use crate::counter::Counter;
use crate::error::Result;
use crate::location::{Location, LocationMut};
use crate::map::Map;
use crate::pattern::path_text;
use crate::set::Set;
use crate::site::Site;

/// An array in a [`Map`]: every replica may insert, move and delete at the same time. Cheap to
/// clone, safe to share; it comes into being with its first element.
///
/// Indices count the elements as they are now. An element's id stays the same for life; whoever
/// keeps a place while others write keeps the id. Each call that writes is one transaction; several
/// as one go through [`Map::transact`].
///
/// ```
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// # let node = portolan::Node::builder().spawn().await?;
/// # let fleet = node.open("fleet").await?;
/// let inbox = fleet.map("users").map("ada").array("inbox");
/// let first = inbox.append("hello")?;
/// inbox.insert(0, "urgent")?;
/// assert_eq!(inbox.index_of(first), Some(1));
/// assert_eq!(fleet.map("users").map("ada").get_as::<Vec<String>>("inbox")?,
///            Some(vec!["urgent".into(), "hello".into()]));
/// # Ok::<(), portolan::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Array(pub(crate) Site);

impl Array {
    fn view<T>(&self, f: impl FnOnce(ArrayView<'_>) -> T) -> Option<T> {
        self.0.read(|document| {
            let at = Location::find(document, &self.0.path)?;
            Some(f(at.array()))
        })
    }

    fn edit<T>(
        &self,
        f: impl FnOnce(ArrayMut<'_, '_>) -> Result<T, portolan_core::Error>,
    ) -> Result<T> {
        self.0.transact(|transaction: &mut Transaction<'_>| {
            let at = LocationMut::find(transaction, &self.0.path)?;
            Ok(f(at.into_array())?)
        })
    }

    /// The keys that lead here.
    pub fn path(&self) -> &[Key] {
        &self.0.path
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.view(|array| array.len()).unwrap_or(0)
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The winner at an index; `None` where there is no element, or only containers in it.
    pub fn get(&self, index: usize) -> Option<Value> {
        self.view(|array| array.get(index).cloned())?
    }

    /// All siblings at an index, the winner first.
    pub fn get_all(&self, index: usize) -> Vec<Value> {
        let all = self.view(|array| {
            let siblings = array.get_all(index);
            siblings.map(|sibling| sibling.value.clone()).collect()
        });
        all.unwrap_or_default()
    }

    /// What the element at an index shows, a container too, as the program's own type.
    pub fn get_as<T: DeserializeOwned>(&self, index: usize) -> Result<Option<T>> {
        let shown = self.view(|array| array.held(index).first().map(Content::of));
        let value = shown.flatten().map(|content| content.to_value());
        value
            .transpose()?
            .map(|value| from_value(&value))
            .transpose()
    }

    /// Everything that the element at an index holds, the kind written last first.
    pub fn held(&self, index: usize) -> Vec<Content> {
        let held = self.view(|array| Content::of_all(&array.held(index)));
        held.unwrap_or_default()
    }

    /// The winners in order: one moment of the array. Null stands for an element in which there
    /// are only containers.
    pub fn values(&self) -> Vec<Value> {
        self.slice(0, usize::MAX)
    }

    /// As [`values`](Self::values), of at most `count` elements from an index on.
    pub fn slice(&self, from: usize, count: usize) -> Vec<Value> {
        let values = self.view(|array| {
            let elements = array.slice(from).take(count);
            let winners = elements.map(|(_, mut siblings)| siblings.next());
            winners
                .map(|winner| winner.map_or(Value::Null, |winner| winner.value.clone()))
                .collect()
        });
        values.unwrap_or_default()
    }

    /// The ids of the elements in order.
    pub fn ids(&self) -> Vec<Dot> {
        let ids = self.view(|array| array.iter().map(|(id, _)| id).collect());
        ids.unwrap_or_default()
    }

    /// The id of the element at an index.
    pub fn id(&self, index: usize) -> Option<Dot> {
        self.view(|array| array.id(index))?
    }

    /// The index at which an element stands; `None` where it is unknown or deleted.
    pub fn index_of(&self, id: Dot) -> Option<usize> {
        self.view(|array| array.index_of(id))?
    }

    /// Appends a value and gives the new element's id.
    pub fn append(&self, value: impl Into<Value>) -> Result<Dot> {
        self.edit(|mut array| array.append(value))
    }

    /// As [`append`](Self::append), from the program's own type.
    pub fn append_as<T: Serialize + ?Sized>(&self, content: &T) -> Result<Dot> {
        self.append(to_value(content)?)
    }

    /// Inserts a value before the element at an index, or at the end; gives the new element's id.
    pub fn insert(&self, index: usize, value: impl Into<Value>) -> Result<Dot> {
        self.edit(|mut array| array.insert(index, value))
    }

    /// As [`insert`](Self::insert), from the program's own type.
    pub fn insert_as<T: Serialize + ?Sized>(&self, index: usize, content: &T) -> Result<Dot> {
        self.insert(index, to_value(content)?)
    }

    /// Replaces the siblings of the element at an index.
    pub fn set(&self, index: usize, value: impl Into<Value>) -> Result<()> {
        self.edit(|mut array| array.set(index, value))
    }

    /// As [`set`](Self::set), from the program's own type.
    pub fn set_as<T: Serialize + ?Sized>(&self, index: usize, content: &T) -> Result<()> {
        self.set(index, to_value(content)?)
    }

    /// Deletes the element at an index; what is concurrently written to it survives.
    pub fn delete(&self, index: usize) -> Result<()> {
        self.edit(|mut array| array.delete(index))
    }

    /// Brings a deleted element back in its old place; false where it is not deleted.
    pub fn undelete(&self, id: Dot) -> Result<bool> {
        self.edit(|mut array| array.undelete(id))
    }

    /// Moves the element at index `from` so that it then stands at index `to`.
    pub fn move_to(&self, from: usize, to: usize) -> Result<()> {
        self.edit(|mut array| array.move_to(from, to))
    }

    /// Deletes every element seen here; false where there is none.
    pub fn clear(&self) -> Result<bool> {
        self.edit(|mut array| array.clear())
    }

    /// The map in the element at an index: the element that stands there now, wherever it stands
    /// later. `None` where there is none.
    pub fn map(&self, index: usize) -> Option<Map> {
        self.element(index).map(Map::at)
    }

    /// The array in the element at an index, as [`map`](Self::map).
    pub fn array(&self, index: usize) -> Option<Array> {
        self.element(index).map(Array)
    }

    /// The set in the element at an index, as [`map`](Self::map).
    pub fn or_set(&self, index: usize) -> Option<Set> {
        self.element(index).map(Set)
    }

    /// The counter in the element at an index, as [`map`](Self::map).
    pub fn counter(&self, index: usize) -> Option<Counter> {
        self.element(index).map(Counter)
    }

    fn element(&self, index: usize) -> Option<Site> {
        let id = self.id(index)?;
        Some(self.0.under(Key::Element(id)))
    }
}

impl fmt::Debug for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Array")
            .field(&path_text(self.path()))
            .finish()
    }
}
