//! Who is present at one node is seen at the others, and nothing of it is kept.

use bytes::Bytes;
use portolan::Map;

use crate::support::{Redis, until};
use crate::{NAME, bus, config, node, node_on};

fn present(map: &Map) -> Vec<Bytes> {
    let mut all: Vec<_> = map
        .presences()
        .into_iter()
        .map(|(_, state)| state)
        .collect();
    all.sort();
    all
}

#[tokio::test]
async fn presence_goes_over_the_bus_and_is_kept_nowhere() {
    let redis = Redis::start().await;
    let (a, first) = node(&redis).await;
    let (_b, second) = node(&redis).await;
    first.set_presence(Some("a".into())).unwrap();
    until("it is seen", async || present(&second) == ["a"]).await;
    second.set_presence(Some("b".into())).unwrap();
    first.set_presence(Some("a2".into())).unwrap();
    until("both are seen", async || {
        present(&second) == ["a2"] && present(&first) == ["b"]
    })
    .await;
    assert!(first.version().is_empty());
    let mut plain = redis.plain().await;
    let log = format!("portolan:{{{NAME}}}:log");
    let entries: Vec<redis::Value> = redis::cmd("XRANGE")
        .arg(&log)
        .arg("-")
        .arg("+")
        .query_async(&mut plain)
        .await
        .unwrap();
    let held = format!("{entries:?}");
    assert!(
        !held.contains("97, 50"),
        "the log holds who is present: {held}"
    );
    // A third one hears of all who were there before it.
    let (_c, third) = node(&redis).await;
    until("all are seen", async || present(&third) == ["a2", "b"]).await;
    // Who leaves says so.
    first.set_presence(None).unwrap();
    until("it is gone", async || present(&third) == ["b"]).await;
    a.close().await.unwrap();
}

#[test]
fn who_is_present_at_a_node_that_dies_is_gone_after_three_periods() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let dying = tokio::runtime::Runtime::new().unwrap();
    let redis = runtime.block_on(Redis::start());
    let lasting = runtime.block_on(node(&redis));
    let url = redis.url();
    let (node, map) = dying.block_on(async { node_on(bus(&url)).await });
    map.set_presence(Some("x".into())).unwrap();
    runtime.block_on(until("it is seen", async || present(&lasting.1) == ["x"]));
    // Nothing runs there any more, and nothing is said.
    dying.shutdown_background();
    runtime.block_on(until("it is gone", async || present(&lasting.1).is_empty()));
    assert!(config().presence_period < 1_000);
    std::mem::forget((node, map));
}
