//! yrs as a module for JavaScript: what the module beside it exports, over a root map `m` and root
//! arrays. Keys and values stand in the buffer as yrs itself encodes them.

use std::cell::RefCell;

use yrs::encoding::read::Cursor;
use yrs::updates::decoder::Decode;
use yrs::updates::encoder::Encode;
use yrs::{
    Any, Array as _, ArrayRef, Doc, Map as _, MapRef, Out, ReadTxn, StateVector, Transact, Update,
};

const NOTHING: i32 = -1;
const REFUSED: i32 = -2;

struct Module {
    documents: Vec<(Doc, MapRef)>,
    buffer: Vec<u8>,
}

thread_local! {
    static MODULE: RefCell<Module> = const {
        RefCell::new(Module { documents: Vec::new(), buffer: Vec::new() })
    };
}

/// Functions under their own names, for who loads the module.
macro_rules! exports {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty $body:block)*) => {$(
        #[allow(unsafe_code)]
        #[unsafe(no_mangle)]
        pub extern "C" fn $name($($argument: $type),*) -> $result $body
    )*};
}

exports! {
    fn buffer_input(bytes: usize) -> *mut u8 {
        MODULE.with_borrow_mut(|module| {
            module.buffer.clear();
            module.buffer.resize(bytes, 0);
            module.buffer.as_mut_ptr()
        })
    }

    fn buffer_output() -> *const u8 {
        MODULE.with_borrow(|module| module.buffer.as_ptr())
    }

    fn document_new(replica: u64) -> usize {
        MODULE.with_borrow_mut(|module| {
            let document = Doc::with_client_id(replica);
            let map = document.get_or_insert_map("m");
            module.documents.push((document, map));
            module.documents.len() - 1
        })
    }

    fn document_version(document: usize) -> i32 {
        answer(document, |document, _, _, out| {
            *out = document.transact().state_vector().encode_v1();
            Some(())
        })
    }

    fn document_encode(document: usize) -> i32 {
        answer(document, |document, _, _, out| {
            *out = document.transact().encode_diff_v1(&StateVector::default());
            Some(())
        })
    }

    fn document_since(document: usize) -> i32 {
        answer(document, |document, _, input, out| {
            *out = document.transact().encode_diff_v1(&StateVector::decode_v1(input).ok()?);
            Some(())
        })
    }

    fn document_apply(document: usize) -> i32 {
        write(document, |document, _, input| {
            document.transact_mut().apply_update(Update::decode_v1(input).ok()?).ok()
        })
    }

    fn map_get(document: usize) -> i32 {
        answer(document, |document, map, input, out| {
            put(out, map.get(&document.transact(), &key(&mut Cursor::new(input))?)?);
            Some(())
        })
    }

    fn map_entries(document: usize) -> i32 {
        answer(document, |document, map, _, out| {
            for (key, value) in map.iter(&document.transact()) {
                Any::from(key).encode(out);
                put(out, value);
            }
            Some(())
        })
    }

    fn map_set(document: usize) -> i32 {
        write(document, |document, map, input| {
            let mut input = Cursor::new(input);
            let (key, value) = (key(&mut input)?, Any::decode(&mut input).ok()?);
            map.insert(&mut document.transact_mut(), key, value);
            Some(())
        })
    }

    fn map_unset(document: usize) -> i32 {
        write(document, |document, map, input| {
            map.remove(&mut document.transact_mut(), &key(&mut Cursor::new(input))?);
            Some(())
        })
    }

    fn array_length(document: usize) -> i32 {
        answer(document, |document, _, input, out| {
            let array = array(document, &mut Cursor::new(input))?;
            out.extend_from_slice(&array.len(&document.transact()).to_le_bytes());
            Some(())
        })
    }

    fn array_get(document: usize, index: u32) -> i32 {
        answer(document, |document, _, input, out| {
            let array = array(document, &mut Cursor::new(input))?;
            put(out, array.get(&document.transact(), index)?);
            Some(())
        })
    }

    fn array_elements(document: usize) -> i32 {
        answer(document, |document, _, input, out| {
            let array = array(document, &mut Cursor::new(input))?;
            array.iter(&document.transact()).for_each(|value| put(out, value));
            Some(())
        })
    }

    fn array_append(document: usize) -> i32 {
        write(document, |document, _, input| {
            let mut input = Cursor::new(input);
            let array = array(document, &mut input)?;
            array.push_back(&mut document.transact_mut(), Any::decode(&mut input).ok()?);
            Some(())
        })
    }

    fn array_insert(document: usize, index: u32) -> i32 {
        write(document, |document, _, input| {
            let mut input = Cursor::new(input);
            let array = array(document, &mut input)?;
            array.insert(&mut document.transact_mut(), index, Any::decode(&mut input).ok()?);
            Some(())
        })
    }

    fn array_delete(document: usize, index: u32) -> i32 {
        write(document, |document, _, input| {
            let array = array(document, &mut Cursor::new(input))?;
            array.remove(&mut document.transact_mut(), index);
            Some(())
        })
    }
}

fn key(input: &mut Cursor<'_>) -> Option<String> {
    match Any::decode(input).ok()? {
        Any::String(key) => Some(key.to_string()),
        _ => None,
    }
}

fn array(document: &Doc, input: &mut Cursor<'_>) -> Option<ArrayRef> {
    Some(document.get_or_insert_array(key(input)?))
}

fn put(out: &mut Vec<u8>, value: Out) {
    if let Out::Any(value) = value {
        value.encode(out);
    }
}

fn answer(
    document: usize,
    read: impl FnOnce(&Doc, &MapRef, &[u8], &mut Vec<u8>) -> Option<()>,
) -> i32 {
    MODULE.with_borrow_mut(|module| {
        let (document, map) = &module.documents[document];
        let mut found = Vec::new();
        let known = read(document, map, &module.buffer, &mut found);
        module.buffer = found;
        known.map_or(NOTHING, |()| module.buffer.len() as i32)
    })
}

fn write(document: usize, write: impl FnOnce(&Doc, &MapRef, &[u8]) -> Option<()>) -> i32 {
    MODULE.with_borrow(|module| {
        let (document, map) = &module.documents[document];
        write(document, map, &module.buffer).map_or(REFUSED, |()| 0)
    })
}
