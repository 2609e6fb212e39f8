//! What must be true, all the while and at the end.

use portolan_core::sync::Replica;
use portolan_core::{Document, ReplicaId, Version};
use portolan_sim::Shown;

use super::World;
use crate::node::Node;

impl World {
    pub(super) fn agrees(&self) -> bool {
        let mut documents = self.nodes.iter().map(Node::document);
        let Some(Some(first)) = documents.next() else {
            return false;
        };
        let version = first.version();
        documents.all(|document| document.is_some_and(|d| d.version() == version))
            && self.nodes.iter().all(|node| {
                node.replica
                    .as_ref()
                    .is_some_and(|r| r.unstored() == 0 || node.disk.is_none())
            })
    }

    pub(super) fn disagreement(&self) -> String {
        let versions = self.nodes.iter().map(|node| {
            let sessions: Vec<_> = node.replica.iter().flat_map(Replica::sessions).collect();
            format!("{:?} {sessions:#?}", node.document().map(Document::version))
        });
        format!("no agreement: {}", versions.collect::<Vec<_>>().join("\n"))
    }

    pub(super) fn check(&self) {
        assert!(self.agrees(), "agreement was lost: {}", self.disagreement());
        let first = self.nodes[0].document().expect("all run");
        let version = first.version();
        self.truth.check_version(&version);
        let want = Shown::of(first);
        let seen = self.nodes[0].applied().expect("all run");
        let missing = self.truth.missing(&seen);
        assert!(missing.is_empty(), "{missing:?} was seen and is missing");
        self.truth.assert_shown(&seen, &want);
        // What waits for somebody who does not come back waits here and there.
        let waits = self.nodes.iter().any(|node| {
            let document = node.document();
            document.is_some_and(Document::has_past)
        });
        let settled = settled(first);
        for (at, node) in self.nodes.iter().enumerate() {
            let document = node.document().expect("all run");
            node.check_watcher();
            // Nobody waits for those that do not come back where these are forgotten.
            let tombstones = document.tombstones();
            let stay = tombstones > 0 && self.config.forget_after < u64::MAX;
            if stay && self.loud {
                for node in &self.nodes {
                    println!("{:#?}", node.replica);
                }
            }
            assert!(!stay, "{tombstones} tombstones stay at node {at}");
            assert_eq!(
                Shown::of(document),
                want,
                "node {at} does not show what others do"
            );
            let bytes = document.encode();
            assert!(
                waits || bytes == first.encode(),
                "node {at} differs in its bytes: {} and {}, {document:?}",
                bytes.len(),
                first.encode().len(),
            );
            assert!(
                self::settled(document) == settled,
                "node {at} differs in what does not show: {document:?}"
            );
            assert_eq!(
                document.digest(),
                first.digest(),
                "node {at} differs in its digest"
            );
            if let Some(disk) = &node.disk {
                let stored = disk.load(node.id);
                // The disk has what memory has let go of.
                assert_eq!(stored.version(), version, "the disk of node {at}");
                assert_eq!(stored.digest(), first.digest(), "the disk of node {at}");
                assert_eq!(Shown::of(&stored), want, "the disk of node {at}");
                assert!(
                    self::settled(&stored) == settled,
                    "the disk of node {at} differs in what does not show"
                );
            }
        }
        // Nothing acknowledged is lost: every operation that still counts has been applied.
        let operations = self.truth.operations();
        assert_eq!(version.len(), operations, "operations are missing");
    }

    /// Whether all have one digest.
    pub(super) fn is_sound(&self) -> bool {
        let mut digests = self
            .nodes
            .iter()
            .map(|n| n.document().map(Document::digest));
        let first = digests.next();
        digests.all(|digest| Some(digest) == first)
    }

    /// What a peer has acknowledged is on its disk, or in its memory where it has none.
    pub(super) fn check_acknowledged(&self) {
        for link in &self.links {
            for (end, session) in link.sessions.iter().enumerate() {
                let [here, there] = [link.ends[end], link.ends[1 - end]].map(|at| &self.nodes[at]);
                let (Some(replica), Some(session)) = (&here.replica, session) else {
                    continue;
                };
                let Some(peer) = &there.replica else { continue };
                let mut all = replica.acknowledged();
                let Some((.., version)) = all.find(|(id, ..)| id == session) else {
                    continue;
                };
                let kept = match &there.disk {
                    Some(disk) => disk.load(there.id).version(),
                    None => peer.version().clone(),
                };
                // What the peer passed on itself it may not have stored so far.
                let own = Version::from_range(here.id, 1, u64::MAX - 1);
                let lost = version.intersection(&own).difference(&kept);
                assert!(
                    lost.is_empty(),
                    "{lost:?} was acknowledged to {} by {} and is not stored",
                    here.id,
                    there.id
                );
            }
        }
    }

    /// What any running node or any disk has.
    pub(super) fn everything_known(&self) -> Version {
        let mut known = Version::new();
        for node in &self.nodes {
            if let Some(document) = node.document() {
                known.union_with(&document.version());
            }
            if let Some(disk) = &node.disk {
                known.union_with(&disk.load(node.id).version());
            }
        }
        known
    }

    /// At any time a replica shows what the operations that it has applied amount to, of a
    /// transaction all or nothing, and elements in the order in which others have them.
    pub(super) fn check_meanwhile(&mut self, at: usize) {
        if self.damaged || self.nodes.iter().any(|n| n.restored) {
            return;
        }
        let node = &self.nodes[at];
        let (Some(document), Some(seen)) = (node.document(), node.applied()) else {
            return;
        };
        let shown = Shown::of(document);
        self.truth.check_transactions(&seen.version);
        self.outcome.parted += usize::from(self.truth.assert_shown(&seen, &shown));
        let other = self.rng.usize(0..self.nodes.len());
        if let Some(document) = self.nodes[other].document() {
            self.truth.assert_one_order(&shown, &Shown::of(document));
        }
    }
}

/// The bytes of a document in which nothing waits any more for those who lag behind.
fn settled(document: &Document) -> Vec<u8> {
    let mut settled = Document::new(ReplicaId::new(0));
    settled.apply(&document.snapshot());
    let all = settled.version();
    // What is marked, sealed and dropped may have others wait no longer.
    for _ in 0..4 {
        settled.forget_stable(&all, &all);
    }
    settled.encode()
}
