//! What is told of the members, and its bytes.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::codec::{Reader, put_dots, put_varint, read_dots};
use crate::dots::Version;
use crate::error::DecodeError;
use crate::replica::ReplicaId;

/// Whether a replica is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Standing {
    /// Nothing is let go of that it may still need.
    Member = 0,
    /// It was not heard of for too long, or was told to be forgotten. It may return, and begins
    /// anew from the state of the others where these have let go of something; what it has written
    /// meanwhile is not lost.
    Forgotten = 1,
    /// It has left in good order, and will not return under this id.
    Gone = 2,
}

impl Standing {
    pub(in crate::sync) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.byte()? {
            0 => Ok(Self::Member),
            1 => Ok(Self::Forgotten),
            2 => Ok(Self::Gone),
            _ => Err(reader.malformed("an unknown standing of a member").into()),
        }
    }
}

/// What is told of one replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sync) struct Member {
    /// Grows when it comes back after it was forgotten.
    pub(in crate::sync) generation: u64,
    pub(in crate::sync) standing: Standing,
    /// Grows with each sign of life.
    pub(in crate::sync) beat: u64,
    pub(in crate::sync) acknowledged: Version,
    pub(in crate::sync) sealed: Version,
}

impl Member {
    pub(super) fn new(generation: u64, acknowledged: Version) -> Self {
        Self {
            generation,
            standing: Standing::Member,
            beat: 0,
            acknowledged,
            sealed: Version::new(),
        }
    }

    /// Joins in what another table says; whether that is news.
    pub(super) fn join(&mut self, other: &Member) -> bool {
        if other.generation != self.generation {
            let newer = other.generation > self.generation;
            if newer {
                *self = other.clone();
            }
            return newer;
        }
        if self.standing != Standing::Member || other.standing != Standing::Member {
            let news = other.standing > self.standing;
            if news {
                self.leave(other.standing);
            }
            return news;
        }
        let news = other.beat > self.beat
            || !self.acknowledged.covers(&other.acknowledged)
            || !self.sealed.covers(&other.sealed);
        if news {
            self.beat = self.beat.max(other.beat);
            self.acknowledged.union_with(&other.acknowledged);
            self.sealed.union_with(&other.sealed);
        }
        news
    }

    /// It is not waited for any more: what it had does not matter.
    pub(super) fn leave(&mut self, standing: Standing) {
        self.standing = standing;
        self.acknowledged = Version::new();
        self.sealed = Version::new();
    }
}

/// What is told of everybody, and what a peer must have to go on from what it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::sync) struct Table {
    pub(in crate::sync) members: BTreeMap<ReplicaId, Member>,
    /// What everybody had when positions were last let go of: who has some of it and lacks some
    /// may hold what nobody else knows the place of.
    pub(in crate::sync) required: Version,
}

/// The most members of a table.
pub(in crate::sync) const MAX_MEMBERS: usize = 100_000;

/// Appends a table. Versions are told as what they lack of one, and what they have beyond it.
pub(in crate::sync) fn put_table(out: &mut Vec<u8>, table: &Table, base: &Version) {
    let put_version = |out: &mut Vec<u8>, version: &Version| {
        put_dots(out, &base.difference(version));
        put_dots(out, &version.difference(base));
    };
    put_dots(out, base);
    put_version(out, &table.required);
    put_varint(out, table.members.len() as u64);
    for (id, member) in &table.members {
        out.extend_from_slice(&id.get().to_le_bytes());
        put_varint(out, member.generation);
        out.push(member.standing as u8);
        put_varint(out, member.beat);
        if member.standing == Standing::Member {
            put_version(out, &member.acknowledged);
            put_version(out, &member.sealed);
        }
    }
}

/// Reads what [`put_table`] wrote.
pub(in crate::sync) fn read_table(
    reader: &mut Reader<'_>,
) -> Result<(Table, Version), DecodeError> {
    fn read_version(reader: &mut Reader<'_>, base: &Version) -> Result<Version, DecodeError> {
        let (lacks, beyond) = (read_dots(reader)?, read_dots(reader)?);
        if !base.covers(&lacks) || base.intersects(&beyond) {
            return Err(reader
                .malformed("a version that contradicts what it is told by")
                .into());
        }
        Ok(base.difference(&lacks).union(&beyond))
    }
    let base = read_dots(reader)?;
    let required = read_version(reader, &base)?;
    let count = reader.bounded("the number of members", MAX_MEMBERS as u64)?;
    // Versions are told by what they lack: what they take is bounded together.
    let mut room = MAX_TABLE_RANGES;
    let mut members = BTreeMap::new();
    for _ in 0..count {
        let id = ReplicaId::new(reader.u64_le()?);
        if members
            .last_key_value()
            .is_some_and(|(last, _)| *last >= id)
        {
            return Err(reader.malformed("members out of order").into());
        }
        let generation = reader.varint()?;
        let standing = Standing::read(reader)?;
        let beat = reader.varint()?;
        let (mut acknowledged, mut sealed) = (Version::new(), Version::new());
        if standing == Standing::Member {
            acknowledged = read_version(reader, &base)?;
            sealed = read_version(reader, &base)?;
        }
        let ranges = acknowledged.ranges().len() + sealed.ranges().len();
        room = room.checked_sub(ranges).ok_or(DecodeError::Limit {
            what: "the versions of a member table",
            found: (MAX_TABLE_RANGES - room + ranges) as u64,
            limit: MAX_TABLE_RANGES as u64,
        })?;
        members.insert(
            id,
            Member {
                generation,
                standing,
                beat,
                acknowledged,
                sealed,
            },
        );
    }
    Ok((Table { members, required }, base))
}

/// Ranges of all versions of a table together: sixty megabytes. A thousand members of a
/// document that a thousand have written take two million.
pub(in crate::sync) const MAX_TABLE_RANGES: usize = 2_500_000;
