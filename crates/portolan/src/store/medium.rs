//! Where the database's bytes are.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, StorageBackend, StorageError};

/// Opens the database's bytes, again and again: after a failed write a database must be opened
/// anew. Tests put failing disks in its place.
pub(super) trait Medium: Debug + Send + 'static {
    /// The database, and whether there was one: one that is being created is put in its place by
    /// [`settle`](Self::settle), once it is whole.
    fn open(&self, builder: &Builder) -> Result<(Database, bool), DatabaseError>;

    /// A store that did not exist has been written.
    fn settle(&self) -> io::Result<()>;
}

/// The directory of a store, held by an exclusive lock.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    _lock: File,
}

const DATABASE: &str = "portolan.redb";
const UNFINISHED: &str = "portolan.redb.new";
const LOCK: &str = "lock";

impl Directory {
    /// Locks the directory; `None` where another process has. Creates it if asked to.
    pub(super) fn lock(path: &Path, create: bool) -> io::Result<Option<Self>> {
        if create {
            fs::create_dir_all(path)?;
        }
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(create)
            .truncate(false);
        let lock = options.open(path.join(LOCK))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            // The database has a lock of its own for file systems that know no such lock.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
        Ok(Some(Self {
            path: path.to_owned(),
            _lock: lock,
        }))
    }

    fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }

    /// Whether there is a store in it.
    pub(super) fn is_store(path: &Path) -> bool {
        path.join(DATABASE).exists()
    }
}

impl Medium for Directory {
    fn open(&self, builder: &Builder) -> Result<(Database, bool), DatabaseError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let (file, exists) = match options.open(self.database()) {
            Ok(file) => (file, true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let unfinished = self.path.join(UNFINISHED);
                let options = options.create(true).truncate(true);
                (options.open(unfinished).map_err(storage)?, false)
            }
            Err(error) => return Err(storage(error)),
        };
        // An empty file must never pass for a store without maps; that is why a store gets its
        // name only when it is whole.
        if exists && file.metadata().map_err(storage)?.len() == 0 {
            return Err(storage(io::ErrorKind::UnexpectedEof.into()));
        }
        let database = builder.create_with_backend(FileBackend::new(file)?)?;
        Ok((database, exists))
    }

    fn settle(&self) -> io::Result<()> {
        fs::rename(self.path.join(UNFINISHED), self.database())?;
        // The name is on disk only with its directory. Not all systems let one sync a directory,
        // and those that do not need no such call.
        if let Ok(directory) = File::open(&self.path) {
            let _ = directory.sync_all();
        }
        Ok(())
    }
}

fn storage(error: io::Error) -> DatabaseError {
    DatabaseError::Storage(StorageError::Io(error))
}

/// A store's file as it is; what is written lands in memory. For looking without touching, even
/// where the database first repairs itself after a crash.
#[derive(Debug)]
pub(super) struct Untouched(pub(super) Directory);

impl Medium for Untouched {
    fn open(&self, builder: &Builder) -> Result<(Database, bool), DatabaseError> {
        let file = File::open(self.0.database()).map_err(storage)?;
        let len = file.metadata().map_err(storage)?.len();
        if len == 0 {
            return Err(storage(io::ErrorKind::UnexpectedEof.into()));
        }
        let file = FileBackend::new(file)?;
        let overlay = Overlay {
            file,
            state: Mutex::new(Written {
                original: len,
                len,
                blocks: BTreeMap::new(),
            }),
        };
        Ok((builder.create_with_backend(overlay)?, true))
    }

    fn settle(&self) -> io::Result<()> {
        Ok(())
    }
}

const BLOCK: u64 = 4096;

#[derive(Debug)]
struct Overlay {
    file: FileBackend,
    state: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    /// How much of the file shows through; it shrinks where the storage was cut.
    original: u64,
    len: u64,
    blocks: BTreeMap<u64, Box<[u8]>>,
}

impl Overlay {
    /// A block as it reads now.
    fn block(&self, state: &Written, number: u64) -> io::Result<Box<[u8]>> {
        if let Some(block) = state.blocks.get(&number) {
            return Ok(block.clone());
        }
        let mut block = vec![0; BLOCK as usize].into_boxed_slice();
        let start = number * BLOCK;
        let there = state.original.saturating_sub(start).min(BLOCK);
        if there > 0 {
            self.file.read(start, &mut block[..there as usize])?;
        }
        Ok(block)
    }
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state.lock();
        if offset.saturating_add(out.len() as u64) > state.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut done = 0;
        while done < out.len() {
            let at = offset + done as u64;
            let (number, within) = (at / BLOCK, (at % BLOCK) as usize);
            let count = (BLOCK as usize - within).min(out.len() - done);
            let block = self.block(&state, number)?;
            out[done..done + count].copy_from_slice(&block[within..within + count]);
            done += count;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        if len < state.len {
            state.original = state.original.min(len);
            state.blocks.split_off(&len.div_ceil(BLOCK));
            if let Some(block) = state.blocks.get_mut(&(len / BLOCK)) {
                block[(len % BLOCK) as usize..].fill(0);
            }
        }
        state.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock();
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            let (number, within) = (at / BLOCK, (at % BLOCK) as usize);
            let count = (BLOCK as usize - within).min(data.len() - done);
            let mut block = self.block(&state, number)?;
            block[within..within + count].copy_from_slice(&data[done..done + count]);
            state.blocks.insert(number, block);
            done += count;
        }
        Ok(())
    }
}
