//! The side that lends: the pool, and what each session has of it.

use alloc::collections::{BTreeMap, VecDeque};

use super::super::error::ProtocolError;
use super::super::replica::Replica;
use super::super::session::{Phase, Session, SessionId};
use super::{Back, MAX_SEQ, Message, Rename, Spare, encode};
use crate::clock::Timestamp;
use crate::dots::DotSet;
use crate::replica::ReplicaId;

/// Offers that are remembered after the end of their session. One that is forgotten is lost.
const MAX_UNCLAIMED: usize = 256;

/// The ids that may be lent.
#[derive(Debug, Default)]
pub(in crate::sync) struct Pool {
    /// By the time of the last operation: whoever has written before that is not lent it.
    spare: BTreeMap<(Timestamp, ReplicaId), u64>,
    /// Offers of sessions that ended before it was known what became of them, with the id of who
    /// had asked: if he asks again under that id, he has taken nothing since.
    unclaimed: VecDeque<(ReplicaId, Spare)>,
}

impl Pool {
    fn put(&mut self, spare: Spare) {
        self.spare.insert((spare.latest, spare.replica), spare.seq);
    }

    /// Somebody writes under this id, or may: it is not lent.
    fn forget(&mut self, id: ReplicaId) {
        self.spare.retain(|(_, spare), _| *spare != id);
        self.unclaimed.retain(|(_, spare)| spare.replica != id);
    }

    /// The latest that is older than this.
    fn take(&mut self, first: Timestamp) -> Option<Spare> {
        let older = self.spare.range(..(first, ReplicaId::new(0)));
        let (latest, replica) = older.map(|(key, _)| *key).next_back()?;
        let seq = self.spare.remove(&(latest, replica))?;
        Some(Spare {
            replica,
            seq,
            latest,
        })
    }

    fn take_unclaimed(&mut self, asker: ReplicaId) -> Option<Spare> {
        let at = self.unclaimed.iter().position(|(by, _)| *by == asker)?;
        self.unclaimed.remove(at).map(|(_, spare)| spare)
    }
}

/// What a session's peer has asked for, and was offered.
#[derive(Debug, Default)]
pub(in crate::sync) struct Claim {
    /// The number of its last question, or of the last that it declined.
    asked: u64,
    /// What was offered for that question, and is not known to be taken.
    offered: Option<Spare>,
    /// The number of its last change of id.
    renames: u64,
}

impl Replica {
    /// How many ids this replica could lend.
    pub fn spare_ids(&self) -> usize {
        self.pool.spare.len()
    }

    /// Whether this replica knows all operations of an id, and no session but one shows up under
    /// it.
    fn may_lend(&self, spare: &Spare, but: Option<SessionId>) -> bool {
        let Spare { replica, seq, .. } = *spare;
        let claims = |s: &Session| {
            let offered = s.claim.offered.as_ref();
            s.peer == Some(replica) || offered.is_some_and(|it| it.replica == replica)
        };
        let mut others = self.sessions.iter().filter(|(id, _)| Some(**id) != but);
        (1..MAX_SEQ).contains(&seq)
            && replica != self.document.replica()
            && self.version.last_seq(replica) == seq
            && self.version.covers(&DotSet::from_range(replica, 1, seq))
            && !others.any(|(_, s)| s.phase != Phase::Closed && claims(s))
    }

    /// A peer shows up under an id: where it may write, that id is not lent.
    pub(in crate::sync) fn note_holder(&mut self, session: SessionId) {
        let session = self.sessions.get(&session);
        if let Some(id) = session.filter(|s| s.receives()).and_then(|s| s.peer) {
            self.pool.forget(id);
        }
    }

    /// A session is over.
    pub(in crate::sync) fn note_offer_lost(&mut self, session: SessionId) {
        if let Some(session) = self.sessions.get_mut(&session)
            && let (Some(asker), Some(spare)) = (session.peer, session.claim.offered.take())
        {
            self.pool.unclaimed.push_back((asker, spare));
            if self.pool.unclaimed.len() > MAX_UNCLAIMED {
                self.pool.unclaimed.pop_front();
            }
        }
    }

    pub(in crate::sync) fn receive_loan(
        &mut self,
        id: SessionId,
        now: u64,
        message: Message,
    ) -> Result<(), ProtocolError> {
        match message {
            Message::Ask { number, first } => self.receive_ask(id, number, first),
            Message::Offer { number, spare } => {
                self.receive_offer(id, now, number, spare);
                Ok(())
            }
            Message::Decline { number } => self.receive_decline(id, number),
            Message::Rename(rename) => self.receive_rename(id, now, &rename),
        }
    }

    fn receive_ask(
        &mut self,
        id: SessionId,
        number: u64,
        first: Timestamp,
    ) -> Result<(), ProtocolError> {
        let session = self.open(id)?;
        if number < session.claim.asked {
            return Ok(()); // late
        }
        if number > session.claim.asked {
            // What was offered for an earlier question and neither taken nor declined, as far as
            // is known, is lost.
            session.claim.asked = number;
            session.claim.offered = None;
            let may = !session.opened && session.receives();
            if let Some(asker) = session.peer.filter(|_| may) {
                let offered = self.lend(asker, first);
                self.open(id)?.claim.offered = offered;
            }
        }
        let session = self.open(id)?;
        let spare = session.claim.offered;
        let frame = encode(self.handle, &Message::Offer { number, spare });
        self.open(id)?.control.push_back(frame);
        self.wake(id);
        Ok(())
    }

    fn lend(&mut self, asker: ReplicaId, first: Timestamp) -> Option<Spare> {
        let again = self.pool.take_unclaimed(asker);
        if let Some(spare) = again.filter(|it| it.latest < first && self.may_lend(it, None)) {
            return Some(spare);
        }
        while let Some(spare) = self.pool.take(first) {
            // One that does not do is lost: somebody else writes under it.
            if self.may_lend(&spare, None) {
                return Some(spare);
            }
        }
        None
    }

    fn receive_decline(&mut self, id: SessionId, number: u64) -> Result<(), ProtocolError> {
        let claim = &mut self.open(id)?.claim;
        let declined = claim.offered.take_if(|_| number == claim.asked);
        claim.asked = claim.asked.max(number);
        if let Some(spare) = declined {
            self.pool.put(spare);
        }
        Ok(())
    }

    fn receive_rename(
        &mut self,
        id: SessionId,
        now: u64,
        rename: &Rename,
    ) -> Result<(), ProtocolError> {
        let Rename {
            number,
            old,
            new,
            back,
        } = *rename;
        let own = self.document.replica();
        let session = self.open(id)?;
        if number <= session.claim.renames {
            return Ok(()); // late, or twice
        }
        if new == own {
            return Err(ProtocolError::SameReplica(new));
        }
        session.claim.renames = number;
        let known = session.peer.replace(new) == Some(old);
        let offered = session.claim.offered.take();
        let took = offered.is_some_and(|spare| [old, new].contains(&spare.replica));
        if let Some(spare) = offered.filter(|_| !took) {
            if known && back.is_some() {
                // Who gives the id back under which he asked has taken no other.
                self.pool.put(spare);
            } else {
                self.open(id)?.claim.offered = offered;
            }
        }
        self.note_holder(id);
        if known {
            self.greet_renamed(id, now, (old, new), back.is_some());
        }
        if let Some(back) = back.filter(|_| known || took) {
            self.take_back(id, old, back);
        }
        Ok(())
    }

    /// The peer of a session, who held this id, will not write under it any more.
    fn take_back(&mut self, session: SessionId, id: ReplicaId, back: Back) {
        let Back { seq, latest } = back;
        let spare = Spare {
            replica: id,
            seq,
            latest,
        };
        let Some(from) = self.sessions.get(&session) else {
            return;
        };
        let may = !from.opened && from.receives();
        let stored = !self
            .unstored_dots()
            .intersects(&DotSet::from_range(id, 1, u64::MAX - 1));
        if may && stored && self.may_lend(&spare, Some(session)) {
            self.pool.put(spare);
        }
    }
}
