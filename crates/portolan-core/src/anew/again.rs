//! Doing again what has no place in another's state.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::image::{Image, has_applied, images_of};
use super::lost::Lost;
use crate::containers::ROOT;
use crate::document::Document;
use crate::journal::Journal;
use crate::renaming::Renaming;
use crate::replica::Dot;
use crate::sequence::Spot;
use crate::slab::Slot;
use crate::transaction::Transaction;

impl Lost {
    /// Puts the images of it into a document, and removes by an operation of its own what they are
    /// of. So does it with images that others have made of what is dead where this was. Gives each
    /// operation with its image, and each move with the one that takes its place.
    pub(super) fn restore(self, old: &Document, anew: &mut Document, now: u64) -> Vec<(Dot, Dot)> {
        let mut image = Image::of(&self, old, anew);
        anew.apply_at(now, &image.delta);
        let entries = self.entries.values().flatten();
        let mut removed: Vec<Dot> = entries.map(|entry| entry.dot).collect();
        removed.extend(self.births.values().flat_map(BTreeMap::keys));
        removed.extend(self.moves.values().flat_map(BTreeMap::values));
        removed.append(&mut image.bare);
        removed.append(&mut remove_images(old, anew));
        if removed.is_empty() {
            return image.dots;
        }
        for (id, host) in &image.dots {
            if anew.spot(*host).is_some() {
                anew.note_renaming(Renaming::one(*id, *host));
            }
        }
        let killer = Dot::new(anew.replica(), anew.own_seq() + 1);
        let mut moved = Vec::new();
        let work = |transaction: &mut Transaction<'_>| {
            transaction.next();
            let mut order = Order {
                lost: &self,
                image: &image,
                old,
                transaction,
                moved: &mut moved,
            };
            order.restore();
            Ok::<_, core::convert::Infallible>(())
        };
        let Ok(()) = anew.transact(now, work);
        let pairs: Vec<(Dot, Dot)> = removed.into_iter().map(|dot| (killer, dot)).collect();
        let live = anew.live();
        anew.log.note(&pairs, live);
        image.dots.append(&mut moved);
        image.dots
    }
}

/// Removes images that the old state does not know, of what is dead there.
fn remove_images(old: &Document, anew: &mut Document) -> Vec<Dot> {
    let mut removed: Vec<Dot> = Vec::new();
    let mut slots: Vec<Slot> = Vec::new();
    for replica in old.replicas.in_order() {
        for (image, ancestors) in images_of(anew, replica.id) {
            let Some(known) = anew.replicas.by_id(image) else {
                continue;
            };
            for (seq, slot) in known.live.range(1, u64::MAX) {
                let mut of = ancestors.iter().map(|of| Dot::new(*of, seq));
                if has_applied(old, Dot::new(image, seq)) {
                    continue;
                }
                let known = of.find(|of| has_applied(old, *of));
                if known.is_some_and(|of| !is_live(old, of)) {
                    removed.push(Dot::new(image, seq));
                    slots.push(slot);
                }
            }
        }
    }
    let mut journal = Journal::new(anew);
    anew.kill_live(slots.into_iter(), &mut journal);
    anew.settle(&mut journal);
    removed
}

fn is_live(document: &Document, dot: Dot) -> bool {
    let known = document.replicas.by_id(dot.replica);
    known.is_some_and(|known| known.live.get(dot.seq).is_some())
}

/// Brings the elements of arrays into the order that they had: each stands behind the one behind
/// which it stood.
struct Order<'a, 'd> {
    lost: &'a Lost,
    image: &'a Image,
    old: &'a Document,
    transaction: &'a mut Transaction<'d>,
    /// Moves that are done again, each with the new one.
    moved: &'a mut Vec<(Dot, Dot)>,
}

impl Order<'_, '_> {
    fn restore(&mut self) {
        let hosts: BTreeMap<Dot, Dot> = self.image.dots.iter().copied().collect();
        for (array, into) in &self.image.arrays {
            if let Some(there) = self.find(*into) {
                self.array(*array, there, &hosts);
            }
        }
    }

    /// The number of a container of the image in the document.
    fn find(&self, number: u32) -> Option<u32> {
        let Some(at) = number.checked_sub(1) else {
            return Some(ROOT);
        };
        let container = self.image.delta.containers().get(at as usize)?;
        let parent = self.find(container.parent)?;
        let containers = &self.transaction.document.containers;
        containers.find(parent, &container.key, container.form)
    }

    fn array(&mut self, array: u32, there: u32, hosts: &BTreeMap<Dot, Dot>) {
        let none = BTreeMap::new();
        let moves = self.lost.moves.get(&array).unwrap_or(&none);
        let mut order: Vec<Dot> = Vec::new();
        let from = self.lost.find(self.old, array);
        if let Some(sequence) = from.and_then(|from| self.old.sequence(from)) {
            let shown = sequence.iter(&self.old.elements, 0);
            order.extend(shown.map(|element| self.old.dot_at(element)));
        }
        let mut before: Option<Spot> = None;
        for id in order {
            let host = hosts.get(&id).copied().unwrap_or(id);
            let document = &*self.transaction.document;
            let element = document.element_in(there, host);
            let element = element.filter(|element| document.elements[*element].shown());
            let Some(element) = element else { continue };
            let index = |element| index_behind(document, there, element);
            let follows = index(Some(element)) == index(before) + 1;
            let moved = moves.get(&id).filter(|_| host == id);
            let is_new = self.image.delta.applied.contains(host);
            if moved.is_some() || is_new && !follows {
                let again = self.move_behind(element, before);
                self.moved.extend(moved.map(|moved| (*moved, again)));
            }
            before = Some(element);
        }
    }

    fn move_behind(&mut self, element: Spot, before: Option<Spot>) -> Dot {
        let document = &*self.transaction.document;
        let array = document.elements[element].array();
        let mut to = index_behind(document, array, before);
        let now = index_behind(document, array, Some(element));
        to -= usize::from(now <= to);
        let (seq, timestamp) = self.transaction.next();
        let (document, journal) = (
            &mut *self.transaction.document,
            &mut self.transaction.journal,
        );
        document.move_element(element, to, seq, timestamp, journal);
        document.settle(journal);
        Dot::new(document.replica(), seq)
    }
}

/// The index behind an element.
fn index_behind(document: &Document, array: u32, element: Option<Spot>) -> usize {
    let index = element.and_then(|element| {
        let sequence = document.sequence(array)?;
        sequence.index_of(&document.elements, element)
    });
    index.map_or(0, |index| index + 1)
}
