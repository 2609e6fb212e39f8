//! From the number of a thing to its place in a row, in as little code as can be.

use alloc::vec::Vec;

use super::{At, Sorted};

#[derive(Debug, Default)]
pub(crate) struct Places {
    /// By the key of each place.
    sorted: Sorted,
    keys: Vec<u64>,
}

impl Places {
    fn find(&self, key: u64) -> Result<At, At> {
        self.sorted
            .find(&|place| self.keys[place as usize].cmp(&key))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    pub(crate) fn get(&self, key: u64) -> Option<u32> {
        Some(self.sorted.get(self.find(key).ok()?))
    }

    /// Gives a key that has none a place where no other is, at the end of the row at most.
    pub(crate) fn insert(&mut self, key: u64, place: u32) {
        if let Err(at) = self.find(key) {
            if place as usize == self.keys.len() {
                self.keys.push(key);
            } else {
                self.keys[place as usize] = key;
            }
            self.sorted.insert(at, place);
        }
    }

    /// The place of a key; `new` where it has none so far.
    pub(crate) fn get_or_insert(&mut self, key: u64, new: u32) -> u32 {
        self.get(key).unwrap_or_else(|| {
            self.insert(key, new);
            new
        })
    }

    /// All places, in the order of the keys.
    pub(crate) fn all(&self) -> impl Iterator<Item = u32> {
        self.sorted.iter((0, 0))
    }

    /// Those of the keys `from..=to`, in their order.
    pub(crate) fn between(&self, from: u64, to: u64) -> impl Iterator<Item = u32> {
        let (Ok(at) | Err(at)) = self.find(from);
        let places = self.sorted.iter(at);
        places.take_while(move |place| self.keys[*place as usize] <= to)
    }

    pub(crate) fn remove(&mut self, key: u64) -> Option<u32> {
        let at = self.find(key).ok()?;
        let place = self.sorted.get(at);
        self.sorted.remove(at);
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_plain_map(steps in prop::collection::vec((any::<bool>(), 0..30u64), 0..200)) {
            let (mut places, mut model) = (Places::default(), std::collections::BTreeMap::new());
            let (mut next, mut vacant) = (0, Vec::new());
            for (add, key) in steps {
                let key = key << 40 | key;
                prop_assert_eq!(places.get(key), model.get(&key).copied());
                if add && !model.contains_key(&key) {
                    let place = vacant.pop().unwrap_or_else(|| {
                        next += 1;
                        next - 1
                    });
                    places.insert(key, place);
                    model.insert(key, place);
                } else if !add {
                    let place = places.remove(key);
                    prop_assert_eq!(place, model.remove(&key));
                    vacant.extend(place);
                }
                prop_assert_eq!(places.is_empty(), model.is_empty());
            }
        }
    }
}
