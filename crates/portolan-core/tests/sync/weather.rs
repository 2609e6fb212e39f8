//! What a network does to the frames on its way.

use std::collections::VecDeque;

use bytes::Bytes;
use portolan_core::sync::Frame;
use proptest::prelude::*;

use crate::network::Network;

/// Something that happens to a link, or to one direction of it.
#[derive(Clone, Debug)]
pub(crate) enum Weather {
    Deliver(usize, usize, u8),
    Lose(usize, usize),
    Double(usize, usize, u8),
    Swap(usize, usize, u8),
    Cut(usize),
}

/// Mostly frames arrive.
pub(crate) fn weather() -> impl Strategy<Value = Weather> {
    use Weather::*;
    let (link, end) = (0..8usize, 0..2usize);
    prop_oneof![
        12 => (link.clone(), end.clone(), 1..8u8).prop_map(|(l, e, c)| Deliver(l, e, c)),
        2 => (link.clone(), end.clone()).prop_map(|(l, e)| Lose(l, e)),
        2 => (link.clone(), end.clone(), any::<u8>()).prop_map(|(l, e, p)| Double(l, e, p)),
        2 => (link.clone(), end, any::<u8>()).prop_map(|(l, e, p)| Swap(l, e, p)),
        1 => link.prop_map(Cut),
    ]
}

impl Network {
    pub(crate) fn suffer(&mut self, weather: &Weather) {
        match *weather {
            Weather::Deliver(link, from, count) => {
                self.collect();
                for _ in 0..count {
                    if link < self.links.len() {
                        self.deliver(link, from);
                    }
                }
            }
            Weather::Lose(link, from) => self.disturb(link, from, |frames| {
                frames.pop_front();
            }),
            Weather::Double(link, from, place) => self.disturb(link, from, |frames| {
                let again = frames[place as usize % frames.len()].clone();
                frames.push_back(again);
            }),
            Weather::Swap(link, from, place) => self.disturb(link, from, |frames| {
                let len = frames.len();
                frames.swap(0, place as usize % len);
            }),
            Weather::Cut(link) => {
                if link < self.links.len() {
                    self.cut(link);
                }
            }
        }
    }

    /// Does something to the frames of a wire, hellos excepted: they are a session's first frames
    /// on any transport.
    pub(crate) fn disturb(
        &mut self,
        link: usize,
        from: usize,
        f: impl FnOnce(&mut VecDeque<Bytes>),
    ) {
        self.collect();
        let Some(link) = self.links.get_mut(link) else {
            return;
        };
        let frames = &mut link.wires[from].frames;
        let hello =
            |bytes: &Bytes| Frame::decode(bytes.clone()).is_ok_and(|frame| frame.hello().is_some());
        if !frames.is_empty() && !frames.iter().any(hello) {
            f(frames);
        }
    }
}
