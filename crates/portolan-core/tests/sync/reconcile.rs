//! Catch-up where the log of removals is gone, and repair of what differs: by ranges.

use std::sync::LazyLock;

use portolan_core::sync::{Access, Config, Event, ProtocolError};
use portolan_core::{Delta, Document, DotSet, ReplicaId};
use proptest::prelude::*;

use crate::network::{NAME, Network, START};
use crate::raw::{seal, varint};

const KEYS: u64 = 5_000;

fn config() -> Config {
    Config {
        brief_ranges: 10,
        ..Config::default()
    }
}

fn key(i: u64) -> String {
    format!("key/{i:05}")
}

/// What a writer left: every key overwritten once, in another order, but for each third.
static PAST: LazyLock<Delta> = LazyLock::new(|| {
    let mut writer = Document::new(ReplicaId::new(77));
    for i in 0..KEYS {
        writer.set(START, key(i), i as i64).unwrap();
    }
    for i in (0..KEYS).map(|i| i * 7 % KEYS).filter(|i| i % 3 != 0) {
        writer.set(START, key(i), -(i as i64)).unwrap();
    }
    writer.snapshot()
});

fn copy(id: u64) -> Document {
    let mut document = Document::new(ReplicaId::new(id));
    document.apply(&PAST);
    document
}

/// Changes some keys, and forgets what that removed.
fn diverge(document: &mut Document, salt: u64) {
    for i in 0..5 {
        let at = (i * 577 + salt) % KEYS;
        document.set(START + 1, key(at), "changed").unwrap();
        document.unset(START + 1, key((at + 100) % KEYS).as_str());
    }
    document.prune_log(&document.version());
}

/// Two that were one, of which the first has changed since, or both.
fn apart(both: bool) -> Network {
    let mut net = Network::new();
    for id in [1, 2] {
        let mut document = copy(id);
        if id == 1 || both {
            diverge(&mut document, id * 31);
        }
        net.add_document(document, false, config());
    }
    net
}

fn bytes(net: &Network) -> usize {
    net.log.iter().map(|(.., length)| length).sum()
}

#[test]
fn where_the_log_is_gone_bytes_follow_the_difference() {
    for both in [false, true] {
        let mut net = apart(both);
        let snapshot = net.replica(0).document().encode().len();
        let link = net.join(0, 1);
        net.settle();
        net.assert_converged();
        assert!(net.count("compare") >= 2, "{:?}", net.log);
        assert!(net.is_ready(link, 0) && net.is_ready(link, 1));
        let limit = if both { 16_000 } else { 8_000 };
        assert!(bytes(&net) < limit, "{} of {snapshot}", bytes(&net));
        let batches = |event: &&Event| matches!(event, Event::Changed(_));
        assert_eq!(net.nodes[1].events.iter().filter(batches).count(), 1);
    }
}

#[test]
fn who_has_nothing_is_sent_the_state_without_questions() {
    let mut net = apart(false);
    net.add(false, config());
    net.join(2, 0);
    net.settle();
    assert_eq!(net.count("compare"), 0);
    assert_eq!(
        net.replica(2).document().encode(),
        net.replica(0).document().encode()
    );
}

#[test]
fn a_kept_log_answers_without_questions() {
    let mut net = Network::new();
    for id in [1, 2] {
        net.add_document(copy(id), false, config());
    }
    net.set(0, &key(5), "changed");
    net.unset(0, &key(6));
    net.join(0, 1);
    net.settle();
    net.assert_converged();
    assert_eq!(net.count("compare"), 0);
}

#[test]
fn a_search_that_is_cut_off_leaves_no_trace_and_is_begun_anew() {
    for frames in 0..8 {
        let mut net = apart(true);
        let before = [0, 1].map(|at| net.replica(at).version().clone());
        let link = net.join(0, 1);
        'cut: for _ in 0..100 {
            net.collect();
            for from in 0..2 {
                if net.count("compare") + net.count("compared") >= frames {
                    break 'cut;
                }
                net.deliver(link, from);
            }
        }
        net.cut(link);
        // What each had is applied at the other whole, or not at all.
        for (at, had) in before.iter().enumerate() {
            let other = net.replica(1 - at).version();
            let new = had.difference(&before[1 - at]);
            assert!(other.covers(&new) || !other.intersects(&new));
        }
        net.set(0, &key(9), "meanwhile");
        net.join(1, 0);
        net.settle();
        net.assert_converged();
    }
}

#[test]
fn a_lost_question_or_answer_costs_time_and_nothing_else() {
    for lost in 0..6 {
        for twice in [false, true] {
            let mut net = apart(true);
            let link = net.join(0, 1);
            let mut seen = 0;
            for _ in 0..200 {
                net.collect();
                for from in 0..2 {
                    let Some(frame) = net.links[link].wires[from].frames.front().cloned() else {
                        continue;
                    };
                    let talk = matches!(frame[0], 11 | 12);
                    seen += usize::from(talk);
                    if talk && seen == lost + 1 {
                        if twice {
                            net.hand_over(link, from, frame);
                            net.deliver(link, from);
                        } else {
                            net.links[link].wires[from].frames.pop_front();
                        }
                    } else {
                        net.deliver(link, from);
                    }
                }
            }
            net.pass(40_000);
            net.assert_converged();
            assert_eq!(net.errors, []);
        }
    }
}

#[test]
fn what_was_dead_before_it_came_is_told_to_who_got_it_during_the_search() {
    // The first knows a removal, and not what it removed; the third has what it removed.
    let (mut writer, mut remover) = (copy(3), copy(9));
    writer.set(START + 1, "late", 1).unwrap();
    remover.apply(&writer.delta_since(PAST.applied()));
    remover.unset(START + 2, "late");
    let removal = remover.delta_of(&DotSet::from_range(ReplicaId::new(9), 1, 1));
    let mut first = copy(1);
    first.apply(&removal);
    diverge(&mut first, 0);
    let mut net = Network::new();
    for document in [first, copy(2), writer] {
        net.add_document(document, false, config());
    }
    let link = net.join(0, 1);
    let question = |net: &Network| {
        let frames = &net.links[link].wires[0].frames;
        frames.front().is_some_and(|frame| frame[0] == 11)
    };
    for _ in 0..20 {
        net.collect();
        if !question(&net) {
            net.deliver(link, 0);
        }
        net.deliver(link, 1);
    }
    assert!(question(&net));
    // It reaches both, and the second passes it on to the first while the question waits.
    let write = Access {
        read: false,
        write: true,
    };
    let others = [0, 1].map(|to| net.join_with(2, to, write, write));
    for _ in 0..50 {
        net.collect();
        for other in others {
            net.deliver(other, 0);
            net.deliver(other, 1);
        }
        net.deliver(link, 1);
    }
    assert_eq!(net.get(1, "late"), Some(1.into()));
    net.cut(others[0]);
    net.cut(others[1]);
    net.settle();
    assert_eq!(net.get(1, "late"), None);
    net.join(2, 1);
    net.settle();
    net.assert_converged();
}

#[test]
fn what_differs_everywhere_ends_the_questions_early() {
    let mut net = Network::new();
    let mut here = copy(1);
    for i in (0..KEYS).filter(|i| i % 2 == 0) {
        here.unset(START, key(i).as_str());
    }
    here.prune_log(&here.version());
    net.add_document(here, false, config());
    net.add_document(copy(2), false, config());
    net.join(0, 1);
    net.settle();
    net.assert_converged();
    assert!(net.count("compare") <= 2);
}

/// One version, of which each holds what the other does not, or holds otherwise.
fn damaged(durable: bool, config: &Config) -> Network {
    let mut net = Network::new();
    for id in [1u64, 2] {
        let mut writer = copy(77);
        for i in 0..40 {
            // On each side other keys are missing, and one value is not the same.
            let lost = i % 2 == id - 1;
            writer
                .transact(START, |tx| {
                    let place = if lost {
                        "nowhere".to_owned()
                    } else {
                        format!("new/{i}")
                    };
                    tx.set(place, if i == 20 { id as i64 } else { 5 })
                })
                .unwrap();
        }
        writer.unset(START, "nowhere");
        let mut document = Document::new(ReplicaId::new(id));
        document.apply(&writer.snapshot());
        net.add_document(document, durable, config.clone());
    }
    assert_eq!(net.replica(0).version(), net.replica(1).version());
    net
}

#[test]
fn damage_is_found_by_ranges_repaired_and_reported() {
    for durable in [false, true] {
        let mut net = damaged(durable, &config());
        net.join(0, 1);
        net.settle();
        net.log.clear();
        net.pass(30_000);
        net.assert_converged();
        assert!(net.count("compare") >= 2);
        assert!(bytes(&net) < 16_000, "{}", bytes(&net));
        let mut total = 0;
        for node in 0..2 {
            let told = net.nodes[node].events.iter().find_map(|event| match event {
                Event::Repaired { values, .. } => Some(*values),
                _ => None,
            });
            assert!(net.has_event(node, |e| matches!(e, Event::Diverged { .. })));
            assert_eq!(told, Some(net.replica(node).repaired()));
            total += told.unwrap_or(0);
        }
        assert!(total >= 39, "{total}");
        net.log.clear();
        net.pass(300_000);
        assert_eq!(net.count("compare") + net.count("part"), 0);
    }
}

#[test]
fn a_repair_by_ranges_ends_as_one_of_whole_states_does() {
    let mut whole = damaged(
        false,
        &Config {
            brief_ranges: usize::MAX,
            ..Config::default()
        },
    );
    let mut ranges = damaged(false, &config());
    for net in [&mut whole, &mut ranges] {
        net.join(0, 1);
        net.pass(30_000);
        net.assert_converged();
    }
    assert_eq!(whole.count("compare"), 0);
    assert_eq!(
        whole.replica(0).document().encode(),
        ranges.replica(0).document().encode()
    );
}

#[test]
fn who_may_only_read_is_repaired_and_repairs_nothing() {
    let mut net = damaged(false, &config());
    let read = Access {
        read: true,
        write: false,
    };
    let server = net.replica(1).document().encode();
    net.join_with(0, 1, read, read);
    net.pass(90_000);
    assert_eq!(net.errors, []);
    assert_eq!(net.replica(1).document().encode(), server);
    assert!(net.replica(0).repaired() >= 19);
}

/// A question by hand: spans of one position each.
fn question(search: u64, round: u64, domain: Option<(u64, u64)>, spans: &[u64]) -> bytes::Bytes {
    let mut out = vec![11, 70];
    varint(&mut out, search);
    varint(&mut out, round);
    out.push(u8::from(domain.is_some()));
    if let Some((replica, last)) = domain {
        out.push(1);
        out.extend_from_slice(&replica.to_le_bytes());
        out.push(1);
        varint(&mut out, 0);
        varint(&mut out, last - 1);
    }
    varint(&mut out, spans.len() as u64);
    let mut end = 0;
    for span in spans {
        varint(&mut out, span - end);
        out.push(0);
        out.extend_from_slice(&[9; 8]);
        end = span + 1;
    }
    seal(out).into()
}

fn pair() -> (Network, usize) {
    let mut net = Network::of(2);
    for i in 0..10 {
        net.set(0, &key(i), 1);
    }
    let link = net.join(0, 1);
    net.settle();
    net.log.clear();
    (net, link)
}

#[test]
fn spans_outside_of_what_is_searched_are_refused() {
    let (mut net, link) = pair();
    net.hand_over(link, 0, question(1, 1, Some((1, 10)), &[3, 10]));
    assert!(matches!(net.errors[..], [(1, ProtocolError::Frame(_))]));
    let (mut net, link) = pair();
    net.hand_over(link, 0, question(1, 1, Some((1, 10)), &[3, 9]));
    net.hand_over(link, 0, question(1, 2, None, &[3, 10]));
    assert!(matches!(net.errors[..], [(1, ProtocolError::Frame(_))]));
}

#[test]
fn a_search_among_what_is_not_here_is_answered_with_what_is() {
    let (mut net, link) = pair();
    net.hand_over(link, 0, question(1, 1, Some((1, 11)), &[3]));
    net.settle();
    assert_eq!((net.count("compared"), net.count("want")), (0, 1));
    assert_eq!(net.errors, []);
}

#[test]
fn questions_that_belong_to_no_search_are_ignored() {
    let (mut net, link) = pair();
    net.hand_over(link, 0, question(1, 2, None, &[3]));
    net.hand_over(link, 0, question(1, 1, Some((1, 10)), &[3]));
    net.hand_over(link, 0, question(2, 2, None, &[3]));
    net.settle();
    assert_eq!(net.count("compared"), 1);
    // And answers to what was not asked.
    net.hand_over(link, 0, seal(vec![12, 70, 1, 1, 1, 0]).into());
    net.settle();
    assert_eq!(net.errors, []);
}

#[test]
fn who_asks_and_does_not_read_costs_one_short_answer() {
    let (mut net, link) = pair();
    let session = net.session(link, 1);
    for round in 1..1_000 {
        let asked = question(1, round, Some((1, 10)), &[0, 3, 5, 9]);
        let length = asked.len();
        net.hand_over(link, 0, asked);
        if round == 999 {
            let now = net.now;
            let replica = &mut net.nodes[1].replica;
            let answer = replica.poll_frame(session, now).expect("one answer");
            assert!(answer.len() < length);
            assert_eq!(replica.poll_frame(session, now), None);
        }
    }
}

#[test]
fn who_may_only_write_learns_nothing_by_asking() {
    let mut net = Network::of(2);
    let write = Access {
        read: false,
        write: true,
    };
    net.set(0, "a", 1);
    let link = net.join_with(0, 1, write, write);
    net.settle();
    net.hand_over(link, 0, question(1, 1, Some((1, 1)), &[0]));
    assert_eq!(net.errors, [(1, ProtocolError::NotReadable)]);
    // A catch-up to a peer that does not answer names all that is dead.
    let mut net = apart(false);
    net.join_with(0, 1, write, write);
    net.settle();
    net.assert_converged();
    assert_eq!((net.count("compare"), NAME), (0, "fleet/config"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(12)
    ))]

    /// Three replicas, of which the first two have lost their logs; whatever is written, wherever,
    /// between any two frames, and whichever link is cut.
    #[test]
    fn all_may_write_while_they_search(
        steps in prop::collection::vec((0..3usize, 0..8u8, any::<u64>()), 10..120),
    ) {
            let mut net = Network::new();
        for id in [1, 2, 3] {
            let mut document = copy(id);
            if id < 3 {
                diverge(&mut document, id * 31);
            }
            net.add_document(document, false, config());
        }
        let ends = [[0, 1], [1, 2], [2, 0]];
        let mut links = ends.map(|[a, b]| net.join(a, b));
        for (at, what, salt) in steps {
            net.collect();
            match what {
                0 => net.set(at, &key(salt % KEYS), salt as i64),
                1 => net.unset(at, &key(salt % KEYS)),
                2 if salt % 4 == 0 => {
                    net.cut(links[at]);
                    links[at] = net.join(ends[at][0], ends[at][1]);
                }
                3 if salt % 4 == 0 => net.pass(salt % 10_000),
                _ => drop(net.deliver(links[at], (salt % 2) as usize)),
            }
        }
        net.pass(120_000);
        net.assert_converged();
        prop_assert_eq!(&net.errors, &[]);
        let diverged = |e: &Event| matches!(e, Event::Diverged { .. });
        prop_assert!((0..3).all(|node| !net.has_event(node, diverged)));
    }
}
