//! What befalls a cluster: writers, crashes, cut links, backups, damage.

use fastrand::Rng;
use portolan_core::{Error, Key, Version};
use portolan_sim::{Dice, Shown, undo, write};

use super::{PATIENCE, World};
use crate::disk::Disk;
use crate::node::Node;

impl World {
    pub(super) fn trouble(&mut self) {
        let at = self.rng.usize(0..self.nodes.len());
        let link = self.rng.usize(0..self.links.len());
        if at >= self.residents {
            return self.visit(at);
        }
        match self.rng.u8(..) {
            0..140 => self.write(at),
            140..150 => self.undo(at),
            150..165 => {
                self.links[link].up = !self.links[link].up;
                self.say(|| {
                    format!(
                        "link {:?} up: {}",
                        self.links[link].ends, self.links[link].up
                    )
                });
                self.cut(link);
            }
            165..175 => self.cut(link),
            175..185 => drop(self.crash(at)),
            185..190 => {
                let node = &mut self.nodes[at];
                if !node.restored {
                    node.backup = node.disk.as_ref().map(Disk::synced);
                }
            }
            190..193 => self.restore(at),
            193..205 => self.compact(at),
            205..210 => {
                // Everybody on one side of a line.
                let side = self.rng.u64(..);
                self.say(|| "partition".to_owned());
                for link in 0..self.links.len() {
                    let [a, b] = self.links[link].ends;
                    self.links[link].up = (side >> a) & 1 == (side >> b) & 1;
                    if !self.links[link].up {
                        self.cut(link);
                    }
                }
            }
            210..215 => {
                for link in &mut self.links {
                    link.up = true;
                }
            }
            215..235 if self.prunes => {
                if let Some(replica) = &mut self.nodes[at].replica {
                    let all = replica.version().clone();
                    replica.prune_log(&all);
                }
            }
            235..245 => self.give_back(at),
            _ => {}
        }
    }

    pub(super) fn heal(&mut self) {
        self.say(|| "all is well again".to_owned());
        for link in &mut self.links {
            (link.up, link.lossy) = (true, false);
            link.dial_at = link.dial_at.min(self.now);
        }
        for node in &mut self.nodes {
            node.start_at = node.start_at.min(self.now);
        }
    }

    /// A transaction of a few operations, on a few keys, sometimes failing.
    fn write(&mut self, at: usize) {
        let burst = if self.rng.u8(..) < 20 {
            self.rng.usize(5..60)
        } else {
            1
        };
        for _ in 0..burst {
            self.write_once(at);
        }
    }

    fn write_once(&mut self, at: usize) {
        let (node, rng, tree) = (&mut self.nodes[at], &mut self.rng, self.tree);
        let Some(seen) = node.applied() else {
            return;
        };
        let now = self.now + node.skew;
        let Some(replica) = &mut node.replica else {
            return;
        };
        let document = replica.document();
        let (own, before) = (document.own_seq(), (document.encode(), document.digest()));
        let mut draft = self.truth.begin(document.replica(), own, seen);
        let fails = rng.u8(..) < 10;
        let outcome = replica.transact(now, |tx| {
            let mut dice = Choices(rng);
            for _ in 0..=dice.below(3) {
                write(tx, &mut dice, tree, &mut self.truth, &mut draft);
            }
            if fails { Err(()) } else { Ok(()) }
        });
        let document = replica.document();
        if outcome.is_ok() {
            let done = self.truth.commit(draft, document.own_seq());
            node.since.extend(done);
            if let Some(done) = done {
                self.say(|| format!("node {at} writes {}", self.truth.tell(done)));
            }
        } else {
            self.truth.cancel(&draft);
            let after = (document.encode(), document.digest());
            assert_eq!(after, before, "a transaction that failed leaves nothing");
        }
        self.settle(at);
    }

    /// Takes an own transaction back.
    fn undo(&mut self, at: usize) {
        let (node, rng) = (&mut self.nodes[at], &mut self.rng);
        let (Some(seen), false) = (node.applied(), node.since.is_empty()) else {
            return;
        };
        let latest = node.since.len().saturating_sub(5);
        let undone = node.since[rng.usize(latest..node.since.len())];
        let now = self.now + node.skew;
        let Some(replica) = &mut node.replica else {
            return;
        };
        let document = replica.document();
        let (id, first, last) = self.truth.operations_of(undone);
        if self.truth.is_undone(undone) || id != document.replica() {
            return;
        }
        let before = Shown::of(document);
        let mut draft = self.truth.begin(id, document.own_seq(), seen);
        if replica.undo(now, first..=last) == Err(Error::PastForgotten) {
            return;
        }
        let document = replica.document();
        let after = Shown::of(document);
        let what = (undone, node.since.as_slice());
        undo(&mut self.truth, &mut draft, what, (&before, &after));
        // Undoing it again is not for the reference to follow.
        let done = self.truth.commit(draft, document.own_seq());
        node.since.extend(done);
        if let Some(done) = done {
            self.truth.keep(done);
            self.say(|| format!("node {at} undoes {undone} by {}", self.truth.tell(done)));
        }
        self.outcome.undone += 1;
        self.settle(at);
    }

    /// False where there is nothing to crash, or somebody must first learn that it is a backup from
    /// those who know.
    fn crash(&mut self, at: usize) -> bool {
        if self.nodes[at].replica.is_none() || self.nodes.iter().any(|node| node.restored) {
            return false;
        }
        self.check_acknowledged();
        self.say(|| format!("node {at} crashes"));
        self.outcome.crashes += 1;
        for link in 0..self.links.len() {
            if self.links[link].ends.contains(&at) {
                self.cut(link);
            }
        }
        let kept = self.rng.usize(0..4);
        let start_at = self.now + self.rng.u64(1..5_000);
        let node = &mut self.nodes[at];
        node.replica = None;
        node.start_at = start_at;
        let (old, restored) = (node.id, node.restored);
        if let Some(disk) = &mut node.disk {
            disk.crash(kept);
            let last = disk.load(old).own_seq();
            // Persist before publish: nobody knows what was lost.
            for other in self.nodes.iter().filter_map(Node::document) {
                let known = other.version().last_seq(old);
                let told = known <= last || restored;
                assert!(told, "{old} told of {known} and stored {last}");
            }
        } else {
            self.nodes[at].id = self.fresh_id();
        }
        let known = self.everything_known();
        self.truth.retain_known(&known);
        true
    }

    /// The disk burns, and an old backup takes its place. Only where all others know the same of
    /// it: two replicas that meet after each has believed another half cannot be told apart.
    fn restore(&mut self, at: usize) {
        let Some(backup) = self.nodes[at].backup.clone() else {
            return;
        };
        let id = self.nodes[at].id;
        let own = Version::from_range(id, 1, u64::MAX - 1);
        let others = || {
            self.nodes
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != at)
        };
        // Who knows from his table alone how far it was says so with his hello.
        let told = |node: &Node| {
            let mut members = node.replica.as_ref()?.members(self.now);
            Some(members.find(|member| member.replica == id)?.stored)
        };
        let mut known = others().map(|(_, node)| {
            let version = node.document()?.version().intersection(&own);
            let last = version.last_seq(id).max(told(node).unwrap_or_default());
            Some((version, last))
        });
        let first: Option<(Version, u64)> = known.next().flatten();
        let stored =
            others().all(|(_, node)| node.replica.as_ref().is_some_and(|r| r.unstored() == 0));
        // What the burnt disk alone has is lost, and what others have built upon it.
        let whole = |known: &Version| match known.ranges() {
            [] => true,
            [only] => only.first == 1,
            _ => false,
        };
        if !first.as_ref().is_some_and(|(version, _)| whole(version))
            || !stored
            || known.any(|version| version != first)
        {
            return;
        }
        drop(known);
        let others_know = first;
        if self.crash(at) {
            self.say(|| format!("node {at} is restored from a backup"));
            self.outcome.backups += 1;
            let others = others_know.map_or(0, |(_, last)| last);
            self.nodes[at].restored = others > backup.load(id).own_seq();
            self.nodes[at].disk = Some(backup);
            let known = self.everything_known();
            self.truth.retain_known(&known);
        }
    }

    fn compact(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if let (Some(disk), Some(replica)) = (&mut node.disk, &node.replica)
            && disk.unsynced() == 0
            && replica.unstored() == 0
        {
            disk.write(replica.snapshot());
            disk.sync();
        }
    }

    /// What a visitor does: most leave in good order.
    fn visit(&mut self, at: usize) {
        match self.rng.u8(..) {
            0..120 => self.write(at),
            120..220 => self.give_back(at),
            _ => drop(self.crash(at)),
        }
    }

    fn give_back(&mut self, at: usize) {
        if let Some(replica) = &mut self.nodes[at].replica {
            replica.give_back();
        }
        self.settle(at);
    }

    /// Some of the nodes lose values, each others. All come back, to everybody.
    pub(super) fn damage(&mut self) {
        self.damaged = true;
        let shown = Shown::of(self.nodes[0].document().expect("all run"));
        let root = shown.values.into_keys();
        let all: Vec<Key> = root
            .filter(|(path, _)| path.is_empty())
            .map(|(_, key)| key)
            .collect();
        let mut lost: Vec<Vec<Key>> = vec![Vec::new(); self.nodes.len()];
        for key in all {
            if self.rng.u8(..) < 40 {
                let at = self.rng.usize(0..self.nodes.len());
                lost[at].push(key);
            }
        }
        for (at, lost) in lost
            .into_iter()
            .enumerate()
            .filter(|(_, lost)| !lost.is_empty())
        {
            self.say(|| format!("node {at} loses {} values", lost.len()));
            for link in 0..self.links.len() {
                if self.links[link].ends.contains(&at) {
                    self.cut(link);
                }
            }
            let id = match self.nodes[at].disk {
                Some(_) => self.nodes[at].id,
                None => self.fresh_id(),
            };
            let config = self.config.clone();
            self.nodes[at].damage(id, &lost, &config);
        }
        let deadline = self.now + PATIENCE;
        while !(self.agrees() && self.is_sound()) {
            assert!(self.now < deadline, "damage stays: {}", self.disagreement());
            self.advance(self.now + 500);
        }
        // The digests that say so are still to be exchanged.
        self.advance(self.now + 120_000);
        for _ in 0..100 {
            if self.agrees() {
                break;
            }
            self.advance(self.now + 7);
        }
        self.damaged = false;
        self.check();
    }
}

/// Decisions of the run.
struct Choices<'a>(&'a mut Rng);

impl Dice for Choices<'_> {
    fn below(&mut self, limit: usize) -> usize {
        self.0.usize(0..limit)
    }
}
