//! The engine as a module for JavaScript: maps and arrays of plain values, written, read,
//! encoded and joined. `wasm/size` measures it, and `try.mjs` shows how a page calls it.
//!
//! Keys, values and bytes stand in one buffer: the caller asks for room with
//! [`buffer_input`], writes there, calls, and reads as many bytes at [`buffer_output`] as the
//! call returned. So no pointer comes in from outside.

#![cfg_attr(target_family = "wasm", no_std)]

extern crate alloc;

#[cfg(target_family = "wasm")]
mod memory;
mod plain;
#[cfg(target_family = "wasm")]
mod runtime;

use alloc::vec::Vec;

use portolan_core::{Delta, Document, Error, Key, ReplicaId, Transaction};

use plain::Reader;
use spin::Mutex;

/// Returned where there is nothing.
const NOTHING: i32 = -1;
/// Returned where the engine refuses what it is asked, or where the bytes mean nothing.
const REFUSED: i32 = -2;

struct Module {
    documents: Vec<Document>,
    buffer: Vec<u8>,
}

static MODULE: Mutex<Module> = Mutex::new(Module {
    documents: Vec::new(),
    buffer: Vec::new(),
});

fn with_module<T>(f: impl FnOnce(&mut Module) -> T) -> T {
    f(&mut MODULE.lock())
}

/// Functions under their own names, for who loads the module.
macro_rules! exports {
    ($($(#[$doc:meta])* fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty $body:block)*) => {$(
        $(#[$doc])*
        // The names are told apart from those of the C library by their two words.
        #[allow(unsafe_code)]
        #[unsafe(no_mangle)]
        pub extern "C" fn $name($($argument: $type),*) -> $result $body
    )*};
}

exports! {
    /// Room for so many bytes of input; where it is.
    fn buffer_input(bytes: usize) -> *mut u8 {
        with_module(|module| {
            module.buffer.clear();
            module.buffer.resize(bytes, 0);
            module.buffer.as_mut_ptr()
        })
    }

    /// Where the result of the last call is.
    fn buffer_output() -> *const u8 {
        with_module(|module| module.buffer.as_ptr())
    }

    /// A new document, written to under an id that nobody else uses; its number here.
    fn document_new(replica: u64) -> usize {
        with_module(|module| {
            module.documents.push(Document::without_past(ReplicaId::new(replica)));
            module.documents.len() - 1
        })
    }

    /// All operations that a document has applied.
    fn document_version(document: usize) -> i32 {
        answer(document, &mut |document, _, out| {
            plain::put_version(out, &document.version());
            Some(())
        })
    }

    /// The whole document as bytes.
    fn document_encode(document: usize) -> i32 {
        answer(document, &mut |document, _, out| {
            *out = document.snapshot().encode();
            Some(())
        })
    }

    /// What a replica lacks that has the version in the buffer.
    fn document_since(document: usize) -> i32 {
        answer(document, &mut |document, input, out| {
            *out = document.delta_since(&plain::version(input)).encode();
            Some(())
        })
    }

    /// Joins in what [`document_encode`] or [`document_since`] gave elsewhere.
    fn document_apply(document: usize) -> i32 {
        with_module(|module| {
            let Ok(delta) = Delta::decode(&module.buffer) else {
                return REFUSED;
            };
            module.documents[document].apply(&delta);
            0
        })
    }

    /// The winner under a key.
    fn map_get(document: usize) -> i32 {
        answer(document, &mut |document, input, out| {
            document.get(&Reader::new(input).key()?)?.encode_to(out);
            Some(())
        })
    }

    /// All keys in order, each with its winner.
    fn map_entries(document: usize) -> i32 {
        answer(document, &mut |document, _, out| {
            for (key, mut siblings) in document {
                if let Some(winner) = siblings.next() {
                    plain::put_key(out, key);
                    winner.value.encode_to(out);
                }
            }
            Some(())
        })
    }

    /// Sets a key to a value; `now` is in milliseconds since the Unix epoch, here and below.
    fn map_set(document: usize, now: f64) -> i32 {
        write(document, now, &mut |tx, key, mut input| {
            let value = input.value()?;
            Some(tx.set(key, value))
        })
    }

    /// Removes what stands under a key.
    fn map_unset(document: usize, now: f64) -> i32 {
        write(document, now, &mut |tx, key, _| {
            tx.unset(&key);
            Some(Ok(()))
        })
    }

    /// How many elements the array under a key has.
    fn array_length(document: usize) -> i32 {
        answer(document, &mut |document, input, out| {
            let array = document.array(&Reader::new(input).key()?);
            out.extend_from_slice(&(array.len() as u32).to_le_bytes());
            Some(())
        })
    }

    /// The element at an index of the array under a key.
    fn array_get(document: usize, index: usize) -> i32 {
        answer(document, &mut |document, input, out| {
            let key = Reader::new(input).key()?;
            document.array(&key).get(index)?.encode_to(out);
            Some(())
        })
    }

    /// All elements of the array under a key.
    fn array_elements(document: usize) -> i32 {
        answer(document, &mut |document, input, out| {
            for (_, mut siblings) in document.array(&Reader::new(input).key()?).iter() {
                if let Some(winner) = siblings.next() {
                    winner.value.encode_to(out);
                }
            }
            Some(())
        })
    }

    /// Appends a value to the array under a key.
    fn array_append(document: usize, now: f64) -> i32 {
        write(document, now, &mut |tx, key, mut input| {
            let value = input.value()?;
            Some(tx.array(key).append(value).map(drop))
        })
    }

    /// Inserts a value into the array under a key.
    fn array_insert(document: usize, now: f64, index: usize) -> i32 {
        write(document, now, &mut |tx, key, mut input| {
            let value = input.value()?;
            Some(tx.array(key).insert(index, value).map(drop))
        })
    }

    /// Deletes an element of the array under a key.
    fn array_delete(document: usize, now: f64, index: usize) -> i32 {
        write(document, now, &mut |tx, key, _| Some(tx.array(key).delete(index)))
    }
}

/// A reading of a document, after a question: what is found is appended.
type Reading<'a> = dyn FnMut(&Document, &[u8], &mut Vec<u8>) -> Option<()> + 'a;

/// Has a document read: what it finds takes the place of the question in the buffer.
fn answer(document: usize, read: &mut Reading<'_>) -> i32 {
    with_module(|module| {
        let mut found = Vec::new();
        let known = read(&module.documents[document], &module.buffer, &mut found);
        module.buffer = found;
        known.map_or(NOTHING, |()| module.buffer.len() as i32)
    })
}

/// An operation under the key that the buffer begins with; what else is in it follows the key.
type Operation<'a> =
    dyn FnMut(&mut Transaction<'_>, Key, Reader<'_>) -> Option<Result<(), Error>> + 'a;

/// Has a document do an operation.
fn write(document: usize, now: f64, write: &mut Operation<'_>) -> i32 {
    with_module(|module| {
        let mut input = Reader::new(&module.buffer);
        let document = &mut module.documents[document];
        let written = document.write(now as u64, |tx| {
            let key = input.key()?;
            write(tx, key, input)?.ok()
        });
        written.map_or(REFUSED, |()| 0)
    })
}
