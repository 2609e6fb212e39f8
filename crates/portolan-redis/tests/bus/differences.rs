//! A node that holds something else than the others: it finds it by their digests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use portolan::{Bus, BusFuture, Listener, Node, Reading, Renewal, Snapshot};
use portolan_redis::RedisBus;

use crate::support::{Redis, until};
use crate::{NAME, bus, config, converge, node};

/// A bus of which one entry arrives damaged.
#[derive(Debug)]
struct Damaging {
    bus: Arc<RedisBus>,
    damages: Arc<AtomicBool>,
}

/// Passes on what it hears, and damages an entry when it is told to.
struct Damaged {
    listener: Arc<dyn Listener>,
    damages: Arc<AtomicBool>,
}

impl Listener for Damaged {
    fn heard(&self, epoch: u64, number: u64, entry: Option<Bytes>) {
        let entry = entry.map(|entry| {
            if !self.damages.swap(false, Ordering::SeqCst) {
                return entry;
            }
            let mut bytes = entry.to_vec();
            *bytes.last_mut().unwrap() ^= 1;
            bytes.into()
        });
        self.listener.heard(epoch, number, entry);
    }

    fn told(&self, message: Bytes) {
        self.listener.told(message);
    }

    fn disturbed(&self) {
        self.listener.disturbed();
    }
}

impl Bus for Damaging {
    fn address(&self) -> String {
        self.bus.address()
    }

    fn digest_period(&self) -> Duration {
        self.bus.digest_period()
    }

    fn follow(&self, map: &str, listener: Arc<dyn Listener>) {
        let damages = self.damages.clone();
        self.bus
            .follow(map, Arc::new(Damaged { listener, damages }));
    }

    fn unfollow(&self, _: &str, _: &Arc<dyn Listener>) {}

    fn read<'a>(&'a self, map: &'a str, first: u64) -> BusFuture<'a, Option<Reading>> {
        self.bus.read(map, first)
    }

    fn append<'a>(&'a self, map: &'a str, epoch: u64, entry: Bytes) -> BusFuture<'a, Option<u64>> {
        self.bus.append(map, epoch, entry)
    }

    fn renew<'a>(&'a self, map: &'a str, renewal: Renewal) -> BusFuture<'a, bool> {
        self.bus.renew(map, renewal)
    }

    fn snapshot<'a>(&'a self, map: &'a str) -> BusFuture<'a, Option<Snapshot>> {
        self.bus.snapshot(map)
    }

    fn claim<'a>(&'a self, map: &'a str, latest: u64) -> BusFuture<'a, bool> {
        self.bus.claim(map, latest)
    }

    fn save<'a>(
        &'a self,
        map: &'a str,
        epoch: u64,
        snapshot: Snapshot,
        keep: u64,
    ) -> BusFuture<'a, bool> {
        self.bus.save(map, epoch, snapshot, keep)
    }

    fn tell<'a>(&'a self, map: &'a str, message: Bytes) -> BusFuture<'a, ()> {
        self.bus.tell(map, message)
    }

    fn maps(&self, known: Vec<Arc<str>>) -> BusFuture<'_, Vec<String>> {
        self.bus.maps(known)
    }
}

#[tokio::test]
async fn an_entry_that_a_node_could_not_read_comes_by_another_way() {
    let redis = Redis::start().await;
    let (_a, first) = node(&redis).await;
    let damages = Arc::new(AtomicBool::new(false));
    let damaging = Damaging {
        bus: bus(&redis.url()),
        damages: damages.clone(),
    };
    let other = Node::builder().sync(config()).bus(Arc::new(damaging));
    let other = other.spawn().await.unwrap();
    let second = other.open(NAME).await.unwrap();
    first.set("k", 1).unwrap();
    until("it is there", async || second.get("k").is_some()).await;
    let differences = || {
        let map = other.status().maps.into_iter().find(|map| map.name == NAME);
        map.and_then(|map| Some(map.bus?.differences))
    };
    assert_eq!(differences(), Some(0));
    damages.store(true, Ordering::SeqCst);
    first.set("lost", 2).unwrap();
    until("it is damaged", async || !damages.load(Ordering::SeqCst)).await;
    first.set("k", 3).unwrap();
    until("it goes on", async || second.get("k") == Some(3.into())).await;
    until("what was lost is there", async || {
        second.get("lost") == Some(2.into())
    })
    .await;
    converge(&[&first, &second]).await;
    assert_eq!(differences(), Some(1));
}
