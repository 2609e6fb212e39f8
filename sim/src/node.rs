//! A node: the real synchronisation machine with a simulated disk, and a watcher that sees events
//! alone.

use portolan_core::sync::{Config, Event, Replica};
use portolan_core::{Document, Key, ReplicaId, Version};
use portolan_sim::{Seen, Shown, Watched};

use crate::disk::Disk;

pub(crate) struct Node {
    pub(crate) replica: Option<Replica>,
    pub(crate) id: ReplicaId,
    /// `None` for a node that keeps nothing: it takes a new id at each start.
    pub(crate) disk: Option<Disk>,
    /// A copy of the disk from some time ago.
    pub(crate) backup: Option<Disk>,
    /// Whether its disk is such a copy, and it does not know so far.
    pub(crate) restored: bool,
    /// Whether it has learned so, and its new id is not stored yet.
    pub(crate) renamed: bool,
    /// What its clock shows beyond the true time.
    pub(crate) skew: u64,
    /// Own operations that were there when it started.
    pub(crate) loaded: u64,
    /// Own operations when it was started, or took a new id.
    pub(crate) found: u64,
    /// Own transactions since it was started, by their numbers in the reference.
    pub(crate) since: Vec<usize>,
    /// What it had applied when the last frame came.
    pub(crate) before: Version,
    /// When the disk has synced what it was given.
    pub(crate) sync_at: Option<u64>,
    pub(crate) start_at: u64,
    /// What its watcher knows.
    watched: Watched,
}

impl Node {
    pub(crate) fn new(id: ReplicaId, durable: bool, skew: u64) -> Self {
        Self {
            replica: None,
            id,
            disk: durable.then(Disk::default),
            backup: None,
            restored: false,
            renamed: false,
            skew,
            loaded: 0,
            found: 0,
            since: Vec::new(),
            before: Version::new(),
            sync_at: None,
            start_at: 0,
            watched: Watched::default(),
        }
    }

    pub(crate) fn start(&mut self, config: &Config) {
        let document = match &self.disk {
            Some(disk) => disk.load(self.id),
            None => Document::new(self.id),
        };
        self.run(document, config);
    }

    fn run(&mut self, document: Document, config: &Config) {
        self.loaded = document.own_seq();
        self.found = self.loaded;
        self.since = Vec::new();
        self.watched = Watched::of(&Shown::of(&document));
        let mut replica = Replica::new("doc", 7, document, self.disk.is_some(), config.clone());
        if let Some(members) = self.disk.as_ref().and_then(Disk::members) {
            let restored = replica.restore_members(members);
            restored.expect("what was stored decodes");
        }
        replica.observe(true);
        self.replica = Some(replica);
        self.sync_at = None;
    }

    /// Makes a copy of its memory that has lost some values take the place of what it has, under
    /// the id that it would start with.
    pub(crate) fn damage(&mut self, id: ReplicaId, lost: &[Key], config: &Config) {
        let mut document = Document::new(id);
        document.apply(&self.document().expect("it runs").snapshot());
        for key in lost {
            assert!(document.damage(key), "there is something to lose");
        }
        self.id = id;
        self.run(document, config);
    }

    pub(crate) fn document(&self) -> Option<&Document> {
        self.replica.as_ref().map(Replica::document)
    }

    /// Hands over what is to be stored and what happened; gives the events that need an answer.
    pub(crate) fn drain(&mut self) -> (bool, Vec<Event>) {
        let Some(replica) = &mut self.replica else {
            return (false, Vec::new());
        };
        let mut wrote = false;
        while let Some(write) = replica.poll_write() {
            let disk = self
                .disk
                .as_mut()
                .expect("a replica without a store writes nothing");
            disk.write(write);
            wrote = true;
        }
        let (mut batches, mut others) = (Vec::new(), Vec::new());
        while let Some(event) = replica.poll_event() {
            match event {
                Event::Changed(batch) => batches.push(batch),
                other => others.push(other),
            }
        }
        for batch in batches {
            self.watched.follow(batch);
        }
        (wrote, others)
    }

    /// What it has applied; `None` while it does not run.
    pub(crate) fn applied(&self) -> Option<Seen> {
        let document = self.document()?;
        let unaware = self.restored && !self.renamed;
        Some(Seen {
            version: document.version(),
            loaded: self.found,
            backup: unaware.then_some((self.id, self.loaded)),
        })
    }

    /// Has the watcher read everything anew.
    pub(crate) fn watch_anew(&mut self) {
        if let Some(document) = self.document() {
            self.watched = Watched::of(&Shown::of(document));
        }
    }

    /// What the watcher knows is what the document holds.
    pub(crate) fn check_watcher(&self) {
        if let Some(document) = self.document() {
            self.watched.assert_shows(&Shown::of(document));
        }
    }
}
