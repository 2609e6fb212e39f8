//! The store on disks that fail, break and are taken away.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use portolan_core::sync::Write;
use portolan_core::{Delta, Document, Key, ReplicaId, Value};
use redb::{Builder, DatabaseError, ReadableTable as _, StorageBackend};

use super::database::{Addition, Database};
use super::medium::{Directory, Medium};
use super::{Store, Target, restore, verify};
use crate::error::{Error, Result};

const OWN: ReplicaId = ReplicaId::new(7);
const DEADLINE: Duration = Duration::from_secs(30);

/// A map without sessions: what it writes is given to the store at once.
struct Scribe {
    document: Mutex<Document>,
    stored: Mutex<u64>,
    changed: Condvar,
    disturbed: AtomicBool,
}

impl Scribe {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            document: Mutex::new(Document::new(OWN)),
            stored: Mutex::new(0),
            changed: Condvar::new(),
            disturbed: AtomicBool::new(false),
        })
    }

    fn set(
        self: &Arc<Self>,
        store: &Store,
        name: &str,
        key: impl Into<Key>,
        value: impl Into<Value>,
    ) -> u64 {
        let mut document = self.document.lock();
        let before = document.own_seq();
        document.set(1_000, key, value).unwrap();
        let number = document.own_seq();
        let write = Write {
            number,
            delta: Bytes::from(document.own_since(before).encode()),
            replaces: false,
            members: None,
        };
        store.write(self.clone(), &Arc::from(name), OWN, write);
        number
    }

    fn wait(&self, number: u64) {
        let mut stored = self.stored.lock();
        let deadline = Instant::now() + DEADLINE;
        while *stored < number {
            let waited = self.changed.wait_until(&mut stored, deadline);
            assert!(!waited.timed_out(), "write {number} is not stored");
        }
    }

    fn digest(&self) -> u128 {
        self.document.lock().digest()
    }
}

impl Target for Scribe {
    fn stored(self: Arc<Self>, number: u64) {
        *self.stored.lock() = number;
        self.changed.notify_all();
    }

    fn disturbed(&self) {
        self.disturbed.store(true, Ordering::SeqCst);
    }

    fn snapshot(&self) -> Write {
        let document = self.document.lock();
        Write {
            number: document.own_seq(),
            delta: Bytes::from(document.encode()),
            replaces: true,
            members: None,
        }
    }
}

fn load(store: &Store, name: &str) -> Document {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let stored = runtime.block_on(store.load(&Arc::from(name))).unwrap();
    restore(&store.path, name, &stored.unwrap(), 0, 0).unwrap()
}

fn open(path: &Path) -> Result<Store> {
    Store::open(path, OWN)
}

fn database(path: &Path) -> PathBuf {
    path.join("portolan.redb")
}

/// A store with a few maps, closed.
fn filled(path: &Path) -> BTreeMap<String, u128> {
    let store = open(path).unwrap();
    let mut digests = BTreeMap::new();
    for name in ["a", "b", "c"] {
        let scribe = Scribe::new();
        let mut last = 0;
        for i in 0..40i64 {
            last = scribe.set(&store, name, i % 30, format!("{name} {i}"));
            if i % 10 == 0 {
                scribe.wait(last);
            }
        }
        scribe.wait(last);
        digests.insert(name.to_owned(), scribe.digest());
    }
    store.close().unwrap();
    digests
}

#[test]
fn what_is_stored_is_there_after_opening_again() {
    let directory = tempfile::tempdir().unwrap();
    let digests = filled(directory.path());
    let store = open(directory.path()).unwrap();
    assert_eq!(store.replica(), OWN);
    assert_eq!(store.names().len(), 3);
    for (name, digest) in &digests {
        let document = load(&store, name);
        assert_eq!(document.digest(), *digest);
        assert_eq!((document.replica(), document.own_seq()), (OWN, 40));
    }
    let other = Store::open(directory.path(), ReplicaId::new(8));
    assert!(matches!(other, Err(Error::StoreInUse { .. })));
    assert!(matches!(
        verify(directory.path()),
        Err(Error::StoreInUse { .. })
    ));
    drop(store);
    let report = verify(directory.path()).unwrap();
    let found = report.maps.into_iter().map(|map| (map.name, map.digest));
    assert_eq!(found.collect::<BTreeMap<_, _>>(), digests);
}

#[test]
fn the_id_of_the_first_opening_stays() {
    let directory = tempfile::tempdir().unwrap();
    drop(Store::open(directory.path(), ReplicaId::new(1)).unwrap());
    let again = Store::open(directory.path(), ReplicaId::new(2)).unwrap();
    assert_eq!(again.replica(), ReplicaId::new(1));
}

#[test]
fn a_compacted_map_is_the_same_map() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    let scribe = Scribe::new();
    let text = "x".repeat(10_000);
    for i in 0..2_000i64 {
        let number = scribe.set(&store, "m", i % 20, format!("{i} {text}"));
        if i % 100 == 0 {
            scribe.wait(number);
        }
    }
    scribe.wait(2_000);
    store.close().unwrap();
    let status = store.status();
    assert!(status.compactions > 3, "{status:?}");
    assert_eq!((status.writes, status.backlog_bytes), (2_000, 0));
    let bytes = verify(directory.path()).unwrap().bytes;
    assert!(bytes < 4_000_000, "20 MB were written, {bytes} are kept");
    let store = open(directory.path()).unwrap();
    let document = load(&store, "m");
    assert_eq!(document.digest(), scribe.digest());
    assert_eq!(document.version(), scribe.document.lock().version());
    assert_eq!(document.own_seq(), 2_000);
}

#[test]
fn a_whole_state_replaces_what_was_stored() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    let scribe = Scribe::new();
    for i in 0..10i64 {
        scribe.set(&store, "m", i, i);
    }
    let mut other = Document::new(ReplicaId::new(9));
    other.set(1_000, "only", 1).unwrap();
    let write = Write {
        number: 11,
        delta: Bytes::from(other.encode()),
        replaces: true,
        members: None,
    };
    store.write(scribe.clone(), &Arc::from("m"), ReplicaId::new(9), write);
    scribe.wait(11);
    drop(store);
    let store = open(directory.path()).unwrap();
    let document = load(&store, "m");
    assert_eq!(document.digest(), other.digest());
    assert_eq!(document.replica(), ReplicaId::new(9));
    assert_eq!(store.replica(), OWN, "other maps are written as before");
}

#[test]
fn a_newer_format_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path());
    let header = redb::TableDefinition::<&str, &[u8]>::new("portolan");
    {
        let database = redb::Database::open(database(directory.path())).unwrap();
        let transaction = database.begin_write().unwrap();
        let mut table = transaction.open_table(header).unwrap();
        let mut row = table.get("header").unwrap().unwrap().value().to_vec();
        row[4] = 9;
        table.insert("header", row.as_slice()).unwrap();
        drop(table);
        transaction.commit().unwrap();
    }
    let error = open(directory.path()).unwrap_err();
    assert!(
        matches!(
            error,
            Error::StoreNewer {
                found: 9,
                known: 1,
                ..
            }
        ),
        "{error}"
    );
    assert!(verify(directory.path()).is_err());
}

/// Reads everything, as a node does over time.
fn read_all(medium: &dyn Medium) -> Result<BTreeMap<String, u128>> {
    let path = PathBuf::from("store");
    let database = Database::open(&path, medium, Some(OWN))?;
    let mut digests = BTreeMap::new();
    for name in database.names() {
        let stored = database.load(name)?.unwrap();
        let document = restore(&path, name, &stored, 0, 0)?;
        digests.insert(name.to_string(), document.digest());
    }
    Ok(digests)
}

#[test]
fn a_damaged_file_gives_an_error_or_all_that_was_stored() {
    let directory = tempfile::tempdir().unwrap();
    let expected = filled(directory.path());
    let whole = fs::read(database(directory.path())).unwrap();
    // Every byte of the header, and many of what is used: some of each of the pages.
    let used = |at: usize| whole[at & !63..].iter().take(64).any(|byte| *byte != 0);
    let places = (0..whole.len()).filter(|at| *at < 320 || at % 251 == 0 && used(*at));
    let (mut refused, mut failures) = (0, Vec::new());
    for at in places {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        match read_all(&Disk::with(damaged)) {
            Ok(found) if found == expected => {}
            Ok(found) => failures.push(format!("byte {at}: silently {found:?}")),
            Err(Error::StoreDamaged { .. } | Error::StoreNewer { .. }) => refused += 1,
            Err(error) => failures.push(format!("byte {at}: {error}")),
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(refused > 100, "{refused} refused");
}

#[test]
fn a_file_that_is_cut_off_or_emptied_gives_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let expected = filled(directory.path());
    let path = database(directory.path());
    let whole = fs::read(&path).unwrap();
    let cuts = [
        0,
        1,
        100,
        512,
        4096,
        4097,
        whole.len() / 2,
        whole.len() - 4096,
    ];
    let cuts = cuts.map(|len| whole[..len].to_vec());
    for bytes in cuts.into_iter().chain([vec![0; whole.len()]]) {
        fs::write(&path, &bytes).unwrap();
        let opened = Directory::lock(directory.path(), false).unwrap().unwrap();
        match read_all(&opened) {
            Ok(found) => assert_eq!(found, expected, "{} bytes", bytes.len()),
            Err(Error::StoreDamaged { .. }) => {}
            Err(error) => panic!("{} bytes: {error}", bytes.len()),
        }
    }
}

#[test]
fn verify_names_damage_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path());
    let path = database(directory.path());
    let whole = fs::read(&path).unwrap();
    verify(directory.path()).unwrap();
    assert_eq!(fs::read(&path).unwrap(), whole);
    let text = b"b 17";
    let at = whole
        .windows(text.len())
        .position(|window| window == text)
        .unwrap();
    let mut damaged = whole.clone();
    damaged[at] ^= 1;
    fs::write(&path, &damaged).unwrap();
    let error = verify(directory.path()).unwrap_err();
    assert!(matches!(error, Error::StoreDamaged { .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), damaged);
    let nothing = tempfile::tempdir().unwrap();
    assert!(matches!(
        verify(nothing.path()),
        Err(Error::StoreMissing { .. })
    ));
    assert_eq!(fs::read_dir(nothing.path()).unwrap().count(), 0);
}

/// A disk in memory that can be full, lose what was not synced, and be looked at.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<DiskState>);

#[derive(Debug, Default)]
struct DiskState {
    bytes: Mutex<DiskBytes>,
    exists: AtomicBool,
    full: AtomicBool,
    /// Writes and syncs left before it fails; `u64::MAX` for ever.
    left: AtomicU64,
}

#[derive(Debug, Default)]
struct DiskBytes {
    /// As a reader sees them.
    now: Vec<u8>,
    /// As they were at the last sync.
    synced: Vec<u8>,
    /// What was written since, and where.
    writes: Vec<(u64, Vec<u8>)>,
}

impl Disk {
    fn new() -> Self {
        let disk = Self::default();
        disk.0.left.store(u64::MAX, Ordering::SeqCst);
        disk
    }

    /// A disk that holds this.
    fn with(bytes: Vec<u8>) -> Self {
        let disk = Self::new();
        *disk.0.bytes.lock() = DiskBytes {
            now: bytes.clone(),
            synced: bytes,
            writes: Vec::new(),
        };
        disk.0.exists.store(true, Ordering::SeqCst);
        disk
    }

    /// The disk as a crash could leave it: of what was written since the last sync, the writes
    /// that `survives` picks.
    fn after_crash(&self, mut survives: impl FnMut() -> bool) -> Self {
        let state = self.0.bytes.lock();
        let mut bytes = state.synced.clone();
        for (offset, data) in &state.writes {
            if survives() {
                let (start, end) = (*offset as usize, *offset as usize + data.len());
                bytes.resize(bytes.len().max(end), 0);
                bytes[start..end].copy_from_slice(data);
            }
        }
        Self::with(bytes)
    }

    fn spend(&self) -> io::Result<()> {
        let left = &self.0.left;
        let spent = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| match left {
            u64::MAX => Some(left),
            left => left.checked_sub(1),
        });
        if spent.is_err() || self.0.full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.bytes.lock().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.bytes.lock();
        let bytes = state
            .now
            .get(offset as usize..)
            .and_then(|b| b.get(..out.len()));
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.spend()?;
        let mut state = self.0.bytes.lock();
        state.now.resize(len as usize, 0);
        state.synced.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.spend()?;
        let mut state = self.0.bytes.lock();
        state.synced = state.now.clone();
        state.writes.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.spend()?;
        let mut state = self.0.bytes.lock();
        let start = offset as usize;
        state.now[start..start + data.len()].copy_from_slice(data);
        state.writes.push((offset, data.to_vec()));
        Ok(())
    }
}

impl Medium for Disk {
    fn open(&self, builder: &Builder) -> Result<(redb::Database, bool), DatabaseError> {
        let exists = self.0.exists.load(Ordering::SeqCst);
        Ok((builder.create_with_backend(self.clone())?, exists))
    }

    fn settle(&self) -> io::Result<()> {
        self.0.exists.store(true, Ordering::SeqCst);
        Ok(())
    }
}

fn open_disk(disk: &Disk) -> Result<Store> {
    Store::open_medium(Path::new("disk"), Box::new(disk.clone()), OWN)
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_full_disk_is_reported_and_what_waits_is_stored_when_there_is_room() {
    let disk = Disk::new();
    let store = open_disk(&disk).unwrap();
    let scribe = Scribe::new();
    scribe.wait(scribe.set(&store, "m", "before", 1));
    disk.0.full.store(true, Ordering::SeqCst);
    let late = scribe.set(&store, "m", "late", 2);
    until("the failure is told", || {
        scribe.disturbed.load(Ordering::SeqCst)
    });
    let failure = store.failure();
    assert!(
        matches!(failure, Some(Error::StoreFull { .. })),
        "{failure:?}"
    );
    assert_eq!(*scribe.stored.lock(), 1, "nothing is acknowledged");
    let later = scribe.set(&store, "other", "later", 3);
    disk.0.full.store(false, Ordering::SeqCst);
    scribe.wait(late.max(later));
    assert!(store.failure().is_none());
    store.close().unwrap();
    let store = open_disk(&disk).unwrap();
    assert_eq!(load(&store, "m").len(), 2);
    assert_eq!(load(&store, "other").len(), 1);
}

#[test]
fn closing_on_a_full_disk_says_so() {
    let disk = Disk::new();
    let store = open_disk(&disk).unwrap();
    let scribe = Scribe::new();
    scribe.wait(scribe.set(&store, "m", "before", 1));
    disk.0.full.store(true, Ordering::SeqCst);
    scribe.set(&store, "m", "late", 2);
    assert!(matches!(store.close(), Err(Error::StoreFull { .. })));
    disk.0.full.store(false, Ordering::SeqCst);
    let store = open_disk(&disk).unwrap();
    assert_eq!(load(&store, "m").get("before"), Some(&Value::Int(1)));
}

#[test]
fn a_disk_that_fails_at_any_moment_keeps_what_was_acknowledged() {
    for left in 0..60 {
        let disk = Disk::new();
        let store = open_disk(&disk).unwrap();
        let scribe = Scribe::new();
        scribe.wait(scribe.set(&store, "m", 0, "acknowledged"));
        disk.0.left.store(left, Ordering::SeqCst);
        let last = (1..20i64)
            .map(|i| scribe.set(&store, "m", i, "value"))
            .max()
            .unwrap();
        until("stored or failed", || {
            scribe.disturbed.load(Ordering::SeqCst) || *scribe.stored.lock() >= last
        });
        let acknowledged = *scribe.stored.lock();
        // The plug is pulled: the store's own file handle never sees a good disk again.
        let crashed = disk.after_crash(|| true);
        let document = load(&open_disk(&crashed).unwrap(), "m");
        assert!(document.own_seq() >= acknowledged, "after {left} writes");
        drop(store);
    }
}

#[test]
fn a_crash_in_the_middle_of_a_commit_keeps_what_was_acknowledged() {
    let mut seed = 1u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let disk = Disk::new();
    let store = open_disk(&disk).unwrap();
    let scribe = Scribe::new();
    for i in 0..300i64 {
        let number = scribe.set(&store, "m", i % 50, "x".repeat(i as usize * 3));
        if i % 5 == 0 {
            scribe.wait(number);
        }
        let acknowledged = *scribe.stored.lock();
        let keep = random() % 4;
        let crashed = disk.after_crash(|| random() % 4 < keep);
        let document = load(&open_disk(&crashed).unwrap(), "m");
        assert!(document.own_seq() >= acknowledged, "round {i}");
        let mut joined = document;
        joined.apply(&Delta::decode(&scribe.snapshot().delta).unwrap());
        assert_eq!(joined.digest(), scribe.digest(), "round {i}");
    }
}

#[test]
fn adding_the_same_again_does_no_harm() {
    let disk = Disk::new();
    let mut database = Database::open(Path::new("disk"), &disk, Some(OWN)).unwrap();
    let mut document = Document::new(OWN);
    document.set(1, "k", 1).unwrap();
    let addition = || Addition {
        name: Arc::from("m"),
        replica: OWN,
        whole: None,
        deltas: vec![Bytes::from(document.own_since(0).encode())],
        members: None,
    };
    database.add(&[addition()]).unwrap();
    database.add(&[addition()]).unwrap();
    let stored = database.load("m").unwrap().unwrap();
    assert_eq!(stored.deltas.len(), 2);
    let restored = restore(Path::new("disk"), "m", &stored, 0, 0).unwrap();
    assert_eq!(restored.digest(), document.digest());
    database.check().unwrap();
}
