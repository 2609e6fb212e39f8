//! A register that keeps concurrent values.

use super::shared::Shared;
use super::update::Update;
use super::{PLACE, content};
use crate::entries::Siblings;
use crate::error::Error;
use crate::value::Value;

/// A multi-value register: written by several at once it keeps the value of each, until somebody
/// who has seen them writes again.
///
/// ```
/// use portolan_core::types::{InstanceId, MvRegister};
/// use portolan_core::{ReplicaId, Value};
///
/// let id = InstanceId::new(1);
/// let mut here = MvRegister::new(id, ReplicaId::new(1));
/// let mut there = MvRegister::new(id, ReplicaId::new(2));
/// let (north, south) = (here.set("north")?, there.set("south")?);
/// here.apply(&south)?;
/// there.apply(&north)?;
/// let winner = here.winner().cloned();
/// assert_eq!((here.read().count(), winner.as_ref()), (2, there.winner()));
///
/// there.apply(&here.set("east")?)?; // having seen both
/// assert!(there.read().map(|sibling| sibling.value).eq([&Value::from("east")]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type MvRegister = Shared<content::Register>;

impl Shared<content::Register> {
    /// All siblings, the winner first, in the same order on every replica; none where it was
    /// never set, or cleared.
    pub fn read(&self) -> Siblings<'_> {
        self.document.get_all(PLACE)
    }

    /// The sibling of the highest timestamp, then replica id.
    pub fn winner(&self) -> Option<&Value> {
        self.document.get(PLACE)
    }

    /// Replaces every sibling seen here.
    pub fn set(&mut self, value: impl Into<Value>) -> Result<Update, Error> {
        let ((), update) = self.write(|tx| tx.set(PLACE, value))?;
        Ok(update)
    }

    /// Removes every sibling seen here; what is concurrently set survives. `None` where there
    /// is none.
    pub fn clear(&mut self) -> Option<Update> {
        let write = self.write(|tx| Ok::<_, core::convert::Infallible>(tx.unset(PLACE)));
        let Ok((removed, update)) = write;
        removed.then_some(update)
    }
}
