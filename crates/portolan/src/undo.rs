//! Taking a transaction back.

use portolan_core::{Dot, Error as OperationError, Transaction};

use crate::error::{Error, Result};
use crate::map::Map;
use crate::within::{Held, Within};

/// The operations of a transaction, for [`Map::undo`]. They are not kept anywhere else.
#[derive(Clone, Debug)]
pub struct Undoable {
    /// The first and the last; `None` where it did nothing.
    ends: Option<[Dot; 2]>,
}

impl Map {
    /// As [`transact`](Self::transact), and tells what was done, to take it back with
    /// [`undo`](Self::undo).
    ///
    /// ```
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// # let node = portolan::Node::builder().spawn().await?;
    /// let fleet = node.open("fleet").await?;
    /// fleet.set("rate", 10)?;
    /// let ((), done) = fleet.transact_undoable(|tx| {
    ///     tx.set("rate", 20)?;
    ///     tx.array("log").append("faster")?;
    ///     Ok::<_, portolan::Error>(())
    /// })?;
    /// fleet.undo(&done)?;
    /// assert_eq!(fleet.get("rate"), Some(10.into()));
    /// assert!(fleet.array("log").is_empty());
    /// # Ok::<(), portolan::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn transact_undoable<T, E: From<Error>>(
        &self,
        f: impl FnOnce(&mut Transaction<'_>) -> Result<T, E>,
    ) -> Result<(T, Undoable), E> {
        self.site().check_free()?;
        self.shared().with(|state, now| {
            let document = state.replica.document();
            let (replica, before) = (document.replica(), document.own_seq());
            let result = state.replica.transact(now, |transaction| {
                let _within = Within::new(self.shared(), Held::Writing);
                f(transaction)
            })?;
            let last = state.replica.document().own_seq();
            let ends = [Dot::new(replica, before + 1), Dot::new(replica, last)];
            let ends = (last > before).then_some(ends);
            Ok((result, Undoable { ends }))
        })
    }

    /// Takes a transaction of this handle's node back, by new operations in one transaction: what
    /// it wrote and nobody has replaced since goes, what it removed comes back where nobody has
    /// written since, elements return to their old places, and counters to what they showed, but
    /// for what others have added. Costs what it did.
    ///
    /// Fails where what it replaced is not known any more
    /// ([`Builder::history`](crate::Builder::history)), or where this node writes under another id
    /// since: without a store it gives its id back when it has not written for a minute.
    pub fn undo(&self, done: &Undoable) -> Result<()> {
        let Some(ends) = done.ends else {
            return Ok(());
        };
        self.site().check_free()?;
        self.shared().with(|state, now| {
            let document = state.replica.document();
            // They may have been done again under another id.
            let [first, last] = ends.map(|dot| document.current(dot));
            let own = document.replica();
            if first.replica != own || last.replica != own {
                return Err(OperationError::PastForgotten.into());
            }
            Ok(state.replica.undo(now, first.seq..=last.seq)?)
        })
    }
}
