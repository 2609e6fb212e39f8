//! What each operation removed: the part of the past that a delta for an interval needs.
//!
//! A block says of a set of operations which dots they removed, together. Blocks stand in the
//! order in which this replica learned of them, and neighbours melt together as they age, so that
//! there are logarithmically many: a replica that lacks the latest operations finds them in small
//! blocks, one that lacks more is told of more dead dots than it needs, never of fewer. What is
//! dead soon lies side by side, so a key that is overwritten for ever takes no more room.
//!
//! It is enough to note a dead dot with the first operation that is known here to have removed
//! it: whoever has applied that operation knows the dot to be dead.

use alloc::vec::Vec;

use crate::few::SmallVec;

use crate::dots::DotSet;
use crate::limits::MIN_LOG_DOTS;
use crate::replica::Dot;

/// Pairs noted singly before they become a block.
const RECENT: usize = 256;

#[derive(Clone, Debug)]
struct Block {
    killers: DotSet,
    dead: DotSet,
}

impl Block {
    /// What these removed, each dead dot behind its killer.
    fn of(removed: &[(Dot, Dot)]) -> Self {
        Self {
            killers: removed.iter().map(|(killer, _)| *killer).collect(),
            dead: removed.iter().map(|(_, dead)| *dead).collect(),
        }
    }

    /// What melting it costs, and what it takes in memory.
    fn ranges(&self) -> usize {
        self.killers.ranges().len() + self.dead.ranges().len()
    }

    /// How much of the past it stands for.
    fn weight(&self) -> u64 {
        self.killers.len().saturating_add(self.dead.len())
    }
}

#[derive(Debug, Default)]
pub(crate) struct RemovalLog {
    blocks: Vec<Block>,
    /// The latest removals: who removed, what.
    recent: Vec<(Dot, Dot)>,
    /// Ranges in all blocks.
    ranges: usize,
    /// Operations of which it is not known any more what they removed.
    pruned: DotSet,
}

impl RemovalLog {
    /// Notes what one transaction removed: each dead dot with its killer. What is
    /// noted last can be told exactly, without what was removed before it.
    pub(crate) fn note(&mut self, removed: &[(Dot, Dot)], live: usize) {
        if self.recent.len() + removed.len() > RECENT {
            self.settle(live);
        }
        if removed.len() > RECENT {
            self.push(Block::of(removed), live);
        } else {
            self.recent.extend_from_slice(removed);
        }
    }

    /// Notes what a set of operations removed together.
    pub(crate) fn note_all(&mut self, killers: &DotSet, dead: DotSet, live: usize) {
        if dead.is_empty() {
            return;
        }
        let mut single = killers
            .ranges()
            .iter()
            .filter(|range| range.first == range.last);
        if let (Some(range), 1, 1..=4) = (single.next(), killers.ranges().len(), dead.len()) {
            let killer = Dot::new(range.replica, range.first);
            let removed: SmallVec<[_; 4]> = dead.iter().map(|dot| (killer, dot)).collect();
            return self.note(&removed, live);
        }
        self.settle(live);
        self.push(
            Block {
                killers: killers.clone(),
                dead,
            },
            live,
        );
    }

    fn settle(&mut self, live: usize) {
        if self.recent.is_empty() {
            return;
        }
        let block = Block::of(&self.recent);
        self.recent.clear();
        self.push(block, live);
    }

    /// Appends a block, which stands alone until the next one comes; those before it melt.
    fn push(&mut self, block: Block, live: usize) {
        let limit = live.max(MIN_LOG_DOTS);
        while let [.., older, newer] = self.blocks.as_slice()
            && older.weight() <= newer.weight().saturating_mul(2)
            && older.ranges() + newer.ranges() <= limit / 4
        {
            let merged = Block {
                killers: older.killers.union(&newer.killers),
                dead: older.dead.union(&newer.dead),
            };
            self.ranges -= older.ranges() + newer.ranges();
            self.ranges += merged.ranges();
            self.blocks.truncate(self.blocks.len() - 2);
            self.blocks.push(merged);
        }
        self.ranges += block.ranges();
        self.blocks.push(block);
        // Each range holds one dot at the least.
        while self.ranges > limit {
            let oldest = self.blocks.remove(0);
            self.ranges -= oldest.ranges();
            note_pruned(&mut self.pruned, &oldest.killers);
        }
    }

    /// Whether it says nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.recent.is_empty() && self.blocks.is_empty()
    }

    /// Drops what only operations in `stable` need.
    pub(crate) fn prune(&mut self, stable: &DotSet, live: usize) {
        self.settle(live);
        let pruned = &mut self.pruned;
        self.blocks.retain(|block| {
            let keep = !stable.covers(&block.killers);
            if !keep {
                note_pruned(pruned, &block.killers);
            }
            keep
        });
        self.ranges = self.blocks.iter().map(Block::ranges).sum();
    }

    /// What `operations` removed, or more; `None` where that is not known any more.
    pub(crate) fn removed_by(&self, operations: &DotSet) -> Option<DotSet> {
        if self.pruned.intersects(operations) {
            return None;
        }
        let recent = self
            .recent
            .iter()
            .filter(|(killer, _)| operations.contains(*killer));
        let mut dead: DotSet = recent.map(|(_, dead)| *dead).collect();
        for block in &self.blocks {
            if block.killers.intersects(operations) {
                dead.union_with(&block.dead);
            }
        }
        Some(dead)
    }

    /// Forgets that these dots were ever removed: they are about to name other operations.
    pub(crate) fn revoke(&mut self, dots: &DotSet) {
        self.recent.retain(|(_, dead)| !dots.contains(*dead));
        for block in &mut self.blocks {
            block.dead = block.dead.difference(dots);
        }
        self.ranges = self.blocks.iter().map(Block::ranges).sum();
    }
}

/// Notes that it is not known any more what these operations removed. With all before them: so the
/// set takes no more room than there are replicas, and who lacks one of these, too, has to be told
/// more than was removed.
fn note_pruned(pruned: &mut DotSet, killers: &DotSet) {
    let all = killers.ranges().chunk_by(|a, b| a.replica == b.replica);
    for last in all.filter_map(<[_]>::last) {
        pruned.insert_range(last.replica, 1, last.last);
    }
}
