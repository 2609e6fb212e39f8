//! From when until when, and what happened in between.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::update::Update;
use crate::change::Change;
use crate::clock::Timestamp;
use crate::delta::Delta;
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
    /// The version that it stands for, or that it is open; `None` where that is not known any
    /// more.
    pub fn version(self, document: &Document) -> Option<Option<Version>> {
        match self {
            Self::Open => Some(None),
            Self::Version(version) => Some(Some(version.clone())),
            Self::Time(moment) => document.version_at(moment).map(Some),
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
///
/// Only at a version that a replica was at does it know what exactly the operations until then
/// removed: what several removed at once is noted with the first of them.
#[derive(Debug, Default)]
pub(super) struct Steps {
    steps: VecDeque<Step>,
    /// Dots known to be dead and not applied.
    early: DotSet,
}

#[derive(Debug)]
struct Step {
    applied: DotSet,
    /// What was dead and not applied before it.
    early: DotSet,
}

impl Steps {
    /// Notes that the document applied these, some of which removed `dead`.
    pub(super) fn note(&mut self, applied: DotSet, dead: &DotSet, document: &Document) {
        if applied.is_empty() {
            return;
        }
        if self.steps.len() == MAX_PAST_STEPS {
            self.steps.pop_front();
        }
        let mut early = self.early.difference(&applied);
        early.union_with(&document.not_applied(dead));
        let early = core::mem::replace(&mut self.early, early);
        self.steps.push_back(Step { applied, early });
    }

    /// The whole state at the first version that the document was at, of those remembered, which
    /// covers `wanted`; `None` where it cannot be told.
    pub(super) fn first_covering(&self, wanted: &Version, document: &Document) -> Option<Delta> {
        let newest_first = self.steps.iter().rev();
        let after = newest_first.take_while(|step| !step.applied.intersects(wanted));
        let (mut version, mut early) = (document.version(), &self.early);
        for step in after {
            version = version.difference(&step.applied);
            early = &step.early;
        }
        let mut delta = document.as_of(&version)?.snapshot();
        delta.dead = early.clone();
        Some(delta)
    }
}
