//! A value that reading brings up to date: behind a lock, where there may be threads.

#[cfg(feature = "std")]
use std::sync::{Mutex as Inner, MutexGuard, PoisonError};

#[cfg(not(feature = "std"))]
use core::cell::{RefCell as Inner, RefMut};

/// Held by one at a time.
#[derive(Debug, Default)]
pub(crate) struct Lock<T>(Inner<T>);

#[cfg(feature = "std")]
pub(crate) type Guard<'a, T> = MutexGuard<'a, T>;
#[cfg(not(feature = "std"))]
pub(crate) type Guard<'a, T> = RefMut<'a, T>;

/// Whoever panicked while it was held has left nothing that is not brought up to date again.
#[cfg(feature = "std")]
impl<T> Lock<T> {
    pub(crate) fn lock(&self) -> Guard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

/// On one thread.
#[cfg(not(feature = "std"))]
impl<T> Lock<T> {
    pub(crate) fn lock(&self) -> Guard<'_, T> {
        self.0.borrow_mut()
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}
