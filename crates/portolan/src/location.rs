//! Places in a map, by the keys that lead to them.
//!
//! A path alone says what kinds of containers it leads through: an element's id stands in an
//! array, every other key in a map.

use portolan_core::{
    AllHeld, ArrayMut, ArrayView, CounterMut, Document, Error, Key, MapMut, MapView, SetMut,
    SetView, Siblings, Transaction, Value,
};

/// A place under which something can stand, to read: a key of a map or an element of an array.
#[derive(Clone, Debug)]
pub enum Location<'a> {
    /// A key of a map.
    Key(MapView<'a>, Key),
    /// The element at an index of an array.
    Element(ArrayView<'a>, usize),
}

impl<'a> Location<'a> {
    /// The place that a path from the root leads to. `None` where it is empty, or leads through an
    /// element that the array does not show.
    pub fn find(document: &'a Document, path: &[Key]) -> Option<Self> {
        let (first, rest) = path.split_first()?;
        let first = Location::Key(document.root(), named(first)?);
        rest.iter().try_fold(first, |at, key| at.step(key))
    }

    /// The place beneath this one.
    pub fn step(&self, key: &Key) -> Option<Self> {
        Some(match key {
            Key::Element(id) => {
                let array = self.array();
                Location::Element(array, array.index_of(*id)?)
            }
            key => Location::Key(self.map(), key.clone()),
        })
    }

    /// Everything that stands here, the kind written last first.
    pub fn held(&self) -> AllHeld<'a> {
        match self {
            Location::Key(map, key) => map.held(key),
            Location::Element(array, index) => array.held(*index),
        }
    }

    /// The siblings here, the winner first.
    pub fn siblings(&self) -> Siblings<'a> {
        match self {
            Location::Key(map, key) => map.get_all(key),
            Location::Element(array, index) => array.get_all(*index),
        }
    }

    /// The map here.
    pub fn map(&self) -> MapView<'a> {
        match self {
            Location::Key(map, key) => map.map(key),
            Location::Element(array, index) => array.map(*index),
        }
    }

    /// The array here.
    pub fn array(&self) -> ArrayView<'a> {
        match self {
            Location::Key(map, key) => map.array(key),
            Location::Element(array, index) => array.array(*index),
        }
    }

    /// The observed-remove set here.
    pub fn or_set(&self) -> SetView<'a> {
        match self {
            Location::Key(map, key) => map.or_set(key),
            Location::Element(array, index) => array.or_set(*index),
        }
    }

    /// What the counter here shows.
    pub fn counter(&self) -> i64 {
        match self {
            Location::Key(map, key) => map.counter(key),
            Location::Element(array, index) => array.counter(*index),
        }
    }
}

/// A place under which something can stand, to write: a key of a map or an element of an array.
#[derive(Debug)]
pub enum LocationMut<'t, 'd> {
    /// A key of a map.
    Key(MapMut<'t, 'd>, Key),
    /// The element at an index of an array.
    Element(ArrayMut<'t, 'd>, usize),
}

impl<'t, 'd> LocationMut<'t, 'd> {
    /// The place that a path from the root leads to. Fails where the path is empty, or leads
    /// through an element that the array does not show.
    pub fn find(transaction: &'t mut Transaction<'d>, path: &[Key]) -> Result<Self, Error> {
        let (first, rest) = path.split_first().ok_or(Error::NoSuchElement)?;
        let first = named(first).ok_or(Error::ElementAsKey)?;
        let first = LocationMut::Key(transaction.root(), first);
        rest.iter().try_fold(first, Self::into_step)
    }

    /// The place beneath this one.
    pub fn into_step(self, key: &Key) -> Result<Self, Error> {
        Ok(match key {
            Key::Element(id) => {
                let array = self.into_array();
                let index = array.index_of(*id)?.ok_or(Error::NoSuchElement)?;
                LocationMut::Element(array, index)
            }
            key => LocationMut::Key(self.into_map(), key.clone()),
        })
    }

    /// Replaces the siblings here.
    pub fn set(self, value: impl Into<Value>) -> Result<(), Error> {
        match self {
            LocationMut::Key(mut map, key) => map.set(key, value),
            LocationMut::Element(mut array, index) => array.set(index, value),
        }
    }

    /// Removes everything here, an element of an array with it; false where there is nothing.
    pub fn unset(self) -> Result<bool, Error> {
        match self {
            LocationMut::Key(mut map, key) => map.unset(&key),
            LocationMut::Element(mut array, index) => array.delete(index).map(|()| true),
        }
    }

    /// Removes the values here and leaves the containers; false where there is no value.
    pub fn unset_values(self) -> Result<bool, Error> {
        match self {
            LocationMut::Key(mut map, key) => map.unset_values(&key),
            LocationMut::Element(mut array, index) => array.unset_values(index),
        }
    }

    /// The map here.
    pub fn into_map(self) -> MapMut<'t, 'd> {
        match self {
            LocationMut::Key(map, key) => map.into_map(key),
            LocationMut::Element(array, index) => array.into_map(index),
        }
    }

    /// The array here.
    pub fn into_array(self) -> ArrayMut<'t, 'd> {
        match self {
            LocationMut::Key(map, key) => map.into_array(key),
            LocationMut::Element(array, index) => array.into_array(index),
        }
    }

    /// The observed-remove set here.
    pub fn into_or_set(self) -> SetMut<'t, 'd> {
        match self {
            LocationMut::Key(map, key) => map.into_or_set(key),
            LocationMut::Element(array, index) => array.into_or_set(index),
        }
    }

    /// The counter here.
    pub fn into_counter(self) -> CounterMut<'t, 'd> {
        match self {
            LocationMut::Key(map, key) => map.into_counter(key),
            LocationMut::Element(array, index) => array.into_counter(index),
        }
    }
}

/// The key, if it is one of a map.
fn named(key: &Key) -> Option<Key> {
    (!matches!(key, Key::Element(_))).then(|| key.clone())
}

/// The map at a path; the root where it is empty.
pub(crate) fn map_at<'a>(document: &'a Document, path: &[Key]) -> Option<MapView<'a>> {
    if path.is_empty() {
        return Some(document.root());
    }
    Location::find(document, path).map(|at| at.map())
}

/// As [`map_at`], to write.
pub(crate) fn map_mut<'t, 'd>(
    transaction: &'t mut Transaction<'d>,
    path: &[Key],
) -> Result<MapMut<'t, 'd>, Error> {
    if path.is_empty() {
        return Ok(transaction.root());
    }
    LocationMut::find(transaction, path).map(LocationMut::into_map)
}
