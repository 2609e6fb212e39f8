//! Range-based set reconciliation: which live operations do two replicas not share?
//!
//! After Meyer, *Range-Based Set Reconciliation* (SRDS 2023), with one side that asks and one that
//! answers. Both look at the same operations, the [`Domain`]: ones that both have applied. The
//! asking side cuts it into spans that hold about as many live operations each, and tells the
//! fingerprint of each span; the other says which of them are not what it holds; those are cut
//! again, until a span is as fine as it is worth. So an answer is never longer than its question,
//! and a question is as long as what turned out to differ.
//!
//! What is live in the domain can only become less while this goes on: a span that was found
//! equal holds nothing that one side knows to be dead, as of the start, and the other holds live.

use alloc::vec;
use alloc::vec::Vec;

use crate::dots::{DotRange, DotSet};
use crate::live::{BLOCK, PAGE};
use crate::tally::Tally;

/// Into how many spans the whole domain is cut at first: one round less for some three kilobytes.
const FIRST_CUT: u64 = 256;
/// Into how many a span is cut that was found to differ.
const CUT: u64 = 16;
/// Most spans in one question (some 50 kB). What differs more is cheaper to send.
pub(crate) const MAX_SPANS: usize = 4096;
/// Most questions of one search. Each cuts into sixteen, so that no document needs as many.
const MAX_ROUNDS: u32 = 24;
/// Most ranges of dots in a domain: with more replicas than this, telling it is too dear.
pub(crate) const MAX_DOMAIN_RANGES: usize = 50_000;

/// What is live at a replica.
pub(crate) trait Holdings {
    /// What the live operations of a range amount to.
    fn tally(&self, range: DotRange) -> Tally;
    /// Calls `each` for the units of numbers in the range that hold live operations, ascending:
    /// the last number of each, not beyond the range, and about how many are live in it. A unit is
    /// a block, a page, or one operation, the largest that is at most a quarter of `quota`.
    fn units(&self, range: DotRange, quota: u64, each: &mut dyn FnMut(u64, u64));
}

/// How many numbers a unit has at the most.
pub(crate) fn unit(quota: u64) -> u64 {
    [BLOCK, PAGE]
        .into_iter()
        .find(|unit| *unit <= quota / 4)
        .unwrap_or(1)
}

/// Operations that both sides have applied, in the order of replica and number, and numbered by
/// it: position 0 is the first. A span of them needs no replica ids.
#[derive(Debug)]
pub(crate) struct Domain {
    dots: DotSet,
    /// The position of the first dot of each range.
    starts: Vec<u64>,
    len: u64,
}

impl Domain {
    /// `None` where it is empty, or too large to be told.
    pub(crate) fn new(dots: DotSet) -> Option<Self> {
        let mut len = 0u64;
        if dots.is_empty() || dots.ranges().len() > MAX_DOMAIN_RANGES {
            return None;
        }
        let mut starts = Vec::with_capacity(dots.ranges().len());
        for range in dots.ranges() {
            starts.push(len);
            len = len.checked_add(range.last - range.first + 1)?;
        }
        Some(Self { dots, starts, len })
    }

    pub(crate) fn dots(&self) -> &DotSet {
        &self.dots
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The ranges of dots that make up a span, each with the position of its first.
    fn pieces(&self, span: Span) -> impl Iterator<Item = (u64, DotRange)> + '_ {
        let from = self.starts.partition_point(|start| *start <= span.first);
        let ranges = self.starts.iter().zip(self.dots.ranges());
        let ranges = ranges.skip(from.saturating_sub(1));
        let touched = ranges.take_while(move |(start, _)| **start < span.end);
        touched.map(move |(start, range)| {
            let first = span.first.max(*start);
            let last = (span.end - 1).min(start + (range.last - range.first));
            let piece = DotRange {
                replica: range.replica,
                first: range.first + (first - start),
                last: range.first + (last - start),
            };
            (first, piece)
        })
    }

    /// What is live in a span.
    fn tally(&self, span: Span, held: &impl Holdings) -> Tally {
        let mut tally = Tally::default();
        for (_, piece) in self.pieces(span) {
            tally += held.tally(piece);
        }
        tally
    }
}

/// Consecutive positions in a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) first: u64,
    /// The position behind the last.
    pub(crate) end: u64,
}

/// A span in a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) span: Span,
    pub(crate) print: u64,
}

/// Half of the sum's bits is enough to compare: what they miss by chance, the digest shows.
fn short(tally: Tally) -> u64 {
    let sum = tally.sum();
    (sum ^ (sum >> 64)) as u64
}

/// The parts of a question that are not what is held here, by their place in it. The parts ascend
/// and lie within the domain.
pub(crate) fn unequal(domain: &Domain, parts: &[Part], held: &impl Holdings) -> Vec<u32> {
    let differs = |part: &Part| short(domain.tally(part.span, held)) != part.print;
    let numbered = (0..).zip(parts).filter(|(_, part)| differs(part));
    numbered.map(|(number, _)| number).collect()
}

/// The asking side's state.
#[derive(Debug)]
pub(crate) struct Search {
    domain: Domain,
    /// A span with no more live operations than this is not cut.
    grain: u64,
    /// Spans that differ and are to be cut, each with how many live operations it held here.
    open: Vec<(Span, u64)>,
    /// What was asked last.
    asked: Vec<(Span, u64)>,
    /// Spans that differ and are not cut.
    found: Vec<Span>,
    rounds: u32,
}

impl Search {
    /// A search for what differs, down to spans of at most `grain` live operations here.
    pub(crate) fn new(domain: Domain, grain: u64, held: &impl Holdings) -> Self {
        let whole = Span {
            first: 0,
            end: domain.len(),
        };
        let count = domain.tally(whole, held).count;
        Self {
            domain,
            grain: grain.max(1),
            open: vec![(whole, count)],
            asked: Vec::new(),
            found: Vec::new(),
            rounds: 0,
        }
    }

    pub(crate) fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The number of the question that waits for its answer, from 1.
    pub(crate) fn round(&self) -> u32 {
        self.rounds
    }

    /// The next question; `None` when the search is over.
    pub(crate) fn ask(&mut self, held: &impl Holdings) -> Option<Vec<Part>> {
        let open = core::mem::take(&mut self.open);
        let room = (MAX_SPANS / 2) as u64 / (open.len() as u64).max(1);
        let cut = if self.rounds == 0 { FIRST_CUT } else { CUT }.min(room);
        if cut < 2 || self.rounds == MAX_ROUNDS {
            self.found.extend(open.into_iter().map(|(span, _)| span));
            return None;
        }
        let mut parts = Vec::new();
        for (span, count) in open {
            let quota = count.div_ceil(cut).max(self.grain);
            for span in self.cut(span, quota, held) {
                let tally = self.domain.tally(span, held);
                self.asked.push((span, tally.count));
                let print = short(tally);
                parts.push(Part { span, print });
            }
        }
        if parts.len() > MAX_SPANS {
            self.give_up();
            return None;
        }
        self.rounds += u32::from(!parts.is_empty());
        Some(parts).filter(|parts| !parts.is_empty())
    }

    /// Spans that make up this one and hold about `quota` live operations each.
    fn cut(&self, span: Span, quota: u64, held: &impl Holdings) -> Vec<Span> {
        let mut spans = Vec::new();
        let (mut first, mut sum, mut end) = (span.first, 0, span.first);
        for (start, piece) in self.domain.pieces(span) {
            held.units(piece, quota, &mut |last, count| {
                if sum > 0 && sum + count > quota {
                    spans.push(Span { first, end });
                    (first, sum) = (end, 0);
                }
                sum += count;
                end = start + (last - piece.first) + 1;
            });
        }
        spans.push(Span {
            first,
            end: span.end,
        });
        spans
    }

    /// Takes in which parts of the question differ, by their place in it, ascending. False where
    /// there is no such part.
    pub(crate) fn hear(&mut self, unequal: &[u32]) -> bool {
        if unequal
            .last()
            .is_some_and(|last| *last as usize >= self.asked.len())
        {
            return false;
        }
        let asked = core::mem::take(&mut self.asked);
        for number in unequal {
            let (span, count) = asked[*number as usize];
            if count <= self.grain {
                self.found.push(span);
            } else {
                self.open.push((span, count));
            }
        }
        true
    }

    /// Stops here: what is not known to be equal counts as different.
    pub(crate) fn give_up(&mut self) {
        let rest = self.open.drain(..).chain(self.asked.drain(..));
        self.found.extend(rest.map(|(span, _)| span));
    }

    /// The operations among which all differences are.
    pub(crate) fn suspects(mut self) -> DotSet {
        self.give_up();
        self.found.sort_unstable_by_key(|span| span.first);
        let mut dots = DotSet::new();
        for span in &self.found {
            for (_, piece) in self.domain.pieces(*span) {
                dots.push(piece);
            }
        }
        dots
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::replica::{Dot, ReplicaId};

    /// Live operations with their fingerprints.
    #[derive(Clone, Default)]
    struct Model(BTreeMap<Dot, u128>);

    impl Model {
        fn range(&self, range: DotRange) -> impl Iterator<Item = (u64, u128)> + '_ {
            let dot = |seq| Dot::new(range.replica, seq);
            let held = self.0.range(dot(range.first)..=dot(range.last));
            held.map(|(dot, print)| (dot.seq, *print))
        }
    }

    impl Holdings for Model {
        fn tally(&self, range: DotRange) -> Tally {
            let mut tally = Tally::default();
            for (_, print) in self.range(range) {
                tally += Tally::of(print);
            }
            tally
        }

        fn units(&self, range: DotRange, quota: u64, each: &mut dyn FnMut(u64, u64)) {
            let unit = unit(quota);
            let seqs: Vec<u64> = self.range(range).map(|(seq, _)| seq).collect();
            for group in seqs.chunk_by(|a, b| a / unit == b / unit) {
                let last = (group[0] / unit * unit + (unit - 1)).min(range.last);
                each(last, group.len() as u64);
            }
        }
    }

    fn print(dot: Dot) -> u128 {
        let bytes = [dot.replica.get(), dot.seq].map(u64::to_le_bytes);
        xxhash_rust::xxh3::xxh3_128(bytes.as_flattened())
    }

    /// What a search finds, in how many rounds, and the spans in all its questions.
    fn search(domain: &DotSet, grain: u64, asks: &Model, answers: &Model) -> (DotSet, u32, usize) {
        let domain = || Domain::new(domain.clone()).expect("it is small");
        let mut search = Search::new(domain(), grain, asks);
        let mut spans = 0;
        while let Some(parts) = search.ask(asks) {
            assert!(parts.len() <= MAX_SPANS);
            assert!(parts.iter().all(|part| part.span.first < part.span.end));
            assert!(parts.is_sorted_by(|a, b| a.span.end <= b.span.first));
            spans += parts.len();
            let unequal = unequal(&domain(), &parts, answers);
            assert!(search.hear(&unequal));
        }
        let rounds = search.round();
        (search.suspects(), rounds, spans)
    }

    fn difference(a: &Model, b: &Model) -> BTreeSet<Dot> {
        let one =
            a.0.iter()
                .filter(|(dot, print)| b.0.get(dot) != Some(print));
        let other = b.0.keys().filter(|dot| !a.0.contains_key(dot));
        one.map(|(dot, _)| *dot).chain(other.copied()).collect()
    }

    fn some_dots() -> impl Strategy<Value = DotSet> {
        prop::collection::vec((1..5u64, 1..2_000u64, 0..400u64), 1..8).prop_map(|ranges| {
            let mut dots = DotSet::new();
            for (replica, first, more) in ranges {
                dots.insert_range(ReplicaId::new(replica), first, first + more);
            }
            dots
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn all_that_differs_is_found_and_little_else(
            domain in some_dots(),
            density in 1..=10u64,
            changes in prop::collection::vec((any::<prop::sample::Index>(), 0..3u8), 0..60),
            grain in prop::sample::select(vec![1, 16u64]),
        ) {
            let dots: Vec<Dot> = domain.iter().collect();
            let live = dots.iter().filter(|dot| (print(**dot) % 10) < u128::from(density));
            let mut asks = Model(live.map(|dot| (*dot, print(*dot))).collect());
            let mut answers = asks.clone();
            // What is live outside of the domain is nobody's concern.
            asks.0.insert(Dot::new(ReplicaId::new(3), 9_000), 1);
            answers.0.insert(Dot::new(ReplicaId::new(9), 1), 1);
            for (pick, how) in changes {
                let dot = dots[pick.index(dots.len())];
                match how {
                    0 => drop(asks.0.remove(&dot)),
                    1 => drop(answers.0.remove(&dot)),
                    _ => drop(asks.0.insert(dot, 7)),
                }
            }
            let (found, rounds, _) = search(&domain, grain, &asks, &answers);
            let differs: BTreeSet<Dot> = difference(&asks, &answers)
                .into_iter()
                .filter(|dot| domain.contains(*dot))
                .collect();
            prop_assert!(domain.covers(&found));
            prop_assert!(differs.iter().all(|dot| found.contains(*dot)));
            prop_assert!(rounds <= 4, "{} rounds", rounds);
            // Each span that was found holds a difference, and few live operations.
            let live = asks.0.keys().filter(|dot| found.contains(**dot)).count();
            prop_assert!(live <= differs.len() * grain as usize, "{live} of {}", differs.len());
        }
    }

    #[test]
    fn spans_asked_for_grow_with_the_difference_and_the_logarithm() {
        for (n, most) in [(10_000u64, 600), (100_000, 900)] {
            let domain = DotSet::from_range(ReplicaId::new(1), 1, n);
            let asks = Model(domain.iter().map(|dot| (dot, print(dot))).collect());
            let mut answers = asks.clone();
            for i in 0..10 {
                answers
                    .0
                    .remove(&Dot::new(ReplicaId::new(1), i * (n / 10) + 7));
            }
            let (found, rounds, spans) = search(&domain, 16, &asks, &answers);
            assert!(
                difference(&asks, &answers)
                    .iter()
                    .all(|dot| found.contains(*dot))
            );
            assert!(found.len() <= 160);
            assert!(
                rounds <= 3 && spans <= most,
                "{rounds} rounds, {spans} spans"
            );
        }
    }

    #[test]
    fn what_differs_everywhere_is_given_up_and_not_asked_for_piece_by_piece() {
        let domain = DotSet::from_range(ReplicaId::new(1), 1, 200_000);
        let asks = Model(domain.iter().map(|dot| (dot, print(dot))).collect());
        let (found, _, spans) = search(&domain, 1, &asks, &Model::default());
        assert_eq!(found, domain);
        assert!(spans <= 2 * MAX_SPANS, "{spans} spans");
        let (found, ..) = search(&domain, 1, &Model::default(), &asks);
        assert_eq!(found, domain);
    }

    #[test]
    fn an_answer_about_what_was_not_asked_is_refused() {
        let domain = DotSet::from_range(ReplicaId::new(1), 1, 10);
        let domain = Domain::new(domain).expect("it is small");
        let mut search = Search::new(domain, 1, &Model::default());
        let parts = search.ask(&Model::default()).expect("a question");
        assert!(!search.hear(&[parts.len() as u32]));
        assert!(search.hear(&[]));
        assert_eq!(search.ask(&Model::default()), None);
        assert!(search.suspects().is_empty());
    }

    #[test]
    fn a_domain_that_cannot_be_told_is_none() {
        assert!(Domain::new(DotSet::new()).is_none());
        let mut dots = DotSet::from_range(ReplicaId::new(1), 1, u64::MAX - 1);
        dots.insert_range(ReplicaId::new(2), 1, 5);
        assert!(Domain::new(dots).is_none());
    }
}
