//! Sorting texts by a word of each: the eight bytes behind the beginning that all share.
//!
//! Keys of a map are alike at their beginnings and differ soon behind, so words settle nearly
//! every comparison, and are sorted without reading texts again.

use alloc::vec::Vec;
use core::cmp::Ordering;

use crate::sorting::sort_by;

/// Texts with what they stand for, each as a word.
#[derive(Debug)]
pub(crate) struct Words<'a, T> {
    first: &'a [u8],
    /// How many bytes all texts begin with, as the first does.
    shared: usize,
    items: Vec<(u64, T)>,
}

/// Fewer than these are sorted by comparing.
const FEW: usize = 256;

impl<'a, T: Copy> Words<'a, T> {
    /// No texts so far, of `count` that will come; `first` is one of them.
    pub(crate) fn with_first(first: &'a [u8], count: usize) -> Self {
        Self {
            first,
            shared: first.len(),
            items: Vec::with_capacity(count),
        }
    }

    #[inline]
    pub(crate) fn push(&mut self, text: &[u8], item: T) {
        if !self.begins_like_all(text) {
            self.share_less(text);
        }
        self.items.push((word(text, self.shared), item));
    }

    #[inline]
    fn begins_like_all(&self, text: &[u8]) -> bool {
        match (self.first.first_chunk::<8>(), text.first_chunk::<8>()) {
            (Some(first), Some(start)) if self.shared < 8 => {
                let differing = u64::from_le_bytes(*first) ^ u64::from_le_bytes(*start);
                differing.trailing_zeros() as usize / 8 >= self.shared
            }
            _ => text.starts_with(&self.first[..self.shared]),
        }
    }

    /// Costs the texts so far, of which each is longer than what is given up: in all no more than
    /// the bytes of the texts.
    #[cold]
    fn share_less(&mut self, text: &[u8]) {
        let pairs = self.first[..self.shared].iter().zip(text);
        let shared = pairs.take_while(|(a, b)| a == b).count();
        let lost = self.shared - shared;
        let front = word(&self.first[..self.shared], shared);
        for (word, _) in &mut self.items {
            let behind = word.checked_shr(lost as u32 * 8).unwrap_or(0);
            *word = front | behind;
        }
        self.shared = shared;
    }

    /// How many bytes all texts begin with.
    pub(crate) fn shared(&self) -> usize {
        self.shared
    }

    /// The items in the order of their texts, each with its word. Where words do not tell two
    /// apart, `settle` does.
    pub(crate) fn sorted(self, mut settle: impl FnMut(&T, &T) -> Ordering) -> Vec<(u64, T)> {
        let mut items = self.items;
        if items.len() < FEW {
            sort_by(&mut items, |(a, _), (b, _)| a.cmp(b));
        } else {
            items = by_digits(items);
        }
        for alike in items.chunk_by_mut(|(a, _), (b, _)| a == b) {
            if alike.len() > 1 {
                sort_by(alike, |(_, a), (_, b)| settle(a, b));
            }
        }
        items
    }
}

/// The eight bytes of a text from `start`, zeros behind its end, as a number that sorts as they do.
#[inline]
fn word(text: &[u8], start: usize) -> u64 {
    let rest = &text[start..];
    if let Some(all) = rest.first_chunk() {
        return u64::from_be_bytes(*all);
    }
    if let Some(last) = text.last_chunk() {
        let last = u64::from_be_bytes(*last);
        return last.checked_shl((8 - rest.len() as u32) * 8).unwrap_or(0);
    }
    let mut bytes = [0; 8];
    bytes[..rest.len()].copy_from_slice(rest);
    u64::from_be_bytes(bytes)
}

/// Sorts by the bytes of the words, the last first, leaving out those in which no two differ.
fn by_digits<T: Copy>(mut items: Vec<(u64, T)>) -> Vec<(u64, T)> {
    let Some((first, _)) = items.first().copied() else {
        return items;
    };
    let mut counts = [[0u32; 256]; 8];
    for (word, _) in &items {
        for (count, digit) in counts.iter_mut().zip(word.to_le_bytes()) {
            count[usize::from(digit)] += 1;
        }
    }
    let mut other = items.clone();
    for (at, (count, digit)) in counts.iter_mut().zip(first.to_le_bytes()).enumerate() {
        if count[usize::from(digit)] as usize == items.len() {
            continue;
        }
        let mut place = 0;
        for digit in count.iter_mut() {
            place += core::mem::replace(digit, place);
        }
        for item in &items {
            let place = &mut count[usize::from(item.0.to_le_bytes()[at])];
            other[*place as usize] = *item;
            *place += 1;
        }
        core::mem::swap(&mut items, &mut other);
    }
    items
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let text = prop::collection::vec(prop::sample::select(vec![0, b'a', b'b', 0xff]), 0..14);
        let start = prop::collection::vec(Just(b'a'), 0..12);
        (start, prop::collection::vec(text, 1..400)).prop_map(|(start, texts)| {
            let texts = texts.into_iter();
            texts.map(|text| [&start[..], &text].concat()).collect()
        })
    }

    proptest! {
        #[test]
        fn texts_are_sorted_as_they_compare(texts in texts()) {
            let mut words = Words::with_first(&texts[0], texts.len());
            for (at, text) in texts.iter().enumerate() {
                words.push(text, at);
            }
            let shared = words.shared();
            let sorted = words.sorted(|a, b| texts[*a].cmp(&texts[*b]));
            let got: Vec<&[u8]> = sorted.iter().map(|(_, at)| texts[*at].as_slice()).collect();
            let mut want: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
            want.sort_unstable();
            prop_assert_eq!(got, want);
            for (number, at) in sorted {
                let mut bytes = texts[at][shared..].to_vec();
                bytes.resize(bytes.len().max(8), 0);
                prop_assert_eq!(&number.to_be_bytes()[..], &bytes[..8]);
            }
        }
    }
}
