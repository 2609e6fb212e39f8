//! What a replica that begins anew does again, as the reference has it: by images, each of which is
//! one operation whoever makes it, and one transaction of its own that removes what they are of.

use std::collections::{BTreeMap, BTreeSet};

use portolan_core::{Dot, Key, ReplicaId, Version};

use crate::shown::Shown;
use crate::truth::{Leaf, Seen, Transaction, Truth, Write};

impl Truth {
    /// A replica has begun anew: `again` gives the dots of elements and of what was written, each
    /// with its image, and those of moves, each with the new one. `before` is what it had applied,
    /// `seen` what it has applied now, `shown` what it shows now. Gives the number of its own
    /// transaction, if it took one.
    pub fn redo(
        &mut self,
        replica: ReplicaId,
        before: &Version,
        (seen, shown): (Seen, &Shown),
        again: &[(Dot, Dot)],
    ) -> Option<usize> {
        let (first, last) = (before.last_seq(replica) + 1, seen.version.last_seq(replica));
        let (moves, images): (Vec<_>, Vec<_>) =
            again.iter().partition(|(_, dot)| dot.replica == replica);
        let images: BTreeMap<Dot, Dot> = images.into_iter().copied().collect();
        let known_before = self.applied(&Seen {
            version: before.clone(),
            ..seen.clone()
        });
        let live_before = self.live(&known_before);
        for image in images.values() {
            self.image_transaction(*image);
        }
        let mut draft = self.begin(replica, first - 1, seen.clone());
        let is_lost = |key: &Key| matches!(key, Key::Element(id) if images.contains_key(id));
        let lost: Vec<usize> = (0..self.writes.len())
            .filter(|number| self.writes[*number].keys().any(is_lost))
            .collect();
        let gone: BTreeSet<usize> = lost.iter().copied().collect();
        self.draw(&lost, &draft.live, &images);
        if first > last {
            return None;
        }
        draft.removed = draft.live.intersection(&gone).copied().collect();
        // What was dead here before has no image that lives; and of elements that the others had
        // deleted the images are there for what is in them.
        let values = shown.values.values().flatten();
        let values: BTreeSet<Dot> = values.map(|(_, dot, _)| *dot).collect();
        let known = self.applied(&seen);
        for number in self.live(&known) {
            let is_known = |number: &usize| {
                let transaction = self.writes[*number].transaction;
                known_before.get(transaction) == Some(&true)
            };
            let image_of = |number: &usize| self.writes[*number].image_of;
            let mut line = std::iter::successors(Some(number), image_of);
            if is_known(&number) {
                continue;
            }
            let write = &self.writes[number];
            let is_bare = write.image_of.is_some_and(|of| {
                let here = images.get(&self.writes[of].dot) == Some(&write.dot);
                here && !draft.live.contains(&of) && !values.contains(&write.dot)
            });
            let ancestor = line.find(is_known);
            if is_bare || ancestor.is_some_and(|of| !live_before.contains(&of)) {
                draft.removed.push(number);
            }
        }
        let moved = |known: &&Transaction| {
            let dots = known.dots();
            !known.lost && moves.iter().any(|(moved, _)| dots.contains(*moved))
        };
        let moved = self.transactions.iter().filter(moved);
        draft.moved = moved
            .flat_map(|known| known.moved.iter().copied())
            .collect();
        draft.writes = self.writes.len();
        let done = self.commit(draft, last)?;
        self.keep(done);
        Some(done)
    }

    /// The transaction of an image, and of nothing else: it is there once, whoever made it.
    fn image_transaction(&mut self, image: Dot) -> usize {
        let mut known = self.transactions.iter_mut();
        let is_it = |known: &&mut Transaction| {
            (known.replica, known.first, known.last) == (image.replica, image.seq, image.seq)
        };
        if let Some(known) = known.find(is_it) {
            known.lost = false;
        } else {
            self.transactions.push(Transaction {
                replica: image.replica,
                first: image.seq,
                last: image.seq,
                shadow: false,
                lost: false,
                seen: Version::new(),
                removed: Vec::new(),
                appended: Vec::new(),
                moved: vec![image],
                undone: true,
            });
        }
        let mut known = self.transactions.iter();
        let is_it = |known: &Transaction| {
            (known.replica, known.first, known.last) == (image.replica, image.seq, image.seq)
        };
        known.position(is_it).expect("it is there")
    }

    /// Writes the images of writes, unless they are there.
    fn draw(&mut self, lost: &[usize], live: &BTreeSet<usize>, images: &BTreeMap<Dot, Dot>) {
        let unnamed = self.unnamed(lost, live, images);
        for number in lost {
            let write = &self.writes[*number];
            let named = match &write.leaf {
                Leaf::Key(_) => images.get(&write.dot).copied(),
                Leaf::Member(_) | Leaf::Count => unnamed.get(number).copied(),
            };
            let Some(image) = named else { continue };
            if self.has_image(*number, image.replica) {
                continue;
            }
            let mut drawn = write.clone();
            let anew = |key: &mut Key| {
                if let Key::Element(id) = key {
                    *id = images.get(id).copied().unwrap_or(*id);
                }
            };
            drawn.path.iter_mut().for_each(|(key, _)| anew(key));
            drawn.dot = image;
            match &mut drawn.leaf {
                Leaf::Key(key) => anew(key),
                Leaf::Member(_) | Leaf::Count => drawn.dot.seq = 0,
            }
            drawn.transaction = self.image_transaction(image);
            (drawn.origin, drawn.image_of) = (self.writes.len(), Some(*number));
            self.writes.push(drawn);
        }
    }

    fn has_image(&self, number: usize, replica: ReplicaId) -> bool {
        let is_it = |write: &Write| write.image_of == Some(number) && write.dot.replica == replica;
        self.writes.iter().any(is_it)
    }

    /// The images of members and additions, which have names of their own nowhere: those of their
    /// transactions that nothing else is named by, in order. All that a replica has added in one
    /// go has the image of the last.
    fn unnamed(
        &self,
        lost: &[usize],
        live: &BTreeSet<usize>,
        images: &BTreeMap<Dot, Dot>,
    ) -> BTreeMap<usize, Dot> {
        let named: BTreeSet<Dot> = self.writes.iter().map(|write| write.dot).collect();
        let lost = lost.iter().copied().filter(|number| live.contains(number));
        let group = |number: usize| {
            let write = &self.writes[number];
            (write.path.clone(), write.dot.replica, write.loaded)
        };
        let mut sums: Vec<(_, Vec<usize>)> = Vec::new();
        let mut of: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for number in lost {
            match self.writes[number].leaf {
                Leaf::Key(_) => {}
                Leaf::Member(_) => {
                    let transaction = self.writes[number].transaction;
                    of.entry(transaction).or_default().push(number);
                }
                Leaf::Count => {
                    let group = group(number);
                    match sums.iter_mut().find(|(other, _)| *other == group) {
                        Some((_, all)) => all.push(number),
                        None => sums.push((group, vec![number])),
                    }
                }
            }
        }
        for (_, all) in &sums {
            let last = *all.last().expect("one at the least");
            of.entry(self.writes[last].transaction)
                .or_default()
                .push(last);
        }
        let mut found = BTreeMap::new();
        for (transaction, mut writes) in of {
            writes.sort_unstable();
            let dots = self.transactions[transaction].dots();
            let within = images
                .iter()
                .filter(|(dot, _)| dots.contains(**dot) && !named.contains(dot));
            let within: Vec<Dot> = within.map(|(_, image)| *image).collect();
            for (at, number) in writes.into_iter().enumerate() {
                if let Some(image) = within.get(at).or(within.last()) {
                    found.insert(number, *image);
                }
            }
        }
        for (_, all) in sums {
            if let Some(image) = all.last().and_then(|last| found.get(last)).copied() {
                found.extend(all.into_iter().map(|number| (number, image)));
            }
        }
        found
    }
}
