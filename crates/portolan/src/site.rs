//! Where a handle is: the open map, and the keys that lead to its container.

use std::sync::Arc;

use portolan_core::{Document, Key, Transaction};

use crate::core::Core;
use crate::error::{Error, Result};
use crate::node::Handle;
use crate::shared::Shared;
use crate::within;

/// What all handles have in common. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) handle: Arc<Handle>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) path: Arc<[Key]>,
}

impl Site {
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.handle.core
    }

    /// The place under a key.
    pub(crate) fn under(&self, key: Key) -> Self {
        let path = self.path.iter().cloned().chain([key]);
        Self {
            path: path.collect(),
            ..self.clone()
        }
    }

    pub(crate) fn read<T>(&self, f: impl FnOnce(&Document) -> T) -> T {
        self.shared.read(|state| f(state.replica.document()))
    }

    pub(crate) fn transact<T, E: From<Error>>(
        &self,
        f: impl FnOnce(&mut Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.check_free()?;
        self.shared
            .with(|state, now| state.replica.transact(now, f))
    }

    /// Passes if the map can be written to, here and now.
    pub(crate) fn check_free(&self) -> Result<()> {
        self.core().check_writable()?;
        if within::held(&self.shared).is_some() {
            let map = self.shared.name.to_string();
            return Err(Error::Held { map });
        }
        Ok(())
    }
}
