//! Time passes: frames arrive, timers run out, disks sync, nodes start and answer.

use portolan_core::sync::{Access, Event, Frame, Replica};
use portolan_sim::Shown;

use super::{Arrival, World};

impl World {
    /// Lets time pass, doing all that is due on the way.
    pub(super) fn advance(&mut self, until: u64) {
        loop {
            for at in 0..self.nodes.len() {
                self.start_if_due(at);
            }
            for link in 0..self.links.len() {
                self.dial_if_due(link);
            }
            for at in 0..self.nodes.len() {
                self.settle(at);
            }
            let next = self.next_event().max(self.now + 1);
            if next > until {
                self.now = until;
                return;
            }
            self.now = next;
            while let Some(entry) = self.arrivals.first_entry()
                && entry.key().0 <= self.now
            {
                let arrival = entry.remove();
                self.arrive(arrival);
            }
            for at in 0..self.nodes.len() {
                self.sync_if_due(at);
                let node = &mut self.nodes[at];
                let now = self.now + node.skew;
                if let Some(replica) = &mut node.replica
                    && replica.timeout().is_some_and(|due| due <= now)
                {
                    replica.handle_timeout(now);
                }
            }
        }
    }

    /// When the next thing happens by itself.
    fn next_event(&self) -> u64 {
        let arrivals = self.arrivals.first_key_value().map(|((at, _), _)| *at);
        let nodes = self.nodes.iter().flat_map(|node| {
            let timeout = node.replica.as_ref().and_then(Replica::timeout);
            let starts = node.replica.is_none().then_some(node.start_at);
            [
                timeout.map(|at| at.saturating_sub(node.skew)),
                // What was due at once is due still.
                node.sync_at.map(|at| at.max(self.now + 1)),
                starts,
            ]
        });
        let links = self.links.iter().flat_map(|link| {
            let dials = (link.up && link.sessions[0].is_none()).then_some(link.dial_at);
            let free = [0, 1].map(|end| Some(link.free_at(end)).filter(|at| *at > self.now));
            [dials, free[0], free[1]]
        });
        let all = nodes.chain(links).flatten().chain(arrivals);
        all.filter(|at| *at > self.now).min().unwrap_or(u64::MAX)
    }

    fn start_if_due(&mut self, at: usize) {
        if self.nodes[at].replica.is_none() && self.nodes[at].start_at <= self.now {
            self.nodes[at].start(&self.config);
            self.say(|| format!("node {at} starts as {}", self.nodes[at].id));
        }
    }

    fn sync_if_due(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if node.sync_at.is_some_and(|due| due <= self.now) {
            node.sync_at = None;
            if let (Some(disk), Some(replica)) = (&mut node.disk, &mut node.replica)
                && let Some(last) = disk.sync()
            {
                replica.stored(last, self.now + node.skew);
                // The new id and the state that goes with it are stored.
                if node.renamed && replica.unstored() == 0 {
                    (node.restored, node.renamed) = (false, false);
                }
            }
        }
    }

    fn dial_if_due(&mut self, number: usize) {
        let link = &mut self.links[number];
        let [from, to] = link.ends;
        let dead = self.nodes[to].replica.is_none();
        let now = self.now + self.nodes[from].skew;
        let Some(replica) = &mut self.nodes[from].replica else {
            return;
        };
        if !link.up || link.sessions[0].is_some() || link.dial_at > self.now || dead {
            return;
        }
        link.sessions[0] = Some(replica.connect(now, Access::ALL, None));
        self.outcome.connections += 1;
    }

    /// Does what follows from anything that was done at a node: stores, answers, sends.
    pub(super) fn settle(&mut self, at: usize) {
        let (wrote, events) = self.nodes[at].drain();
        if wrote && self.nodes[at].sync_at.is_none() {
            self.nodes[at].sync_at = Some(self.now + self.rng.u64(0..30));
        }
        for event in events {
            self.answer(at, event);
        }
        for number in 0..self.links.len() {
            if let Some(end) = self.links[number].ends.iter().position(|node| *node == at) {
                self.send(number, end);
            }
        }
        if self.rng.u8(..) < 4 {
            self.nodes[at].check_watcher();
            self.check_meanwhile(at);
        }
    }

    fn answer(&mut self, at: usize, event: Event) {
        match event {
            Event::Closed { session, reason } => {
                self.say(|| format!("node {at}: {session} closed: {reason}"));
                let link = self.links.iter().position(|link| {
                    (0..2).any(|end| link.ends[end] == at && link.sessions[end] == Some(session))
                });
                if let Some(link) = link {
                    // Its last words, then the end of the connection.
                    let end = usize::from(self.links[link].ends[1] == at);
                    self.send(link, end);
                    self.cut(link);
                }
            }
            Event::ReplicaReused => {
                self.outcome.new_ids += 1;
                let id = self.fresh_id();
                self.say(|| format!("node {at} learns that its id was reused, becomes {id}"));
                let node = &mut self.nodes[at];
                let (old, loaded) = (node.id, node.loaded);
                let Some(replica) = &mut node.replica else {
                    return;
                };
                replica.change_replica(id);
                let since = std::mem::take(&mut node.since);
                let last = replica.document().own_seq();
                self.truth.rename(&since, (old, loaded), (id, 0, last));
                node.found = last;
                let shown = Shown::of(replica.document());
                (node.id, node.loaded, node.backup, node.renamed) = (id, 0, None, true);
                let seen = node.applied().expect("it runs");
                self.truth.assert_shown(&seen, &shown);
                self.settle(at);
            }
            Event::Renamed { old, new, base } => {
                let node = &mut self.nodes[at];
                let Some(replica) = &node.replica else {
                    return;
                };
                let last = replica.document().own_seq();
                let since = std::mem::take(&mut node.since);
                if last > base {
                    self.truth.rename(&since, (old, 0), (new, base, last));
                    self.outcome.lent += 1;
                }
                (node.id, node.loaded, node.found) = (new, base, last);
                self.say(|| format!("node {at} was {old} and is {new} from {base} on"));
            }
            Event::Diverged { .. } => assert!(self.damaged, "equal versions, unequal digests"),
            Event::Repaired { .. } => self.outcome.repaired += 1,
            Event::Forgotten(id) => {
                self.outcome.forgotten += 1;
                self.say(|| format!("node {at} forgets {id}"));
            }
            Event::Resynced { again } => {
                self.say(|| {
                    format!(
                        "node {at} begins anew, and does {} operations again",
                        again.len()
                    )
                });
                self.outcome.resynced += 1;
                let node = &mut self.nodes[at];
                let document = node.document().expect("it runs");
                let (own, shown) = (document.replica(), Shown::of(document));
                let before = std::mem::take(&mut node.before);
                node.found = before.last_seq(own);
                let seen = node.applied().expect("it runs");
                let done = self.truth.redo(own, &before, (seen, &shown), &again);
                node.since.extend(done);
                if let Some(done) = done {
                    self.say(|| format!("node {at} does again {}", self.truth.tell(done)));
                }
                let node = &mut self.nodes[at];
                node.watch_anew();
                self.settle(at);
            }
            _ => {}
        }
    }

    /// Sends what a session has, as far as the link takes it.
    fn send(&mut self, number: usize, end: usize) {
        let link = &mut self.links[number];
        let at = link.ends[end];
        let now = self.now + self.nodes[at].skew;
        let (Some(session), Some(replica)) = (link.sessions[end], &mut self.nodes[at].replica)
        else {
            return;
        };
        while link.is_free(end, self.now) {
            let Some(frame) = replica.poll_frame(session, now) else {
                break;
            };
            self.outcome.frames += 1;
            for arrival in link.send(end, &frame, self.now, &mut self.rng) {
                self.sent += 1;
                let (epoch, to, frame) = (link.epoch, 1 - end, frame.clone());
                self.arrivals.insert(
                    (arrival, self.sent),
                    Arrival {
                        link: number,
                        epoch,
                        to,
                        frame,
                    },
                );
            }
        }
        if let Some(status) = replica.session(session) {
            let limit = self.config.queue_bytes + (1 << 20);
            assert!(
                status.queued_bytes <= limit,
                "{} bytes are queued",
                status.queued_bytes
            );
        }
    }

    fn arrive(&mut self, arrival: Arrival) {
        let link = &mut self.links[arrival.link];
        let at = link.ends[arrival.to];
        let now = self.now + self.nodes[at].skew;
        let Some(replica) = &mut self.nodes[at].replica else {
            return;
        };
        if link.epoch != arrival.epoch || !link.up {
            return;
        }
        let frame = Frame::decode(arrival.frame).expect("frames arrive undamaged");
        self.outcome.searches += usize::from(frame.kind() == "compare");
        if let Some(session) = link.sessions[arrival.to] {
            let before = replica.version().clone();
            // Where it fails, the event `Closed` says what to do.
            let _ = replica.receive(session, now, frame);
            self.nodes[at].before = before;
        } else if let Some(hello) = frame.hello().filter(|hello| !hello.reply) {
            match replica.accept(now, hello, Access::ALL) {
                Ok(session) => link.sessions[arrival.to] = Some(session),
                Err(error) => {
                    let refusal = Arrival {
                        link: arrival.link,
                        epoch: arrival.epoch,
                        to: 1 - arrival.to,
                        frame: error.to_frame("doc"),
                    };
                    self.sent += 1;
                    self.arrivals.insert((self.now + 10, self.sent), refusal);
                }
            }
        }
        self.settle(at);
    }

    pub(super) fn cut(&mut self, link: usize) {
        let sessions = self.links[link].cut(self.now, &mut self.rng);
        for (end, session) in sessions.into_iter().enumerate() {
            let at = self.links[link].ends[end];
            if let (Some(session), Some(replica)) = (session, &mut self.nodes[at].replica) {
                replica.close(session);
            }
        }
    }
}
