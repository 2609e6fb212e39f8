//! The keys in order, built when somebody first asks.
//!
//! Blocks of slots, one slot a key. New keys wait in a list until the next reading, so that a
//! document which is only written and looked up pays next to nothing for its order.

use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Ordering;

use crate::key::KeyRef;
use crate::slab::{Slab, Slot};
use crate::sorting::sort_by;
use crate::words::Words;

/// Slots in a block at the most; a fresh block is half full.
const BLOCK: usize = 512;

/// Where a key sorts: its container, then the key.
pub(crate) type Position<'a> = (u32, KeyRef<'a>);

/// The key that sorts before all others.
pub(crate) const LEAST: KeyRef<'static> = KeyRef::Bool(false);

#[derive(Debug, Default)]
pub(crate) struct Order {
    /// `None` until somebody asks for an order.
    blocks: Option<Vec<Vec<Slot>>>,
    /// New keys that have no place in the blocks so far.
    waiting: Vec<Slot>,
}

fn position(slab: &Slab, slot: Slot) -> Position<'_> {
    let entry = &slab[slot];
    (entry.container, entry.key.borrowed())
}

/// Sorts slots by key. Where all keys are text, the eight bytes behind their common prefix settle
/// nearly every comparison without reading keys.
pub(crate) fn sort(slab: &Slab, mut slots: Vec<Slot>) -> Vec<Slot> {
    as_they_stand(&mut slots);
    let Some(words) = words(slab, &slots) else {
        sort_by(&mut slots, |a, b| {
            position(slab, *a).cmp(&position(slab, *b))
        });
        return slots;
    };
    let sorted = words.sorted(|a, b| position(slab, *a).cmp(&position(slab, *b)));
    sorted.into_iter().map(|(_, slot)| slot).collect()
}

/// The words of slots, where all keys are text in one container.
fn words<'a>(slab: &'a Slab, slots: &[Slot]) -> Option<Words<'a, Slot>> {
    let first = &slab[*slots.first()?];
    let mut words = Words::with_first(first.key.as_str()?.as_bytes(), slots.len());
    for slot in slots {
        let entry = &slab[*slot];
        let text = entry.key.as_str();
        let text = text.filter(|_| entry.container == first.container)?;
        words.push(text.as_bytes(), *slot);
    }
    Some(words)
}

/// Puts slots, each there once, in the order of their entries in memory, so that reading all keys
/// goes forward through it. Leaves them as they are where they are few among many.
pub(crate) fn as_they_stand(slots: &mut [Slot]) {
    let words = slots.iter().max().map_or(0, |max| *max as usize / 64 + 1);
    if words > slots.len() {
        return;
    }
    let mut bits = vec![0u64; words];
    for slot in slots.iter() {
        bits[*slot as usize / 64] |= 1 << (slot % 64);
    }
    let mut places = slots.iter_mut();
    for (base, mut word) in (0..).step_by(64).zip(bits) {
        while word != 0 {
            if let Some(place) = places.next() {
                *place = base + word.trailing_zeros();
            }
            word &= word - 1;
        }
    }
}

impl Order {
    /// A key is new.
    pub(crate) fn insert(&mut self, slot: Slot) {
        if self.blocks.is_some() {
            self.waiting.push(slot);
        }
    }

    /// A key is about to go; its entry still stands.
    pub(crate) fn remove(&mut self, slab: &Slab, slot: Slot) {
        if self.blocks.is_none() {
            return;
        }
        if self.waiting.last() == Some(&slot) {
            self.waiting.pop();
            return;
        }
        self.settle(slab);
        let (block, at) = self.find(slab, slot);
        if let Some(blocks) = &mut self.blocks {
            blocks[block].remove(at);
            if blocks[block].is_empty() {
                blocks.remove(block);
            }
        }
    }

    /// A key has another slot now; both entries still stand.
    pub(crate) fn replace(&mut self, slab: &Slab, old: Slot, new: Slot) {
        if self.blocks.is_none() {
            return;
        }
        self.settle(slab);
        let (block, at) = self.find(slab, old);
        if let Some(blocks) = &mut self.blocks {
            blocks[block][at] = new;
        }
    }

    pub(crate) fn is_built(&self) -> bool {
        self.blocks.is_some()
    }

    /// Builds the order of all `slots`.
    pub(crate) fn build(&mut self, slab: &Slab, slots: Vec<Slot>) {
        let sorted = sort(slab, slots);
        self.blocks = Some(sorted.chunks(BLOCK / 2).map(<[Slot]>::to_vec).collect());
        self.waiting.clear();
    }

    /// Gives waiting keys their places.
    pub(crate) fn settle(&mut self, slab: &Slab) {
        let Some(blocks) = &mut self.blocks else {
            return;
        };
        let waiting = core::mem::take(&mut self.waiting);
        let held = blocks.len() * (BLOCK / 2);
        if waiting.len() > held / 8 + 64 {
            let all = blocks.iter().flatten().copied().chain(waiting).collect();
            self.build(slab, all);
            return;
        }
        for slot in waiting {
            let place = position(slab, slot);
            let block = blocks.partition_point(|block| position(slab, block[0]) < place);
            let block = block.saturating_sub(1);
            if blocks.is_empty() {
                blocks.push(Vec::new());
            }
            let target = &mut blocks[block];
            let at = target.partition_point(|slot| position(slab, *slot) < place);
            target.insert(at, slot);
            if target.len() > BLOCK {
                let upper = target.split_off(BLOCK / 2);
                blocks.insert(block + 1, upper);
            }
        }
    }

    fn find(&self, slab: &Slab, slot: Slot) -> (usize, usize) {
        let blocks = self.blocks.as_deref().unwrap_or_default();
        let place = position(slab, slot);
        let block = blocks.partition_point(|block| position(slab, block[0]) <= place) - 1;
        (
            block,
            blocks[block].partition_point(|slot| position(slab, *slot) < place),
        )
    }

    /// Up to `most` slots from a position on, or from what is `behind` it, into `out`.
    pub(crate) fn fetch(
        &self,
        slab: &Slab,
        start: Position<'_>,
        behind: bool,
        most: usize,
        out: &mut Vec<Slot>,
    ) {
        let before = |place: Position<'_>| match place.cmp(&start) {
            Ordering::Less => true,
            Ordering::Equal => behind,
            Ordering::Greater => false,
        };
        let blocks = self.blocks.as_deref().unwrap_or_default();
        let first = blocks.partition_point(|block| before(position(slab, block[0])));
        let first = first.saturating_sub(1);
        let Some(block) = blocks.get(first) else {
            return;
        };
        let skip = block.partition_point(|slot| before(position(slab, *slot)));
        out.extend(blocks[first..].iter().flatten().skip(skip).take(most));
    }
}
