//! The input that every engine gets: the same keys and values in the same order.

/// One key with the value to put under it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) value: i64,
}

/// What a whole map holds, told briefly: enough to notice an engine that skips work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) keys: usize,
    pub(crate) sum: i64,
}

impl Contents {
    pub(crate) fn add(&mut self, value: i64) {
        self.keys += 1;
        self.sum += value;
    }

    pub(crate) fn of<'a>(values: impl IntoIterator<Item = &'a Entry>) -> Self {
        let mut contents = Self::default();
        for entry in values {
            contents.add(entry.value);
        }
        contents
    }
}

/// `n` distinct keys of ten bytes in random order. The values are random too: were they in the
/// order of the keys or of the writes, a columnar codec would get them for nothing.
pub(crate) fn entries(n: usize) -> Vec<Entry> {
    entries_with(n, 1)
}

/// As [`entries`]; each `stream` has another order and other values for the same keys.
pub(crate) fn entries_with(n: usize, stream: u64) -> Vec<Entry> {
    let mut random = Random::new(stream);
    let mut entries: Vec<Entry> = (0..n)
        .map(|i| Entry {
            key: format!("key-{i:06}"),
            value: random.below(1_000_000) as i64,
        })
        .collect();
    random.shuffle(&mut entries);
    entries
}

/// `n` writes to the same `keys` keys: all writes of a key before those of the next.
pub(crate) fn overwrites(keys: usize, n: usize) -> Vec<Entry> {
    let mut random = Random::new(3);
    (0..n)
        .map(|i| Entry {
            key: format!("key-{:06}", i * keys / n),
            value: random.below(1_000_000) as i64,
        })
        .collect()
}

/// The same writes in random order.
pub(crate) fn mixed_overwrites(keys: usize, n: usize) -> Vec<Entry> {
    let mut writes = overwrites(keys, n);
    Random::new(4).shuffle(&mut writes);
    writes
}

/// An id for the replica of this number. Real ids are random, and encodings that write them
/// as variable-length numbers must pay for it here as well.
pub(crate) fn replica_id(number: u64) -> u64 {
    Random::new(number ^ 0x706f_7274).next()
}

/// SplitMix64: small, and the same on every machine.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = self.below(i as u64 + 1) as usize;
            items.swap(i, j);
        }
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
