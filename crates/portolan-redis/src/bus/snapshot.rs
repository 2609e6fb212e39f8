//! Snapshots: uploaded in pieces under a key of their own, then put in their place at once.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use portolan::{BusError, Snapshot};
use redis::Value;
use xxhash_rust::xxh3::xxh3_64;

use super::FORMAT;
use super::lines::{self, Lines};
use super::place::Place;
use crate::message::number;
use crate::script;

/// Bytes of a piece: Redis does nothing else while it takes one.
const PIECE_BYTES: usize = 8 * 1024 * 1024;
/// How long the pieces of one that is never finished stay after the last of them.
const SAVING: Duration = Duration::from_mins(2);
/// How often a snapshot is begun to be read again that was replaced meanwhile.
const ATTEMPTS: usize = 5;

/// The snapshot of a map; nothing where there is none that is whole.
pub(super) async fn load(lines: &Lines, place: &Place) -> Result<Option<Snapshot>, BusError> {
    'again: for _ in 0..ATTEMPTS {
        let head = ["id", "place", "pieces", "bytes", "sum"];
        let Some([id, at, pieces, bytes, sum]) = fields(lines, place, head).await? else {
            return Ok(None);
        };
        let numbers = [&at, &pieces, &bytes, &sum].map(|text| number(text));
        let [Some(at), Some(pieces), Some(bytes), Some(sum)] = numbers else {
            return Ok(None);
        };
        let mut content = BytesMut::new();
        for piece in 0..pieces {
            let piece = piece.to_string();
            let Some([now, piece]) = fields(lines, place, ["id", &piece]).await? else {
                return Ok(None);
            };
            if now != id {
                continue 'again;
            }
            content.extend_from_slice(&piece);
        }
        let whole = content.len() as u64 == bytes && xxh3_64(&content) == sum;
        return Ok(whole.then(|| Snapshot {
            place: at,
            bytes: content.freeze(),
        }));
    }
    Err(BusError::Refused(
        "the snapshot changes faster than it can be read".to_owned(),
    ))
}

/// Fields of the snapshot, if all are there.
async fn fields<const N: usize>(
    lines: &Lines,
    place: &Place,
    names: [&str; N],
) -> Result<Option<[Bytes; N]>, BusError> {
    let read = redis::cmd("HMGET")
        .arg(&place.snapshot)
        .arg(&names)
        .to_owned();
    let Value::Array(values) = lines.query(place, &read).await? else {
        return Ok(None);
    };
    let values = values.into_iter().map_while(|value| match value {
        Value::BulkString(bytes) => Some(Bytes::from(bytes)),
        _ => None,
    });
    Ok(values.collect::<Vec<_>>().try_into().ok())
}

/// Saves a snapshot, and lets go of the entries below `keep`.
pub(super) async fn save(
    lines: &Lines,
    place: &Place,
    epoch: u64,
    snapshot: Snapshot,
    keep: u64,
) -> Result<bool, BusError> {
    let sum = xxh3_64(&snapshot.bytes);
    // Two servers never upload the same state at the same place at once: one has claimed to.
    let id = sum ^ snapshot.place.rotate_left(32) ^ epoch;
    let upload = place.saving(id);
    let pieces = snapshot.bytes.chunks(PIECE_BYTES);
    let mut head = redis::cmd("HSET");
    head.arg(&upload).arg("id").arg(id);
    head.arg("place").arg(snapshot.place);
    head.arg("pieces").arg(pieces.len());
    head.arg("bytes")
        .arg(snapshot.bytes.len())
        .arg("sum")
        .arg(sum);
    lines.query(place, &head).await?;
    let expire = redis::cmd("PEXPIRE")
        .arg(&upload)
        .arg(SAVING.as_millis() as u64)
        .to_owned();
    lines.query(place, &expire).await?;
    for (piece, bytes) in pieces.enumerate() {
        let put = redis::cmd("HSET")
            .arg(&upload)
            .arg(piece)
            .arg(bytes)
            .to_owned();
        lines.query(place, &put).await?;
        // Its time begins again, so that it bounds a piece and not the whole.
        lines.query(place, &expire).await?;
    }
    let [epoch, at, keep, format] =
        [epoch, snapshot.place, keep, FORMAT].map(|number| number.to_string());
    let keys = [
        &*place.meta,
        &*place.log,
        &*place.snapshot,
        &*upload,
        &*place.claim,
    ];
    let arguments = [
        epoch.as_bytes(),
        at.as_bytes(),
        keep.as_bytes(),
        format.as_bytes(),
    ];
    let saved = lines.run(place, &script::BUS_SAVE, &keys, &arguments);
    lines::yes(&saved.await?)
}
