//! From when until when, and what happened in between.

use std::collections::VecDeque;

use super::update::Update;
use crate::change::Change;
use crate::clock::Timestamp;
use crate::document::Document;
use crate::dots::{DotSet, Version};
use crate::limits::MAX_PAST_STEPS;

/// A point in a history.
#[derive(Clone, Copy, Debug)]
pub enum Moment<'a> {
    /// The beginning, or now.
    Open,
    /// The state at a version.
    Version(&'a Version),
    /// What was stamped until then, that timestamp included.
    Time(Timestamp),
}

impl<'a> From<&'a Version> for Moment<'a> {
    fn from(version: &'a Version) -> Self {
        Self::Version(version)
    }
}

impl From<Timestamp> for Moment<'_> {
    fn from(timestamp: Timestamp) -> Self {
        Self::Time(timestamp)
    }
}

/// The end of a millisecond since the Unix epoch.
impl From<u64> for Moment<'_> {
    fn from(millis: u64) -> Self {
        Self::Time(Timestamp::from_bits(millis << 16 | 0xffff))
    }
}

impl Moment<'_> {
    /// The version that it stands for; `None` where it is open.
    pub(super) fn version(self, document: &Document) -> Option<Version> {
        match self {
            Self::Open => None,
            Self::Version(version) => Some(version.clone()),
            Self::Time(moment) => Some(document.version_at(moment)),
        }
    }
}

/// What leads from one moment to another.
#[derive(Clone, Debug)]
pub struct History {
    /// What is different then: what came and went in between is left out.
    pub changes: Vec<Change>,
    /// What another replica applies to get there, in any order with other histories.
    ///
    /// It stands for all operations until then at the least. It stands for more where this
    /// replica never was at just that version, or was there too many steps ago, for it would
    /// not know all that exactly these operations removed.
    pub update: Update,
}

/// What was applied lately, one write or update after the other.
#[derive(Debug, Default)]
pub(super) struct Steps(VecDeque<DotSet>);

impl Steps {
    pub(super) fn note(&mut self, applied: &DotSet) {
        if applied.is_empty() {
            return;
        }
        if self.0.len() == MAX_PAST_STEPS {
            self.0.pop_front();
        }
        self.0.push_back(applied.clone());
    }

    /// The first version that this replica was at, of those that can be told, which covers
    /// `wanted`.
    pub(super) fn first_covering(&self, wanted: &Version, now: Version) -> Version {
        let steps = self.0.iter().rev();
        let after = steps.take_while(|step| !step.intersects(wanted));
        let after: DotSet = after.flat_map(DotSet::iter).collect();
        now.difference(&after)
    }
}
