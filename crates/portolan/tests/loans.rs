//! Programs that come, write and go leave no more than a few ids behind.

mod common;

use common::{Server, client, converge, memory, soon, until};
use portolan::{Map, Node, Value};
use tokio::task::JoinSet;

/// Visits at a time.
const AT_ONCE: usize = 8;

/// The server's side of the map `m`.
async fn there(server: &Server) -> Map {
    server.node.open("m").await.unwrap()
}

/// Comes, writes once and goes.
async fn visit(node: Node, number: usize) {
    let map = node.open("m").await.unwrap();
    map.set(format!("key {}", number % 7), number as i64)
        .unwrap();
    soon("flush", map.flush_peers()).await.unwrap();
    if number.is_multiple_of(2) {
        soon("close", node.close()).await.unwrap();
    }
    // The others just drop everything.
}

#[tokio::test]
async fn hundreds_of_programs_leave_few_ids_behind() {
    let directory = tempfile::tempdir().unwrap();
    let store = Node::builder().store(directory.path());
    let server = Server::start(store.spawn().await.unwrap()).await;
    let map = there(&server).await;
    for round in 0..40 {
        let mut visits = JoinSet::new();
        for number in 0..AT_ONCE {
            let node = client(&server).await;
            visits.spawn(visit(node, round * AT_ONCE + number));
        }
        while let Some(done) = visits.join_next().await {
            done.unwrap();
        }
        until("all have gone", &map, |map| {
            map.status().sessions.is_empty()
        })
        .await;
    }
    let status = map.status();
    assert_eq!(status.version.len(), 40 * AT_ONCE as u64);
    assert!(status.replicas <= AT_ONCE, "{} ids", status.replicas);
    assert_eq!(status.spare_ids, status.replicas, "all came back");
}

#[tokio::test]
async fn an_element_is_found_after_its_writer_was_lent_an_id() {
    let server = Server::start(memory().await).await;
    visit(client(&server).await, 0).await;
    let map = there(&server).await;
    until("the id is back", &map, |map| map.status().spare_ids == 1).await;
    let node = client(&server).await;
    let here = node.open("m").await.unwrap();
    let own = here.status().replica;
    let users = here.array("users");
    let id = users.append("ada").unwrap();
    let ada = users.map(0).unwrap();
    soon("flush", here.flush_peers()).await.unwrap();
    assert_ne!(here.status().replica, own, "an id was lent");
    assert_eq!(users.index_of(id), Some(0));
    ada.set("age", 36).unwrap();
    assert_eq!(ada.get("age"), Some(Value::from(36)));
    users.delete(0).unwrap();
    assert!(users.undelete(id).unwrap());
    soon("flush", here.flush_peers()).await.unwrap();
    converge(&here, &map).await;
    assert_eq!(map.status().replicas, 1);
}
