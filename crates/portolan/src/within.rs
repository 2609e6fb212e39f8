//! Which maps are held further up on this thread, by closures of the program: they would wait for
//! themselves if they came back to the same map.

use std::cell::RefCell;

use crate::shared::Shared;

/// How a map is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Held {
    Reading,
    Writing,
}

thread_local! {
    static HELD: RefCell<Vec<(*const Shared, Held)>> = const { RefCell::new(Vec::new()) };
}

/// Until it is dropped, this thread holds a map.
pub(crate) struct Within(());

impl Within {
    pub(crate) fn new(shared: &Shared, held: Held) -> Self {
        HELD.with_borrow_mut(|all| all.push((std::ptr::from_ref(shared), held)));
        Self(())
    }
}

impl Drop for Within {
    fn drop(&mut self) {
        // Closures end in the opposite order of their beginnings.
        HELD.with_borrow_mut(Vec::pop);
    }
}

/// How this thread holds the map, if it does.
pub(crate) fn held(shared: &Shared) -> Option<Held> {
    HELD.with_borrow(|all| {
        let same = all.iter().filter(|(map, _)| std::ptr::eq(*map, shared));
        same.map(|(_, held)| *held).max()
    })
}
