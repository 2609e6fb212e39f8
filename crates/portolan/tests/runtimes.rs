//! Where a node can be spawned, and what it says where it cannot.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use portolan::{Error, Node};
use tokio::runtime::Builder;

fn lacks(spawned: Result<Node, Error>) -> String {
    match spawned {
        Err(error @ Error::Runtime { .. }) => error.to_string(),
        Err(error) => panic!("another error: {error}"),
        Ok(_) => panic!("spawned"),
    }
}

#[test]
fn a_runtime_that_cannot_run_a_node_is_told_to_be_so() {
    let server = || Node::builder().connect("ws://127.0.0.1:9");

    let mut context = Context::from_waker(Waker::noop());
    let outside = pin!(Node::builder().spawn());
    let Poll::Ready(spawned) = outside.poll(&mut context) else {
        panic!("it waits for something");
    };
    assert!(lacks(spawned).contains("there is none"));

    let bare = Builder::new_current_thread().build().unwrap();
    let spawned = bare.block_on(Node::builder().spawn());
    assert!(lacks(spawned).contains("with time enabled"));

    let timed = Builder::new_current_thread().enable_time().build().unwrap();
    let spawned = timed.block_on(server().spawn());
    assert!(lacks(spawned).contains("with I/O enabled"));
    // Without servers it needs none.
    let spawned = timed.block_on(Node::builder().spawn());
    timed.block_on(spawned.unwrap().close()).unwrap();

    let whole = Builder::new_current_thread().enable_all().build().unwrap();
    let spawned = whole.block_on(server().spawn());
    whole.block_on(spawned.unwrap().close()).unwrap();
}
