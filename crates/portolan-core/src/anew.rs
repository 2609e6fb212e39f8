//! Going on from another replica's whole state: for one that comes back after the others have let
//! go of what it still refers to.
//!
//! The order of an array's positions can only be told among those that nobody has let go of. So
//! the replica takes over the state of one that was not away, as a fresh one would, and then what
//! it has applied and the other has not: under its own dots where it has a place there; else (an
//! element beside one that is gone, or a write to one that is gone) by its [image], while one new
//! operation removes the old ones. All of that is ordinary operations to everybody else.

use alloc::vec;
use alloc::vec::Vec;

mod again;
mod image;
mod lost;

use crate::containers::Form;
use crate::delta::Delta;
use crate::document::Document;
use crate::dots::DotSet;
use crate::key::Key;
use crate::replica::Dot;
use crate::sequence::Spot;
use crate::value::Value;
use lost::Lost;

/// Why a delta cannot be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// It refers to what was let go of here: the sender has been left behind.
    Theirs,
    /// It presupposes that something was let go of that is held here, or was let go of without
    /// what it brings: this replica has been left behind.
    Ours,
}

impl Document {
    /// Whether a delta by a peer cannot be applied, since one of the two was not waited for when
    /// positions were let go of. From a visitor, for whom nobody has waited, what is sealed here may
    /// be gone elsewhere, and counts as gone; so does what was `refused` before. Costs nothing for a
    /// delta of maps at the root.
    pub(crate) fn misfit_of_peer(
        &self,
        delta: &Delta,
        refused: &DotSet,
        visits: bool,
    ) -> Option<Misfit> {
        let is_gone = |spot: Spot| visits && self.elements[spot].is_sealed();
        let nested = delta.nested.as_deref()?;
        let here = |dot: Dot| {
            let known = self.replicas.by_id(dot.replica);
            known.is_some_and(|known| known.applied.contains(dot))
        };
        let gone = |dot: Dot| {
            let had = here(dot) && self.spot(dot).is_none_or(is_gone);
            had || refused.contains(dot) && !delta.applied.contains(dot)
        };
        let mut inside = vec![false; nested.containers.len() + 1];
        for (number, container) in (1..).zip(&nested.containers) {
            let element = match container.key {
                Key::Element(id) => gone(id),
                _ => false,
            };
            inside[number] = element || inside[container.parent as usize];
        }
        for run in &nested.runs {
            let dots = DotSet::from_range(run.replica, run.first, run.last());
            if self.replicas.covers(&dots) {
                continue;
            }
            let origin = run.parent.is_some_and(gone) || run.of.is_some_and(gone);
            if origin || inside[run.container as usize] {
                return Some(Misfit::Theirs);
            }
            if let Some(((_, replica, seq), _)) = run.adopted
                && here(Dot::new(replica, seq))
            {
                return Some(Misfit::Ours);
            }
        }
        for entry in &delta.entries {
            let Some(at) = entry.container.checked_sub(1) else {
                continue;
            };
            let form = nested.containers[at as usize].form;
            if is_note(form, &entry.value) {
                continue; // of a counter that has gone with its element: it stays as it is
            }
            let of_element = matches!(form, Form::Array | Form::Moves);
            let lost = match entry.key {
                Key::Element(id) if of_element => gone(id),
                _ => false,
            };
            if (lost || inside[entry.container as usize]) && !here(entry.dot) {
                return Some(Misfit::Theirs);
            }
        }
        None
    }

    /// Takes over another replica's whole state, and then what is applied here and not there.
    /// Gives the dots of the values and elements that were done again, each with its new one.
    /// Costs both states.
    pub(crate) fn begin_anew(&mut self, whole: &Delta, now: u64) -> Vec<(Dot, Dot)> {
        let mut again = Vec::new();
        let mut anew = Document::with_hash_seed(self.replica(), self.index.seed());
        anew.apply(whole);
        anew.clock.observe(self.clock.last());
        anew.renamings = core::mem::take(&mut self.renamings);
        let beyond = self.replicas.applied_beyond(&anew.version());
        if !beyond.is_empty() {
            let mut delta = self.delta_of(&beyond);
            let lost = Lost::take_from(&mut delta, &anew);
            anew.apply(&delta);
            again = lost.restore(self, &mut anew, now);
        }
        anew.keep_past(self.past_limit());
        // What was removed before it came is not known: nor what own operations had removed of it.
        anew.forget_past();
        anew.observe(self.recorder.is_some());
        *self = anew;
        again
    }
}

/// Whether it is a note of what a reset of a counter has seen.
fn is_note(form: Form, value: &Value) -> bool {
    form == Form::Counter && !form.keeps(value)
}

#[cfg(all(test, feature = "digest"))]
mod tests;
