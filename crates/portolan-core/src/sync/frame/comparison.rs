//! Questions about what is held, and their answers.

use alloc::vec::Vec;

use bytes::Bytes;

use super::{COMPARE, COMPARED, frame, read_flag};
use crate::codec::{Reader, put_dots, put_varint, read_dots};
use crate::error::DecodeError;
use crate::reconcile::{self, MAX_SPANS, Span};
use crate::sync::search::{Compare, Compared};

pub(in crate::sync) fn compare(handle: u32, question: &Compare) -> Bytes {
    frame(COMPARE, handle, question.parts.len() * 12, |out| {
        put_varint(out, question.search);
        put_varint(out, u64::from(question.round));
        out.push(u8::from(question.domain.is_some()));
        if let Some(domain) = &question.domain {
            put_dots(out, domain);
        }
        put_varint(out, question.parts.len() as u64);
        let mut end = 0;
        for part in &question.parts {
            put_varint(out, part.span.first - end);
            put_varint(out, part.span.end - part.span.first - 1);
            out.extend_from_slice(&part.print.to_le_bytes());
            end = part.span.end;
        }
    })
}

pub(super) fn read_compare(reader: &mut Reader<'_>) -> Result<Compare, DecodeError> {
    let search = reader.varint()?;
    let round = reader.bounded("the number of a question", u64::from(u32::MAX))? as u32;
    let domain = if read_flag(reader)? {
        Some(read_dots(reader)?)
    } else {
        None
    };
    let count = reader.bounded("the number of spans", MAX_SPANS as u64)?;
    let (mut parts, mut end) = (Vec::new(), 0u64);
    for _ in 0..count {
        let (gap, more) = (reader.varint()?, reader.varint()?);
        let first = end.checked_add(gap);
        let behind = first.and_then(|first| first.checked_add(more)?.checked_add(1));
        let (Some(first), Some(behind)) = (first, behind) else {
            return Err(reader.malformed("a span of more than 64 bits").into());
        };
        end = behind;
        parts.push(reconcile::Part {
            span: Span { first, end },
            print: reader.u64_le()?,
        });
    }
    Ok(Compare {
        search,
        round,
        domain,
        parts,
    })
}

pub(in crate::sync) fn compared(handle: u32, answer: &Compared) -> Bytes {
    frame(COMPARED, handle, answer.unequal.len() * 2 + 8, |out| {
        put_varint(out, answer.search);
        put_varint(out, u64::from(answer.round));
        put_varint(out, answer.unequal.len() as u64);
        let mut next = 0;
        for number in &answer.unequal {
            put_varint(out, u64::from(number - next));
            next = number + 1;
        }
    })
}

pub(super) fn read_compared(reader: &mut Reader<'_>) -> Result<Compared, DecodeError> {
    let search = reader.varint()?;
    let round = reader.bounded("the number of a question", u64::from(u32::MAX))? as u32;
    let count = reader.bounded("the number of spans", MAX_SPANS as u64)?;
    let (mut unequal, mut next) = (Vec::new(), 0u32);
    for _ in 0..count {
        let number = next + reader.bounded("the number of a span", MAX_SPANS as u64)? as u32;
        if number as usize >= MAX_SPANS {
            return Err(reader.malformed("a span beyond those of a question").into());
        }
        unequal.push(number);
        next = number + 1;
    }
    Ok(Compared {
        search,
        round,
        unequal,
    })
}
