//! The database: opening, appending, replacing, loading, checking.

use std::collections::BTreeMap;
use std::io;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use portolan_core::ReplicaId;
use redb::{Durability, ReadableDatabase, ReadableTable, TableDefinition};

use super::medium::Medium;
use super::record::{self, FORMAT, Header, HeaderFault, Record, Run, Table};
use crate::error::{Error, Result};

const HEADER: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("portolan");
const DOCUMENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("documents");
const SNAPSHOTS: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("snapshots");
const LOGS: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("logs");
/// What is kept of the members of each map. Not there in stores of earlier releases.
const MEMBERS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("members");
const HEADER_KEY: &str = "header";

/// Memory for pages. Maps are in memory already, and a store is read once.
const CACHE_BYTES: usize = 16 * 1024 * 1024;
/// A snapshot is cut in pieces of this size, so that no page of the database is huge.
const PIECE_BYTES: usize = 1024 * 1024;
/// Logs shorter than this are not worth a snapshot.
const MIN_COMPACTION_BYTES: u64 = 1024 * 1024;

/// What is to be added for one map in one commit.
#[derive(Debug)]
pub(super) struct Addition {
    pub(super) name: Arc<str>,
    /// The id under which the node writes in this map.
    pub(super) replica: ReplicaId,
    /// The whole state, in place of all that is there.
    pub(super) whole: Option<Bytes>,
    /// Deltas after that, in order.
    pub(super) deltas: Vec<Bytes>,
    /// What is to be kept of its members, in place of what was kept before.
    pub(super) members: Option<Bytes>,
}

/// What the store has of one map, as bytes of deltas.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) replica: ReplicaId,
    /// The whole state once, and what came after.
    pub(crate) deltas: Vec<Bytes>,
    pub(crate) members: Option<Bytes>,
}

#[derive(Debug)]
pub(super) struct Database {
    path: PathBuf,
    file: Guarded,
    header: Header,
    records: Vec<Record>,
    numbers: BTreeMap<Arc<str>, u64>,
}

impl Database {
    /// Opens what the medium holds; where there is nothing, creates it for a node with the id
    /// `fresh`, or fails. `path` is for messages.
    pub(super) fn open(path: &Path, medium: &dyn Medium, fresh: Option<ReplicaId>) -> Result<Self> {
        let fault = |fault| Fault::into_error(fault, path);
        let opened = guarded(|| {
            let mut builder = redb::Builder::new();
            let (database, exists) = medium.open(builder.set_cache_size(CACHE_BYTES))?;
            let database = Guarded(Some(database));
            if !exists {
                let fresh = fresh.ok_or_else(|| Fault::damaged("its file is gone"))?;
                create(&database, fresh)?;
                medium.settle()?;
            }
            let (header, records) = read_records(&database)?;
            Ok((database, header, records))
        });
        let (database, header, records) = opened.map_err(fault)?;
        let numbered = records.iter().zip(0..);
        let numbers = numbered.map(|(record, number)| (Arc::from(record.name.as_str()), number));
        let numbers: BTreeMap<Arc<str>, u64> = numbers.collect();
        if numbers.len() != records.len() {
            return Err(fault(Fault::damaged("two records have one name")));
        }
        Ok(Self {
            path: path.to_owned(),
            file: database,
            header,
            records,
            numbers,
        })
    }

    /// The id under which the node writes in maps that have no record yet.
    pub(super) fn replica(&self) -> ReplicaId {
        self.header.replica
    }

    /// The names of all maps.
    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.numbers.keys()
    }

    /// Bytes of snapshots and logs.
    pub(super) fn bytes(&self) -> u64 {
        let bytes = |record: &Record| record.snapshot.bytes + record.log.bytes;
        self.records.iter().map(bytes).sum()
    }

    /// Whether a snapshot should take the place of the map's log.
    pub(super) fn wants_compaction(&self, name: &str) -> bool {
        let number = self.numbers.get(name);
        let record = number.and_then(|number| self.records.get(*number as usize));
        record.is_some_and(|record| {
            record.log.bytes > MIN_COMPACTION_BYTES.max(2 * record.snapshot.bytes)
        })
    }

    /// Stores additions, at most one a map, in one commit. When it returns, they are on disk.
    ///
    /// After an error the database must be opened again: whether the commit took place is not
    /// known. Adding the same again does no harm.
    pub(super) fn add(&mut self, additions: &[Addition]) -> Result<()> {
        let added = guarded(|| {
            let mut header = self.header;
            let mut changed: Vec<(u64, Record)> = Vec::with_capacity(additions.len());
            let mut transaction = self.file.begin_write()?;
            transaction.set_durability(Durability::Immediate)?;
            // With two phases a damaged page is never taken for a commit that was cut off, which
            // would be rolled back without a word.
            transaction.set_two_phase_commit(true);
            {
                let mut snapshots = transaction.open_table(SNAPSHOTS)?;
                let mut logs = transaction.open_table(LOGS)?;
                let mut members = transaction.open_table(MEMBERS)?;
                for addition in additions {
                    let known = self.numbers.get(&addition.name);
                    let number = known.copied().unwrap_or(header.documents);
                    let mut record = match known {
                        Some(number) => self.records[*number as usize].clone(),
                        None => Record::new(&addition.name, addition.replica),
                    };
                    header.documents = header.documents.max(number + 1);
                    record.replica = addition.replica;
                    if let Some(whole) = &addition.whole {
                        remove_run(&mut snapshots, number, &mut record.snapshot)?;
                        remove_run(&mut logs, number, &mut record.log)?;
                        for piece in whole.chunks(PIECE_BYTES) {
                            let row = piece.to_vec();
                            let run = &mut record.snapshot;
                            append(&mut snapshots, Table::Snapshots, number, run, row)?;
                            run.bytes += piece.len() as u64;
                        }
                    }
                    let mut row = Vec::new();
                    for delta in &addition.deltas {
                        record::put_delta(&mut row, delta);
                        record.log.bytes += delta.len() as u64;
                        if row.len() >= PIECE_BYTES {
                            let row = std::mem::take(&mut row);
                            append(&mut logs, Table::Logs, number, &mut record.log, row)?;
                        }
                    }
                    if !row.is_empty() {
                        append(&mut logs, Table::Logs, number, &mut record.log, row)?;
                    }
                    if let Some(known) = &addition.members {
                        let mut row = known.to_vec();
                        record::seal(&mut row, Table::Members, (number, 0));
                        members.insert(number, row.as_slice())?;
                    }
                    changed.push((number, record));
                }
                let mut documents = transaction.open_table(DOCUMENTS)?;
                for (number, record) in &changed {
                    documents.insert(number, record.encode(*number).as_slice())?;
                }
                if header != self.header {
                    let mut table = transaction.open_table(HEADER)?;
                    table.insert(HEADER_KEY, header.encode().as_slice())?;
                }
            }
            transaction.commit()?;
            Ok((header, changed))
        });
        let (header, changed) = added.map_err(|fault| fault.into_error(&self.path))?;
        self.header = header;
        for (number, record) in changed {
            if let Some(known) = self.records.get_mut(number as usize) {
                *known = record;
            } else {
                self.numbers.insert(Arc::from(record.name.as_str()), number);
                self.records.push(record);
            }
        }
        Ok(())
    }

    /// All that is stored of a map; `None` where there is nothing.
    pub(super) fn load(&self, name: &str) -> Result<Option<Stored>> {
        let Some(&number) = self.numbers.get(name) else {
            return Ok(None);
        };
        let record = &self.records[number as usize];
        let loaded = guarded(|| {
            let transaction = self.file.begin_read()?;
            let mut deltas = Vec::new();
            if record.snapshot.next > record.snapshot.first {
                let table = transaction.open_table(SNAPSHOTS)?;
                let mut whole = Vec::with_capacity(record.snapshot.bytes.min(1 << 32) as usize);
                read_run(&table, Table::Snapshots, number, record.snapshot, |piece| {
                    whole.extend_from_slice(piece);
                    Ok(())
                })?;
                deltas.push(Bytes::from(whole));
            }
            let table = transaction.open_table(LOGS)?;
            read_run(&table, Table::Logs, number, record.log, |piece| {
                let piece = Bytes::copy_from_slice(piece);
                for delta in record::deltas(&piece) {
                    let delta = delta.ok_or_else(|| Fault::damaged("a log is cut off"))?;
                    deltas.push(piece.slice_ref(delta));
                }
                Ok(())
            })?;
            Ok((deltas, read_members(&transaction, number)?))
        });
        let (deltas, members) = loaded.map_err(|fault| fault.about(name).into_error(&self.path))?;
        Ok(Some(Stored {
            replica: record.replica,
            deltas,
            members,
        }))
    }

    /// Reads every page of the file and checks it.
    pub(super) fn check(&mut self) -> Result<()> {
        let checked = guarded(|| {
            let sound = self.file.check_integrity()?;
            let unsound = || Fault::damaged("the database's own check failed");
            sound.then_some(()).ok_or_else(unsound)
        });
        checked.map_err(|fault| fault.into_error(&self.path))
    }
}

fn create(database: &redb::Database, replica: ReplicaId) -> Result<(), Fault> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    let header = Header {
        replica,
        documents: 0,
    };
    transaction
        .open_table(HEADER)?
        .insert(HEADER_KEY, header.encode().as_slice())?;
    transaction.open_table(DOCUMENTS)?;
    transaction.open_table(SNAPSHOTS)?;
    transaction.open_table(LOGS)?;
    transaction.commit()?;
    Ok(())
}

fn read_records(database: &redb::Database) -> Result<(Header, Vec<Record>), Fault> {
    let transaction = database.begin_read()?;
    let table = transaction.open_table(HEADER)?;
    let row = table.get(HEADER_KEY)?;
    let row = row.ok_or_else(|| Fault::damaged("its header is missing"))?;
    let header = Header::decode(row.value()).map_err(|fault| match fault {
        HeaderFault::Damaged => Fault::damaged("its header"),
        HeaderFault::Newer(format) => Fault::Newer(format),
    })?;
    let mut records = Vec::new();
    for row in transaction.open_table(DOCUMENTS)?.iter()? {
        let (number, row) = row?;
        let expected = records.len() as u64;
        let record = Record::decode(row.value(), expected);
        let record = record.filter(|_| number.value() == expected);
        records.push(record.ok_or_else(|| Fault::damaged(format!("record {expected}")))?);
    }
    if records.len() as u64 != header.documents {
        let (found, expected) = (records.len(), header.documents);
        let what = format!("{found} of {expected} records are there");
        return Err(Fault::damaged(what));
    }
    Ok((header, records))
}

fn read_members(
    transaction: &redb::ReadTransaction,
    document: u64,
) -> Result<Option<Bytes>, Fault> {
    let table = match transaction.open_table(MEMBERS) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        table => table?,
    };
    let Some(row) = table.get(document)? else {
        return Ok(None);
    };
    let known = record::open(row.value(), Table::Members, (document, 0));
    let known = known.ok_or_else(|| Fault::damaged("what is kept of the members"))?;
    Ok(Some(Bytes::copy_from_slice(known)))
}

type Pieces<'t> = redb::Table<'t, (u64, u64), &'static [u8]>;

fn append(
    pieces: &mut Pieces<'_>,
    table: Table,
    document: u64,
    run: &mut Run,
    mut row: Vec<u8>,
) -> Result<(), Fault> {
    let key = (document, run.next);
    record::seal(&mut row, table, key);
    pieces.insert(key, row.as_slice())?;
    run.next += 1;
    Ok(())
}

/// Removes the pieces of a run; the next ones are numbered on.
fn remove_run(pieces: &mut Pieces<'_>, document: u64, run: &mut Run) -> Result<(), Fault> {
    pieces.retain_in((document, run.first)..(document, run.next), |_, _| false)?;
    *run = Run {
        first: run.next,
        next: run.next,
        bytes: 0,
    };
    Ok(())
}

fn read_run(
    pieces: &impl ReadableTable<(u64, u64), &'static [u8]>,
    table: Table,
    document: u64,
    run: Run,
    mut take: impl FnMut(&[u8]) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut expected = run.first;
    for row in pieces.range((document, run.first)..(document, run.next))? {
        let (key, row) = row?;
        let key = key.value();
        let piece = record::open(row.value(), table, key).filter(|_| key == (document, expected));
        let piece =
            piece.ok_or_else(|| Fault::damaged(format!("piece {expected} of {table:?}")))?;
        take(piece)?;
        expected += 1;
    }
    if expected != run.next {
        let what = format!(
            "pieces {expected} to {} of {table:?} are missing",
            run.next - 1
        );
        return Err(Fault::damaged(what));
    }
    Ok(())
}

/// What can go wrong in here, before it is put in words for the user.
enum Fault {
    Damaged(String),
    Newer(u32),
    InUse,
    Io(io::Error),
}

impl Fault {
    fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged(what.into())
    }

    fn about(self, map: &str) -> Self {
        match self {
            Self::Damaged(what) => Self::Damaged(format!("map `{map}`: {what}")),
            other => other,
        }
    }

    fn into_error(self, path: &Path) -> Error {
        let path = path.to_owned();
        match self {
            Self::Damaged(what) => Error::StoreDamaged { path, what },
            Self::Newer(found) => Error::StoreNewer {
                path,
                found,
                known: FORMAT,
            },
            Self::InUse => Error::StoreInUse { path },
            Self::Io(error) => io_error(path, error),
        }
    }
}

/// An error of the system in words.
pub(super) fn io_error(path: PathBuf, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::StoreFull { path },
        // The file ends where the database says that there is more, or is none of its kind.
        io::ErrorKind::UnexpectedEof => Error::StoreDamaged {
            path,
            what: "its file is cut off".into(),
        },
        io::ErrorKind::InvalidData => Error::StoreDamaged {
            path,
            what: error.to_string(),
        },
        _ => Error::StoreFailed {
            path,
            source: Arc::new(error),
        },
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

macro_rules! faults_from {
    ($($source:ty)*) => {$(
        impl From<$source> for Fault {
            fn from(error: $source) -> Self {
                match redb::Error::from(error) {
                    redb::Error::Io(error) => Self::Io(error),
                    redb::Error::DatabaseAlreadyOpen => Self::InUse,
                    redb::Error::PreviousIo => Self::Io(io::Error::other("an earlier write failed")),
                    other => Self::Damaged(other.to_string()),
                }
            }
        }
    )*};
}

faults_from! {
    redb::DatabaseError redb::TransactionError redb::TableError redb::StorageError
    redb::CommitError redb::SetDurabilityError
}

/// A database whose closing, too, is [`guarded`].
#[derive(Debug)]
struct Guarded(Option<redb::Database>);

impl Deref for Guarded {
    type Target = redb::Database;

    fn deref(&self) -> &redb::Database {
        // Taken by `drop` alone.
        self.0.as_ref().unwrap_or_else(|| unreachable!())
    }
}

impl DerefMut for Guarded {
    fn deref_mut(&mut self) -> &mut redb::Database {
        self.0.as_mut().unwrap_or_else(|| unreachable!())
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let database = self.0.take();
        let closed = guarded(|| {
            drop(database);
            Ok(())
        });
        if let Err(Fault::Damaged(what)) = closed {
            tracing::error!(what, "the store's file was not closed in order");
        }
    }
}

/// Runs something on the database. Pages that make no sense can make redb panic in place of
/// giving an error; that is damage too, and must not take the process along.
fn guarded<T>(f: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| {
        let what = panic.downcast_ref::<String>().map(String::as_str);
        let what = what.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(Fault::damaged(what.unwrap_or("a page makes no sense")))
    })
}
