//! What is new in a member table: what one peer is told of it, and the bytes.
//!
//! Each replica counts the changes of its table (*revisions*). A session is told the whole table
//! once, and then what has changed since, in a row without gaps: each frame begins at the revision
//! at which the one before it ended. Whoever misses one does not join what follows, for an own
//! entry counts only together with all that its replica had met before, and asks for the whole
//! table again.
//!
//! Most members have stored the same at one time, so they are told in groups of one version, those
//! that have most first, and versions as the difference to the one before. What the teller has is
//! the first, itself told as the difference to what it had at the frame before.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::cmp::Reverse;

use super::members::{MAX_MEMBERS, MAX_TABLE_RANGES, Member, Standing, Table};
use crate::codec::{Reader, put_dots, put_varint, read_dots};
use crate::dots::{DotRange, DotSet, Version};
use crate::error::DecodeError;
use crate::replica::ReplicaId;

/// What has changed in a table between two revisions.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct News {
    /// 0 where the table is told whole.
    pub(super) from: u64,
    pub(super) to: u64,
    /// What the teller has, by what it had at `from`.
    base: Difference,
    /// What everybody had when positions were last let go of, by what the teller has; where that
    /// has changed.
    required: Option<Difference>,
    /// The latest sign of life; those of members are told by what they lack of it.
    latest: u64,
    groups: Vec<Group>,
}

/// Members that stand alike. Versions are told by those of the group before it, or what the teller
/// has.
#[derive(Clone, Debug, PartialEq)]
struct Group {
    standing: Standing,
    acknowledged: Difference,
    sealed: Difference,
    /// Each with its generation and its sign of life.
    members: Vec<(ReplicaId, u64, u64)>,
}

/// A version, told by another.
#[derive(Clone, Debug, Default, PartialEq)]
struct Difference {
    lacks: DotSet,
    beyond: DotSet,
}

impl Difference {
    fn new(base: &Version, version: &Version) -> Self {
        Self {
            lacks: base.difference(version),
            beyond: version.difference(base),
        }
    }

    fn apply(&self, base: &Version) -> Result<Version, DecodeError> {
        if !base.covers(&self.lacks) || base.intersects(&self.beyond) {
            let what = "a version that contradicts what it is told by";
            return Err(DecodeError::Malformed { at: 0, what });
        }
        Ok(base.difference(&self.lacks).union(&self.beyond))
    }

    fn put(&self, out: &mut Vec<u8>) {
        put_dots(out, &self.lacks);
        put_dots(out, &self.beyond);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            lacks: read_dots(reader)?,
            beyond: read_dots(reader)?,
        })
    }
}

impl News {
    /// Tells `members`, where the receiver has been told up to revision `from`, at which the
    /// teller had `before`; it has `base` now, at revision `to`.
    pub(super) fn new<'a>(
        (from, before): (u64, &Version),
        (to, base): (u64, &Version),
        required: Option<&Version>,
        members: impl Iterator<Item = (ReplicaId, &'a Member)>,
    ) -> Self {
        type Alike<'a> = (Standing, Reverse<u64>, &'a [DotRange], &'a [DotRange]);
        let mut alike: BTreeMap<Alike<'a>, Vec<(ReplicaId, &Member)>> = BTreeMap::new();
        let mut latest = 0;
        for (id, member) in members {
            let place = (
                member.standing,
                Reverse(member.acknowledged.len()),
                member.acknowledged.ranges(),
                member.sealed.ranges(),
            );
            alike.entry(place).or_default().push((id, member));
            latest = latest.max(member.beat);
        }
        let (mut acknowledged, mut sealed) = (base, base);
        let mut groups = Vec::with_capacity(alike.len());
        for members in alike.into_values() {
            let (_, first) = members[0];
            groups.push(Group {
                standing: first.standing,
                acknowledged: Difference::new(acknowledged, &first.acknowledged),
                sealed: Difference::new(sealed, &first.sealed),
                members: members
                    .into_iter()
                    .map(|(id, member)| (id, member.generation, member.beat))
                    .collect(),
            });
            (acknowledged, sealed) = (&first.acknowledged, &first.sealed);
        }
        Self {
            from,
            to,
            base: Difference::new(before, base),
            required: required.map(|required| Difference::new(base, required)),
            latest,
            groups,
        }
    }

    /// The table that it tells, and what the teller has now, where it had `before`.
    pub(super) fn table(self, before: &Version) -> Result<(Table, Version), DecodeError> {
        let base = self.base.apply(before)?;
        let required = self.required.map(|required| required.apply(&base));
        let mut table = Table {
            required: required.transpose()?.unwrap_or_default(),
            members: BTreeMap::new(),
        };
        // Versions are told by what they lack: what they take is bounded together.
        let mut room = MAX_TABLE_RANGES;
        let (mut acknowledged, mut sealed) = (base.clone(), base.clone());
        for group in self.groups {
            if group.standing == Standing::Member {
                acknowledged = group.acknowledged.apply(&acknowledged)?;
                sealed = group.sealed.apply(&sealed)?;
            } else {
                (acknowledged, sealed) = (Version::new(), Version::new());
            }
            let ranges = acknowledged.ranges().len() + sealed.ranges().len();
            let ranges = ranges.saturating_mul(group.members.len());
            room = room.checked_sub(ranges).ok_or(DecodeError::Limit {
                what: "the versions of a member table",
                found: (MAX_TABLE_RANGES - room).saturating_add(ranges) as u64,
                limit: MAX_TABLE_RANGES as u64,
            })?;
            for (id, generation, beat) in group.members {
                let member = Member {
                    generation,
                    standing: group.standing,
                    beat,
                    acknowledged: acknowledged.clone(),
                    sealed: sealed.clone(),
                };
                if table.members.insert(id, member).is_some() {
                    let what = "a member that is told twice";
                    return Err(DecodeError::Malformed { at: 0, what });
                }
            }
        }
        Ok((table, base))
    }

    /// Whether it says what everybody had when positions were last let go of.
    pub(super) fn has_required(&self) -> bool {
        self.required.is_some()
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.from);
        put_varint(out, self.to);
        self.base.put(out);
        out.push(u8::from(self.required.is_some()));
        if let Some(required) = &self.required {
            required.put(out);
        }
        put_varint(out, self.latest);
        put_varint(out, self.groups.len() as u64);
        for group in &self.groups {
            out.push(group.standing as u8);
            if group.standing == Standing::Member {
                group.acknowledged.put(out);
                group.sealed.put(out);
            }
            put_varint(out, group.members.len() as u64);
            for (id, generation, beat) in &group.members {
                out.extend_from_slice(&id.get().to_le_bytes());
                put_varint(out, *generation);
                put_varint(out, self.latest - beat);
            }
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (from, to) = (reader.varint()?, reader.varint()?);
        if from > to {
            return Err(reader.malformed("news of what was before").into());
        }
        let base = Difference::read(reader)?;
        let required = match reader.byte()? {
            0 => None,
            1 => Some(Difference::read(reader)?),
            _ => return Err(reader.malformed("an unknown flag of a member table").into()),
        };
        let latest = reader.varint()?;
        let count = reader.bounded("the number of groups", MAX_MEMBERS as u64)?;
        let (mut groups, mut room) = (Vec::new(), MAX_MEMBERS as u64);
        for _ in 0..count {
            let standing = Standing::read(reader)?;
            let (mut acknowledged, mut sealed) = Default::default();
            if standing == Standing::Member {
                acknowledged = Difference::read(reader)?;
                sealed = Difference::read(reader)?;
            }
            let count = reader.bounded("the number of members", room)?;
            room -= count as u64;
            let mut members: Vec<(ReplicaId, u64, u64)> = Vec::new();
            for _ in 0..count {
                let id = ReplicaId::new(reader.u64_le()?);
                if members.last().is_some_and(|(last, ..)| *last >= id) {
                    return Err(reader.malformed("members out of order").into());
                }
                let (generation, silent) = (reader.varint()?, reader.varint()?);
                let beat = latest.checked_sub(silent);
                let beat = beat.ok_or(reader.malformed("a sign of life before all time"))?;
                members.push((id, generation, beat));
            }
            groups.push(Group {
                standing,
                acknowledged,
                sealed,
                members,
            });
        }
        Ok(Self {
            from,
            to,
            base,
            required,
            latest,
            groups,
        })
    }
}
