//! Keys in columns: each told by what it has beyond the beginning that it shares with the one
//! before.

use alloc::vec::Vec;

use smol_str::SmolStr;

use crate::codec::{Reader, put_varint, put_word};
use crate::error::Fault;
use crate::few::SmallVec;
use crate::key::Key;
use crate::limits::MAX_KEY_BYTES;
use crate::replica::{Dot, ReplicaId};

/// The kind of a key in the front-coded column; ascending as kinds sort.
const KEY_FALSE: u8 = 1;
const KEY_TRUE: u8 = 2;
const KEY_INT: u8 = 3;
const KEY_STR: u8 = 5;
const KEY_BYTES: u8 = 6;
const KEY_ELEMENT: u8 = 9;

/// Where the content of a key is put that does not lie in it as bytes.
pub(crate) type Room = [u8; 16];

/// The bytes that stand for a key: its kind, then its content; they sort as keys do.
#[inline]
fn sort_bytes<'a>(key: &'a Key, room: &'a mut Room) -> (u8, &'a [u8]) {
    match key {
        Key::Bool(false) => (KEY_FALSE, &[]),
        Key::Bool(true) => (KEY_TRUE, &[]),
        Key::Int(i) => {
            room[..8].copy_from_slice(&(*i as u64 ^ (1 << 63)).to_be_bytes());
            (KEY_INT, &room[..8])
        }
        Key::Str(s) => (KEY_STR, s.as_bytes()),
        Key::Bytes(b) => (KEY_BYTES, b),
        Key::Element(id) => {
            let id = u128::from(id.replica.get()) << 64 | u128::from(id.seq);
            *room = id.to_be_bytes();
            (KEY_ELEMENT, room)
        }
    }
}

/// Lengths up to 14 share a byte; 15 says that the length follows.
pub(crate) const LONG: usize = 15;

/// Most sort bytes that two different keys share: a few bytes of a delta must not stand for
/// kilobytes of keys.
pub(crate) const MAX_SHARED_BYTES: usize = 128;

/// Appends what a key has beyond the beginning it shares with the one before: a byte with both
/// lengths, or 15 and the length, then the bytes. The kind of the key counts as its first byte.
#[inline]
pub(crate) fn put_front_coded(out: &mut Vec<u8>, before: Option<&Key>, key: &Key) {
    let mut room = Room::default();
    let start = Start::of(before, key, &mut room);
    put_sort_bytes(out, start.shared, start.kind, start.text);
}

/// A key beside the one before it.
pub(crate) struct Start<'a> {
    pub(crate) kind: u8,
    /// Its other sort bytes.
    pub(crate) text: &'a [u8],
    /// How many of all these it shares with the key before.
    pub(crate) shared: usize,
    /// What that has behind them, 0 where it ends.
    pub(crate) replaced: u8,
}

impl<'a> Start<'a> {
    #[inline]
    pub(crate) fn of(before: Option<&Key>, key: &'a Key, room: &'a mut Room) -> Self {
        let (kind, text) = sort_bytes(key, room);
        let (mut shared, mut replaced) = (0, 0);
        if let Some(before) = before {
            let mut room = Room::default();
            let (kind_before, text_before) = sort_bytes(before, &mut room);
            replaced = kind_before;
            if kind == kind_before {
                shared = 1 + common_prefix(text_before, text);
                let same = shared == 1 + text.len() && text.len() == text_before.len();
                if !same {
                    shared = shared.min(MAX_SHARED_BYTES);
                }
                replaced = text_before.get(shared - 1).copied().unwrap_or(0);
            }
        }
        Self {
            kind,
            text,
            shared,
            replaced,
        }
    }
}

/// As [`put_front_coded`], for a text of which the first `shared` bytes are those of the text
/// before, and the `own` others, eight at the most, the first of `end`, a big-endian number.
#[inline]
pub(crate) fn put_text_end(out: &mut Vec<u8>, shared: usize, end: u64, own: usize) {
    let shared = 1 + shared;
    debug_assert!(own <= 8 && (shared <= MAX_SHARED_BYTES || own == 0));
    if shared < LONG && own < 8 {
        let lengths = (shared << 4 | own) as u64;
        put_word(out, end.swap_bytes() << 8 | lengths, own + 1);
        return;
    }
    put_lengths(out, shared, own);
    put_word(out, end.swap_bytes(), own);
}

#[inline]
fn put_sort_bytes(out: &mut Vec<u8>, shared: usize, kind: u8, text: &[u8]) {
    let own = 1 + text.len() - shared;
    put_lengths(out, shared, own);
    if shared == 0 {
        out.push(kind);
        out.extend_from_slice(text);
        return;
    }
    match text.last_chunk::<8>() {
        Some(last) if (1..=8).contains(&own) => {
            put_word(out, u64::from_le_bytes(*last) >> ((8 - own) * 8), own);
        }
        _ => out.extend_from_slice(&text[shared - 1..]),
    }
}

#[inline]
fn put_lengths(out: &mut Vec<u8>, shared: usize, own: usize) {
    out.push((shared.min(LONG) << 4 | own.min(LONG)) as u8);
    for length in [shared, own] {
        if length >= LONG {
            put_varint(out, (length - LONG) as u64);
        }
    }
}

#[inline]
fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let words = a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0);
    let mut shared = 0;
    for (x, y) in words {
        let differing = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if differing != 0 {
            return shared + (differing.trailing_zeros() / 8) as usize;
        }
        shared += 8;
    }
    let rest = a[shared..].iter().zip(&b[shared..]);
    shared + rest.take_while(|(a, b)| a == b).count()
}

/// Reads keys that were front-coded, one after the other.
#[derive(Default)]
pub(crate) struct Keys {
    /// The sort bytes of the last one.
    current: Vec<u8>,
}

impl Keys {
    /// The sort bytes of the last one.
    pub(crate) fn current(&self) -> &[u8] {
        &self.current
    }

    #[inline]
    pub(super) fn next(
        &mut self,
        reader: &mut Reader<'_>,
        last: Option<&Key>,
    ) -> Result<Key, Fault> {
        let [shared, own] = read_lengths(reader)?;
        let own = reader.take(own)?;
        let own = own.split_first().map(|(first, more)| (*first, more));
        self.follow(reader, shared, own, last)
    }

    /// The key that shares so many bytes with the `last` one, and has these of its own: the first,
    /// and more.
    #[inline]
    pub(crate) fn follow(
        &mut self,
        reader: &Reader<'_>,
        shared: usize,
        own: Option<(u8, &[u8])>,
        last: Option<&Key>,
    ) -> Result<Key, Fault> {
        if shared > self.current.len() {
            return Err(reader.malformed("a key that shares more than there is"));
        }
        check_length(shared + own.map_or(0, |(_, more)| 1 + more.len()))?;
        let rest = self.current[shared..].split_first();
        let rest = rest.map(|(first, more)| (*first, more));
        if own.is_none() && rest.is_none() {
            // A sibling holds the same key, not one more.
            let last = last.cloned();
            return last.ok_or_else(|| reader.malformed("a key without a kind"));
        }
        if shared > MAX_SHARED_BYTES {
            return Err(reader.malformed("a key that shares more than it may"));
        }
        let behind = if shared < MAX_SHARED_BYTES {
            own.map(|(first, _)| first) > rest.map(|(first, _)| first)
        } else {
            own > rest
        };
        if !behind {
            return Err(reader.malformed("keys out of order, or that share less than they could"));
        }
        self.current.truncate(shared);
        if let Some((first, more)) = own {
            self.current.push(first);
            self.current.extend_from_slice(more);
        }
        key_of_sort_bytes(reader, &self.current)
    }
}

/// How many sort bytes a key shares with the one before, and how many of its own follow.
#[inline]
fn read_lengths(reader: &mut Reader<'_>) -> Result<[usize; 2], Fault> {
    let lengths = usize::from(reader.byte()?);
    let mut parts = [lengths >> 4, lengths & 15];
    for part in &mut parts {
        if *part == LONG {
            *part += reader.bounded("the length of a key", MAX_KEY_BYTES as u64)?;
        }
    }
    check_length(parts[0] + parts[1])?;
    Ok(parts)
}

/// Whether a key may have so many sort bytes.
fn check_length(sort_bytes: usize) -> Result<(), Fault> {
    if sort_bytes > MAX_KEY_BYTES + 1 {
        let (found, limit) = ((sort_bytes - 1) as u64, MAX_KEY_BYTES as u64);
        return Err(Fault::limit("the length of a key", found, limit));
    }
    Ok(())
}

#[inline]
fn key_of_sort_bytes(reader: &Reader<'_>, bytes: &[u8]) -> Result<Key, Fault> {
    let Some((kind, text)) = bytes.split_first() else {
        return Err(reader.malformed("a key without a kind"));
    };
    match (*kind, text) {
        (KEY_FALSE, []) => Ok(Key::Bool(false)),
        (KEY_TRUE, []) => Ok(Key::Bool(true)),
        (KEY_INT, text) => match <[u8; 8]>::try_from(text) {
            Ok(bytes) => Ok(Key::Int((u64::from_be_bytes(bytes) ^ (1 << 63)) as i64)),
            Err(_) => Err(reader.malformed("an integer key that has not eight bytes")),
        },
        (KEY_STR, text) => match core::str::from_utf8(text) {
            Ok(text) => Ok(Key::Str(SmolStr::new(text))),
            Err(_) => Err(reader.malformed("text that is not UTF-8")),
        },
        (KEY_BYTES, text) => Ok(Key::Bytes(text.into())),
        (KEY_ELEMENT, text) => match <[u8; 16]>::try_from(text) {
            Ok(bytes) => {
                let id = u128::from_be_bytes(bytes);
                let (replica, seq) = ((id >> 64) as u64, id as u64);
                Ok(Key::Element(Dot::new(ReplicaId::new(replica), seq)))
            }
            Err(_) => Err(reader.malformed("an element's id that has not sixteen bytes")),
        },
        _ => Err(reader.malformed("an unknown kind of key")),
    }
}

/// Reads a key that was front-coded after any other, in order or not; it shares as much as it can.
#[inline]
pub(crate) fn read_front_coded(
    reader: &mut Reader<'_>,
    before: Option<&Key>,
) -> Result<Key, Fault> {
    let [shared, own] = read_lengths(reader)?;
    let own = reader.take(own)?;
    if let (Some(Key::Str(before)), Some(at)) = (before, shared.checked_sub(1))
        && let Some(text) = text_after(before, at, own)
    {
        return Ok(Key::Str(text));
    }
    key_after(reader, before, shared, own)
}

/// The key that shares so many sort bytes with the one before, and has these of its own.
fn key_after(
    reader: &Reader<'_>,
    before: Option<&Key>,
    shared: usize,
    own: &[u8],
) -> Result<Key, Fault> {
    let Some(before) = before else {
        if shared > 0 {
            return Err(reader.malformed("a key that shares more than there is"));
        }
        return key_of_sort_bytes(reader, own);
    };
    let mut room = Room::default();
    let (kind, content) = sort_bytes(before, &mut room);
    let (next, rest) = match shared.checked_sub(1) {
        None => (Some(&kind), None),
        Some(at) => {
            let rest = content.get(at..);
            let rest =
                rest.ok_or_else(|| reader.malformed("a key that shares more than there is"))?;
            (rest.first(), Some(rest))
        }
    };
    let more = match rest {
        Some(rest) if rest == own => !own.is_empty(),
        _ => shared > MAX_SHARED_BYTES || shared < MAX_SHARED_BYTES && own.first() == next,
    };
    if more {
        return Err(reader.malformed("a key that shares more than it may, or less"));
    }
    if own.is_empty() && shared == 1 + content.len() {
        return Ok(before.clone());
    }
    let mut bytes = SmallVec::<[u8; 64]>::new();
    if let Some(at) = shared.checked_sub(1) {
        bytes.push(kind);
        bytes.extend_from_slice(&content[..at]);
    }
    bytes.extend_from_slice(own);
    key_of_sort_bytes(reader, &bytes)
}

/// Room for a text, where it is checked by words.
#[derive(Default)]
#[repr(align(8))]
struct ShortText([u8; 32]);

/// The text that shares its first bytes, up to `at`, with the one before, and goes on with others
/// than that: what most keys are. `None` where it is not so, or long.
#[inline]
fn text_after(before: &str, at: usize, own: &[u8]) -> Option<SmolStr> {
    let before = before.as_bytes();
    let differs = before.get(at..)?.first() != own.first();
    let (mut text, end) = (ShortText::default(), at + own.len());
    if !differs || end > text.0.len() || before.len() > text.0.len() {
        return None;
    }
    // What stands behind the end is in the way only where a character was cut.
    put_few(&mut text.0, before);
    put_few(&mut text.0[at..], own);
    core::str::from_utf8(&text.0)
        .ok()?
        .get(..end)
        .map(SmolStr::new)
}

/// Puts bytes at the start of others; two words are quicker than a copy of any length.
#[inline]
fn put_few(out: &mut [u8], bytes: &[u8]) {
    let len = bytes.len();
    let out = &mut out[..len];
    match (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        (Some(first), Some(last)) if len <= 8 => {
            out[..4].copy_from_slice(first);
            out[len - 4..].copy_from_slice(last);
        }
        _ => match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
            (Some(first), Some(last)) if len <= 16 => {
                out[..8].copy_from_slice(first);
                out[len - 8..].copy_from_slice(last);
            }
            _ => out.copy_from_slice(bytes),
        },
    }
}
