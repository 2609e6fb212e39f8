//! The tree of containers: what can stand under a key beside its values.
//!
//! A container is named by its path and kind alone, so two replicas that write into the same path
//! write into the same container. It shows as long as something is in it, and nothing is left of
//! it afterwards.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
#[cfg(any(test, feature = "small"))]
use core::cmp::Ordering;

use crate::hashing::xxh3_128_with_seed;

use crate::codec::put_key;
use crate::counters::is_count;
use crate::key::Key;
use crate::replica::Dot;
use crate::sequence::Sequence;
use crate::sets::is_member;
use crate::slab::{NONE, Slot};
use crate::table::Table;
use crate::value::Value;

/// The container that is the document's root.
pub(crate) const ROOT: u32 = 0;

/// The kinds of containers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// A map.
    Map,
    /// A replicated growable array.
    Array,
    /// An observed-remove set.
    Set,
    /// A counter.
    Counter,
}

/// What a container is: one of the kinds, or the places that elements of an array moved to, which
/// stand beside the array under the same key. The numbers are those of the format.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Form {
    Map = 1,
    Array = 2,
    Set = 3,
    Counter = 4,
    Moves = 5,
}

impl Form {
    pub(crate) fn from_code(code: u8) -> Option<Self> {
        let all = [
            Self::Map,
            Self::Array,
            Self::Set,
            Self::Counter,
            Self::Moves,
        ];
        all.into_iter().find(|form| *form as u8 == code)
    }

    /// Whether such an entry can stand in it.
    pub(crate) fn may_hold(self, key: &Key, value: &Value) -> bool {
        let element = matches!(key, Key::Element(_));
        match self {
            Self::Map => !element,
            Self::Array => element,
            Self::Set => !element && *value == Value::Null && is_member(key),
            Self::Moves => element && *value == Value::Null,
            Self::Counter => element && is_count(value),
        }
    }

    /// Whether a value in it is part of what replicas of one version hold alike: moves and resets
    /// go when they are stable, which each replica finds out for itself.
    pub(crate) fn keeps(self, value: &Value) -> bool {
        match self {
            Self::Moves => false,
            Self::Counter => matches!(value, Value::Int(_)),
            _ => true,
        }
    }
}

impl From<Kind> for Form {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Map => Self::Map,
            Kind::Array => Self::Array,
            Kind::Set => Self::Set,
            Kind::Counter => Self::Counter,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) parent: u32,
    pub(crate) key: Key,
    pub(crate) form: Form,
    /// Stands for the path in fingerprints; 0 for the root.
    pub(crate) print: u128,
    /// Where it is in the index.
    hash: u64,
    /// Keys of a map or set, live additions of a counter. An array counts for itself.
    pub(crate) items: u32,
    /// What needs this record: operations and positions in it, containers beneath it.
    pub(crate) records: u32,
    /// Where it stands among the siblings of its key; `NONE` while nothing shows in it.
    pub(crate) holder: Slot,
    pub(crate) sequence: Option<Box<Sequence>>,
    /// Of an array: elements under whose id something stands.
    pub(crate) written: u32,
    /// Of a counter: its epochs, sorted.
    pub(crate) epochs: Vec<Dot>,
}

/// All containers of a document, each by a number.
#[derive(Debug)]
pub(crate) struct Containers {
    table: Vec<Option<Container>>,
    vacant: Vec<u32>,
    /// By hashes that nobody outside can foresee.
    index: Table,
    hash_seed: u64,
    /// Those that may have become superfluous.
    emptied: Vec<u32>,
    /// Levels beneath the root, for each.
    depths: Vec<u8>,
    /// How many hold the moves of an array.
    moves: usize,
}

impl Containers {
    /// The root alone. The seed keeps others from choosing keys that collide in the index.
    pub(crate) fn new(hash_seed: u64) -> Self {
        let root = Container {
            parent: ROOT,
            key: Key::Bool(false),
            form: Form::Map,
            print: 0,
            hash: 0,
            items: 0,
            written: 0,
            records: 0,
            holder: NONE,
            sequence: None,
            epochs: Vec::new(),
        };
        Self {
            table: vec![Some(root)],
            vacant: Vec::new(),
            index: Table::default(),
            hash_seed,
            emptied: Vec::new(),
            depths: vec![0],
            moves: 0,
        }
    }

    #[inline]
    pub(crate) fn get(&self, number: u32) -> &Container {
        // proof: numbers are given out by `intern`, and taken back when nothing has them any more.
        self.table[number as usize].as_ref().expect("a container")
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, number: u32) -> &mut Container {
        // proof: as above.
        self.table[number as usize].as_mut().expect("a container")
    }

    /// Whether there is none but the root.
    #[inline]
    pub(crate) fn is_flat(&self) -> bool {
        self.index.is_empty()
    }

    /// Levels between the root and a container: 1 for those right beneath it.
    pub(crate) fn depth(&self, number: u32) -> usize {
        usize::from(self.depths[number as usize])
    }

    pub(crate) fn find(&self, parent: u32, key: &Key, form: Form) -> Option<u32> {
        if self.is_flat() {
            return None;
        }
        let hash = self.hash(parent, key, form);
        self.index
            .find(hash, Asked::of(&self.table, parent, key, form))
    }

    fn hash(&self, parent: u32, key: &Key, form: Form) -> u64 {
        let seed = self.hash_seed.wrapping_add(form as u64);
        Table::hash(seed, parent, key.borrowed())
    }

    /// The number of a container, known or new.
    pub(crate) fn intern(&mut self, parent: u32, key: &Key, form: Form) -> u32 {
        let hash = self.hash(parent, key, form);
        let asked = Asked::of(&self.table, parent, key, form);
        let found = self.index.find(hash, asked);
        if let Some(number) = found {
            return number;
        }
        let fresh = Container {
            parent,
            key: key.clone(),
            form,
            print: print(self.get(parent).print, key, form),
            hash,
            items: 0,
            written: 0,
            records: 0,
            holder: NONE,
            sequence: (form == Form::Array).then(Box::default),
            epochs: Vec::new(),
        };
        let depth = self.depths[parent as usize].saturating_add(1);
        let number = if let Some(number) = self.vacant.pop() {
            self.table[number as usize] = Some(fresh);
            self.depths[number as usize] = depth;
            number
        } else {
            self.table.push(Some(fresh));
            self.depths.push(depth);
            (self.table.len() - 1) as u32
        };
        let table = &self.table;
        let asked = Asked::of(table, parent, key, form);
        let rehash = |number: u32| {
            let known = table[number as usize].as_ref();
            known.map_or(0, |known| known.hash)
        };
        self.index.insert(hash, number, asked, rehash);
        self.get_mut(parent).records += 1;
        self.moves += usize::from(form == Form::Moves);
        self.emptied.push(number);
        number
    }

    /// Whether an element of any array has moved.
    #[inline]
    pub(crate) fn have_moves(&self) -> bool {
        self.moves > 0
    }

    /// One more thing needs the record.
    #[inline]
    pub(crate) fn retain(&mut self, number: u32) {
        self.get_mut(number).records += 1;
    }

    /// One thing less needs the record.
    #[inline]
    pub(crate) fn release(&mut self, number: u32) {
        let known = self.get_mut(number);
        known.records -= 1;
        if known.records == 0 && number != ROOT {
            self.emptied.push(number);
        }
    }

    /// The record may be superfluous.
    pub(crate) fn offer(&mut self, number: u32) {
        if self.get(number).records == 0 {
            self.emptied.push(number);
        }
    }

    /// Drops the records that nothing needs any more. Nobody may hold a number meanwhile.
    #[inline]
    pub(crate) fn sweep(&mut self) {
        if !self.emptied.is_empty() {
            self.sweep_emptied();
        }
    }

    fn sweep_emptied(&mut self) {
        while let Some(number) = self.emptied.pop() {
            let Some(known) = &self.table[number as usize] else {
                continue;
            };
            if known.records > 0 || known.holder != NONE {
                continue;
            }
            let (hash, parent) = (known.hash, known.parent);
            let asked = Asked::of(&self.table, parent, &known.key, known.form);
            self.index.remove(hash, asked);
            self.moves -= usize::from(known.form == Form::Moves);
            self.table[number as usize] = None;
            self.vacant.push(number);
            self.release(parent);
        }
        if self.emptied.capacity() > 1024 {
            self.emptied.shrink_to(64);
        }
    }

    /// The keys from the root to the container.
    pub(crate) fn path(&self, number: u32) -> Vec<Key> {
        let mut path = Vec::with_capacity(self.depth(number) + 1);
        let mut at = number;
        while at != ROOT {
            let known = self.get(at);
            path.push(known.key.clone());
            at = known.parent;
        }
        path.reverse();
        path
    }
}

/// What names the container that is asked for, beside all there are.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    table: &'a [Option<Container>],
    name: (u32, Form, &'a Key),
}

impl<'a> Asked<'a> {
    fn of(table: &'a [Option<Container>], parent: u32, key: &'a Key, form: Form) -> Self {
        let name = (parent, form, key);
        Self { table, name }
    }

    fn name_of(&self, number: u32) -> Option<(u32, Form, &Key)> {
        let known = self.table[number as usize].as_ref()?;
        Some((known.parent, known.form, &known.key))
    }

    /// Whether the container of a number is it.
    #[inline]
    #[cfg(not(feature = "small"))]
    pub(crate) fn is(&self, number: u32) -> bool {
        self.name_of(number) == Some(self.name)
    }

    /// How the container of a number compares to it.
    #[cfg(any(test, feature = "small"))]
    pub(crate) fn compare(&self, number: u32) -> Ordering {
        self.name_of(number).cmp(&Some(self.name))
    }
}

/// What stands for a path in hashes: of the parent's, the key and the form.
fn print(parent: u128, key: &Key, form: Form) -> u128 {
    if !crate::DIGEST {
        return 0;
    }
    let mut bytes = Vec::with_capacity(48);
    bytes.extend_from_slice(&parent.to_le_bytes());
    bytes.push(form as u8);
    put_key(&mut bytes, key);
    xxh3_128_with_seed(&bytes, 1)
}
