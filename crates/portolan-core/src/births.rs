//! The values that elements of arrays were born with, as live operations, and their fingerprints.
//!
//! Those of a large delta or transaction are not taken with it, but when somebody asks for the
//! digest, or one of the values goes: most of what is loaded is read long before it is compared.

use alloc::vec::Vec;

use crate::hashing::xxh3_128;

use crate::codec::{ELEMENT, STR, put_key, put_value};
use crate::containers::Containers;
use crate::document::Document;
use crate::journal::Journal;
use crate::key::Key;
use crate::replica::{Dot, ReplicaId};
use crate::sequence::{Position, Spot};
use crate::slab::BIRTH;
use crate::value::Value;

impl Document {
    /// Notes positions with consecutive sequence numbers, and adds the values that elements were
    /// born with to what is live. How many there are of these. Where their fingerprints may come
    /// `later`, they are taken when somebody asks.
    pub(crate) fn note_births(
        &mut self,
        replica: u32,
        first: u64,
        spots: &[Spot],
        later: bool,
    ) -> u64 {
        let known = self.replicas.get_mut(replica);
        let placed = spots.iter().map(|spot| Some((*spot, 0)));
        known.placed.insert_run(first, placed);
        let (mut live, mut digest) = (0, self.digest);
        let (elements, containers) = (&self.elements, &self.containers);
        let (scratch, unhashed) = (&mut self.scratch, &mut self.unhashed);
        let births = spots.iter().map(|spot| {
            let element = &elements[*spot];
            element.born()?;
            live += 1;
            if later {
                unhashed.push(*spot);
                return Some((BIRTH | *spot, 0));
            }
            let print = birth_fingerprint(scratch, known.id, containers, element);
            digest = digest.wrapping_add(print);
            Some((BIRTH | *spot, print))
        });
        known.live.insert_run(first, births);
        self.digest = digest;
        self.live += live as usize;
        live
    }

    /// Takes the fingerprints that were to come later. Linear in their number.
    #[cfg(not(feature = "small"))]
    pub(crate) fn hash_births(&mut self) {
        let unhashed = core::mem::take(&mut self.unhashed);
        let (elements, containers) = (&self.elements, &self.containers);
        let replica = |spot: &Spot| elements[*spot].replica();
        for run in unhashed.chunk_by(|a, b| replica(a) == replica(b)) {
            let known = self.replicas.get_mut(replica(&run[0]));
            let prints = run.iter().map(|spot| {
                let element = &elements[*spot];
                let print = birth_fingerprint(&mut self.scratch, known.id, containers, element);
                self.digest = self.digest.wrapping_add(print);
                (element.seq(), print)
            });
            known.live.add_prints(prints);
        }
    }

    /// Runs are placed one by one there, each with its fingerprint.
    #[cfg(feature = "small")]
    #[allow(clippy::unused_self)] // as above
    pub(crate) fn hash_births(&mut self) {}

    /// The sum of the fingerprints that are to come later.
    pub(crate) fn unhashed_sum(&self) -> u128 {
        let mut scratch = Vec::new();
        let prints = self.unhashed.iter().map(|spot| {
            let element = &self.elements[*spot];
            let id = self.replicas.get(element.replica()).id;
            birth_fingerprint(&mut scratch, id, &self.containers, element)
        });
        prints.fold(0, u128::wrapping_add)
    }

    /// The fingerprint of the value that an element was born with.
    fn birth_print(&mut self, spot: Spot) -> u128 {
        let element = &self.elements[spot];
        let id = self.replicas.get(element.replica()).id;
        birth_fingerprint(&mut self.scratch, id, &self.containers, element)
    }

    /// Adds the value that an element was born with to what is live.
    pub(crate) fn note_birth(&mut self, spot: Spot) {
        let print = self.birth_print(spot);
        self.digest = self.digest.wrapping_add(print);
        let element = &self.elements[spot];
        let known = self.replicas.get_mut(element.replica());
        known.live.insert(element.seq(), BIRTH | spot, print);
    }

    /// As [`note_birth`](Self::note_birth), the fingerprint to come later.
    pub(crate) fn note_unhashed(&mut self, spot: Spot) {
        self.unhashed.push(spot);
        let element = &self.elements[spot];
        let known = self.replicas.get_mut(element.replica());
        known.live.insert(element.seq(), BIRTH | spot, 0);
    }

    /// Whether fingerprints of own births from `seq` on may come later: where the transaction is
    /// large. Those that came before it are taken by then, so that whoever asks for the digest
    /// after each of many transactions has each counted a few times.
    pub(crate) fn may_hash_later(&mut self, seq: u64) -> bool {
        let done = self.own_seq();
        if crate::SMALL || seq - done <= LARGE as u64 {
            return false;
        }
        let before = |spot: &Spot| {
            let element = &self.elements[*spot];
            element.replica() != self.own || element.seq() <= done
        };
        if self.unhashed.last().is_some_and(before) {
            self.hash_births();
        }
        true
    }

    /// Takes the value away that an element was born with.
    pub(crate) fn kill_birth(&mut self, spot: Spot, killer: u64, journal: &mut Journal) {
        self.hash_births();
        let print = self.birth_print(spot);
        self.digest = self.digest.wrapping_sub(print);
        self.live -= 1;
        let element = &mut self.elements[spot];
        let (replica, seq) = (element.replica(), element.seq());
        let value = element.born().cloned();
        element.bury();
        self.replicas.get_mut(replica).live.remove(seq, print);
        let dot = self.dot_at(spot);
        self.unsettled.elements.push(dot);
        journal
            .births
            .extend(value.map(|value| (killer, spot, value)));
    }

    /// Gives an element the value back that it was born with.
    pub(crate) fn revive_birth(&mut self, spot: Spot) {
        self.elements[spot].revive();
        self.live += 1;
        self.note_birth(spot);
        let dot = self.dot_at(spot);
        self.unsettled.elements.push(dot);
    }
}

/// Positions of a delta, and operations of a transaction, from which on fingerprints are taken
/// when they are needed: of fewer it is not worth remembering.
pub(crate) const LARGE: usize = 1024;

/// The longest text whose fingerprint is taken of bytes in place.
const SMALL_TEXT: usize = 23;
/// The room that these take: 24 before the key, at most 19 of it, two before the text, 16 behind.
const SMALL_PRINT: usize = 24 + 19 + 2 + SMALL_TEXT + 16;

/// As [`fingerprint`](crate::registers::fingerprint), of the value that an element was born with.
pub(crate) fn birth_fingerprint(
    scratch: &mut Vec<u8>,
    replica: ReplicaId,
    containers: &Containers,
    element: &Position,
) -> u128 {
    if !crate::DIGEST {
        return 0;
    }
    let Some(value) = element.born() else {
        return 0;
    };
    let time = element.timestamp().bits();
    let head = [replica.get(), element.seq(), time].map(u64::to_le_bytes);
    let path = containers.get(element.array()).print.to_le_bytes();
    // Most elements are small, and very many: their bytes are put together in place.
    if let Value::Str(text) = value
        && text.len() <= SMALL_TEXT
        && !crate::SMALL
    {
        let mut bytes = [0; SMALL_PRINT];
        bytes[..24].copy_from_slice(head.as_flattened());
        bytes[24] = ELEMENT;
        bytes[25..33].copy_from_slice(&head[0]);
        let (mut end, mut seq) = (33, element.seq());
        while seq >= 0x80 {
            bytes[end] = seq as u8 | 0x80;
            (end, seq) = (end + 1, seq >> 7);
        }
        bytes[end..end + 3].copy_from_slice(&[seq as u8, STR, text.len() as u8]);
        end += 3;
        bytes[end..end + text.len()].copy_from_slice(text.as_bytes());
        end += text.len();
        bytes[end..end + 16].copy_from_slice(&path);
        return xxh3_128(&bytes[..end + 16]);
    }
    scratch.clear();
    scratch.extend_from_slice(head.as_flattened());
    put_key(scratch, &Key::Element(Dot::new(replica, element.seq())));
    put_value(scratch, value);
    scratch.extend_from_slice(&path);
    xxh3_128(scratch)
}

#[cfg(all(test, feature = "digest"))]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::containers::ROOT;
    use crate::sequence::{Birth, Elements};

    #[test]
    fn fingerprints_of_elements_are_the_hashes_of_their_bytes() {
        let mut elements = Elements::default();
        let (containers, id) = (Containers::new(0), ReplicaId::new(0x0123_4567_89ab_cdef));
        for length in 0..40 {
            for seq in [1, 127, 128, 300_000, u64::MAX - 1] {
                let birth = Birth {
                    replica: 0,
                    id,
                    seq,
                    timestamp: Timestamp::from_bits(seq ^ 0x5555),
                };
                let value = Value::from("é".repeat(20)[..length / 2 * 2].to_owned());
                let spot = elements.add(ROOT, birth, Some(value.clone()), None);
                let mut bytes = [id.get(), seq, seq ^ 0x5555].map(u64::to_le_bytes).concat();
                put_key(&mut bytes, &Key::Element(Dot::new(id, seq)));
                put_value(&mut bytes, &value);
                bytes.extend(containers.get(ROOT).print.to_le_bytes());
                let print = birth_fingerprint(&mut Vec::new(), id, &containers, &elements[spot]);
                assert_eq!(print, xxh3_128(&bytes));
            }
        }
    }

    #[cfg(not(feature = "small"))] // where they come at once
    #[test]
    fn fingerprints_that_come_later_are_those_taken_at_once() {
        use crate::dots::DotRange;
        use crate::reconcile::Holdings;

        let mut writer = Document::new(ReplicaId::new(1));
        let inserted = |writer: &mut Document, from: usize, to: usize| {
            let done = writer.transact(1, |tx| {
                let mut list = tx.array("l");
                (from..to).try_for_each(|at| {
                    let inserted = list.insert(at * 7 % (at + 1), Value::from(at as i64 % 10));
                    inserted.map(drop)
                })
            });
            done.expect("within limits");
        };
        // In one transaction, in two large ones, and in small ones.
        inserted(&mut writer, 0, 3000);
        assert!(writer.unhashed.len() > 1900);
        for steps in [1500, 100] {
            let mut other = Document::new(ReplicaId::new(1));
            for from in (0..3000).step_by(steps) {
                inserted(&mut other, from, from + steps);
            }
            assert!(other.unhashed.len() < 500);
            let told = other.digest();
            other.hash_births();
            assert_eq!(other.digest(), told);
            assert!(!other.recount());
        }
        // What is taken back leaves nothing.
        let before = writer.digest();
        let failed = writer.transact(2, |tx| {
            let mut list = tx.array("l");
            (0..2000).try_for_each(|at| list.append(Value::from(at)).map(drop))?;
            list.delete(100_000)
        });
        assert!(failed.is_err());
        assert_eq!(writer.digest(), before);
        assert!(!writer.recount());
        let done = writer.transact(3, |tx| {
            (0..500).try_for_each(|at| tx.array("l").delete(at * 3))
        });
        done.expect("within limits");
        let mut copy = Document::new(ReplicaId::new(2));
        copy.apply(&writer.snapshot());
        assert!(copy.unhashed.len() > 2000);
        let tallies = |document: &Document| {
            let ranges = [(1, 3500), (1, 1), (40, 900), (513, 1536), (2990, 3500)];
            ranges.map(|(first, last)| {
                let replica = ReplicaId::new(1);
                document.tally(DotRange {
                    replica,
                    first,
                    last,
                })
            })
        };
        assert_eq!(copy.digest(), writer.digest());
        assert_eq!(tallies(&copy), tallies(&writer));
        let mut asked = Document::new(ReplicaId::new(3));
        asked.apply(&copy.snapshot());
        asked.hash_births();
        assert_eq!(asked.digest(), writer.digest());
        assert_eq!(tallies(&asked), tallies(&writer));
        assert!(!asked.recount());
        // One that goes takes its fingerprint with it.
        let done = copy.transact(2, |tx| {
            tx.array("l").append("more")?;
            tx.array("l").delete(7)
        });
        done.expect("within limits");
        writer.apply(&copy.delta_since(&writer.version()));
        assert_eq!(copy.digest(), writer.digest());
        assert_eq!(tallies(&copy), tallies(&writer));
        assert!(!copy.recount() && !writer.recount());
    }
}
