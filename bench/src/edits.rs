//! The input of the tasks on arrays: edits by position, and what must come of them.

use serde::{Deserialize, Serialize};

use crate::workload::Random;

/// What one place of an array holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Element {
    Integer(i64),
    Character(char),
}

/// One change of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edit {
    Append(Element),
    Insert(usize, Element),
    Delete(usize),
}

/// `n` random integers at the end, one after the other.
pub(crate) fn pushes(n: usize) -> Vec<Edit> {
    let mut random = Random::new(5);
    (0..n).map(|_| Edit::Append(integer(&mut random))).collect()
}

/// `n` random integers, each at a random place among those before it.
pub(crate) fn random_inserts(n: usize) -> Vec<Edit> {
    let mut random = Random::new(6);
    (0..n)
        .map(|length| {
            let index = random.below(length as u64 + 1) as usize;
            Edit::Insert(index, integer(&mut random))
        })
        .collect()
}

fn integer(random: &mut Random) -> Element {
    Element::Integer(random.below(1_000_000) as i64)
}

/// What an array holds after the edits.
pub(crate) fn outcome(edits: &[Edit]) -> Vec<Element> {
    let mut array = Chunked::default();
    for edit in edits {
        match *edit {
            Edit::Append(element) => array.insert(array.length, element),
            Edit::Insert(index, element) => array.insert(index, element),
            Edit::Delete(index) => array.delete(index),
        }
    }
    array.chunks.concat()
}

/// The text that the characters among the elements make.
pub(crate) fn text(elements: &[Element]) -> String {
    elements
        .iter()
        .filter_map(|element| match element {
            Element::Character(character) => Some(character),
            Element::Integer(_) => None,
        })
        .collect()
}

/// A plain array in pieces: an edit moves one piece, not all that is behind it.
#[derive(Default)]
struct Chunked {
    chunks: Vec<Vec<Element>>,
    length: usize,
}

impl Chunked {
    const FULL: usize = 512;

    fn insert(&mut self, index: usize, element: Element) {
        self.length += 1;
        if self.chunks.is_empty() {
            self.chunks.push(Vec::new());
        }
        let (place, offset) = self.place(index);
        let chunk = &mut self.chunks[place];
        chunk.insert(offset, element);
        if chunk.len() > Self::FULL {
            let half = chunk.split_off(Self::FULL / 2);
            self.chunks.insert(place + 1, half);
        }
    }

    fn delete(&mut self, index: usize) {
        self.length -= 1;
        // The element is the first behind this place; places end pieces rather than begin them.
        let (mut place, mut offset) = self.place(index);
        while offset == self.chunks[place].len() {
            (place, offset) = (place + 1, 0);
        }
        self.chunks[place].remove(offset);
    }

    /// The piece that the index falls into, and where in it.
    fn place(&self, index: usize) -> (usize, usize) {
        let mut offset = index;
        for (place, chunk) in self.chunks.iter().enumerate() {
            if offset <= chunk.len() {
                return (place, offset);
            }
            offset -= chunk.len();
        }
        // proof: an index beyond the array is a mistake of this program.
        panic!("no place has the index {index}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcome_is_that_of_a_plain_vector() {
        let mut random = Random::new(9);
        let mut edits = random_inserts(5_000);
        let mut length = edits.len();
        for _ in 0..4_000 {
            let index = random.below(length as u64) as usize;
            if random.below(3) == 0 {
                edits.push(Edit::Append(integer(&mut random)));
                length += 1;
            } else {
                edits.push(Edit::Delete(index));
                length -= 1;
            }
        }
        let mut plain = Vec::new();
        for edit in &edits {
            match *edit {
                Edit::Append(element) => plain.push(element),
                Edit::Insert(index, element) => plain.insert(index, element),
                Edit::Delete(index) => {
                    plain.remove(index);
                }
            }
        }
        assert_eq!(outcome(&edits), plain);
    }
}
