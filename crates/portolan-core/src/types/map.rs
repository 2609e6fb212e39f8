//! A map that keeps concurrent values of a key.

use core::ops::RangeBounds;

use super::content;
use super::shared::Shared;
use super::update::Update;
use crate::edit::MapMut;
use crate::entries::{Entries, Siblings};
use crate::error::Error;
use crate::key::{Key, KeyRef};
use crate::value::Value;
use crate::view::MapView;

/// A multi-value map: a key written by several at once keeps the value of each, until somebody
/// who has seen them writes again.
///
/// ```
/// use portolan_core::types::{InstanceId, MvMap};
/// use portolan_core::{Error, ReplicaId, Value};
///
/// let mut map = MvMap::new(InstanceId::new(1), ReplicaId::new(1));
/// map.set("rate", 10)?;
/// map.set(1, "one")?; // 1, "1" and true are three keys
/// let (_, update) = map.transact(|tx| {
///     tx.set("rate", 20)?;
///     tx.set("burst", 5)
/// })?;
/// assert_eq!(map.get("rate"), Some(&Value::from(20)));
///
/// let mut there = MvMap::new(InstanceId::new(1), ReplicaId::new(2));
/// there.apply(&update)?;
/// assert_eq!(there.len(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type MvMap = Shared<content::Map>;

impl Shared<content::Map> {
    /// The map, to read.
    pub fn read(&self) -> MapView<'_> {
        self.document.root()
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.document.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.document.is_empty()
    }

    /// The winner under the key.
    pub fn get<'k>(&self, key: impl Into<KeyRef<'k>>) -> Option<&Value> {
        self.document.get(key)
    }

    /// All siblings under the key, the winner first, in the same order on every replica.
    pub fn get_all<'k>(&self, key: impl Into<KeyRef<'k>>) -> Siblings<'_> {
        self.document.get_all(key)
    }

    /// All keys in order, each with its siblings.
    pub fn iter(&self) -> Entries<'_> {
        self.document.iter()
    }

    /// The keys of a range, in order.
    pub fn range(&self, keys: impl RangeBounds<Key>) -> Entries<'_> {
        self.document.range(keys)
    }

    /// Replaces every sibling seen here.
    pub fn set(&mut self, key: impl Into<Key>, value: impl Into<Value>) -> Result<Update, Error> {
        let ((), update) = self.write(|tx| tx.set(key, value))?;
        Ok(update)
    }

    /// Removes what is seen here under the key; what is concurrently written survives. `None`
    /// where there is nothing.
    pub fn unset<'k>(&mut self, key: impl Into<KeyRef<'k>>) -> Option<Update> {
        let write = self.write(|tx| Ok::<_, core::convert::Infallible>(tx.unset(key)));
        let Ok((removed, update)) = write;
        removed.then_some(update)
    }

    /// Runs several operations as one: every replica sees all of them at once. Where the closure
    /// fails or panics, none of them has happened.
    pub fn transact<T, E>(
        &mut self,
        f: impl FnOnce(&mut MapMut<'_, '_>) -> Result<T, E>,
    ) -> Result<(T, Update), E> {
        self.write(|tx| f(&mut tx.root()))
    }
}

impl<'a> IntoIterator for &'a Shared<content::Map> {
    type Item = (&'a Key, Siblings<'a>);
    type IntoIter = Entries<'a>;

    fn into_iter(self) -> Entries<'a> {
        self.iter()
    }
}
