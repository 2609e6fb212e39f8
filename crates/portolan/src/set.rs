//! An observed-remove set within a map.

use std::fmt;

use portolan_core::{Key, SetMut, SetView, Value};

use crate::error::Result;
use crate::location::{Location, LocationMut};
use crate::pattern::path_text;
use crate::site::Site;

/// An observed-remove set in a [`Map`](crate::Map): a member that one replica inserts while another
/// removes it stays. Cheap to clone, safe to share; it comes into being with its first member.
///
/// Members are plain values; `1`, `1.0` and `true` are three. Each call that writes is one
/// transaction.
#[derive(Clone)]
pub struct Set(pub(crate) Site);

impl Set {
    fn view<T>(&self, f: impl FnOnce(SetView<'_>) -> T) -> Option<T> {
        self.0.read(|document| {
            let at = Location::find(document, &self.0.path)?;
            Some(f(at.or_set()))
        })
    }

    fn edit<T>(
        &self,
        f: impl FnOnce(SetMut<'_, '_>) -> Result<T, portolan_core::Error>,
    ) -> Result<T> {
        self.0.transact(|transaction| {
            let at = LocationMut::find(transaction, &self.0.path)?;
            Ok(f(at.into_or_set())?)
        })
    }

    /// The keys that lead here.
    pub fn path(&self) -> &[Key] {
        &self.0.path
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.view(|set| set.len()).unwrap_or(0)
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it is a member.
    pub fn contains(&self, member: impl Into<Value>) -> bool {
        self.view(|set| set.contains(member)).unwrap_or(false)
    }

    /// All members: booleans, integers, strings, then all others, each kind in order.
    pub fn members(&self) -> Vec<Value> {
        let members = self.view(|set| set.iter().collect());
        members.unwrap_or_default()
    }

    /// Inserts a member; one that is there already then survives a concurrent removal.
    pub fn insert(&self, member: impl Into<Value>) -> Result<()> {
        self.edit(|mut set| set.insert(member))
    }

    /// Removes a member as far as it is seen here; false where it is not.
    pub fn remove(&self, member: impl Into<Value>) -> Result<bool> {
        self.edit(|mut set| set.remove(member))
    }

    /// Removes every member seen here; false where there is none.
    pub fn clear(&self) -> Result<bool> {
        self.edit(|mut set| set.clear())
    }
}

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Set").field(&path_text(self.path())).finish()
    }
}
