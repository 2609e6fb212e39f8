//! Connections to `wss://` servers.
#![cfg(feature = "tls")]

mod common;

use std::sync::Arc;

use common::{Server, memory, soon};
use portolan::{AllowAll, Error, LinkState, Node, Peer, Value};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

fn configurations() -> (TlsAcceptor, Arc<ClientConfig>) {
    let names = vec!["localhost".to_owned()];
    let own = rcgen::generate_simple_self_signed(names).unwrap();
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider.clone());
    let server = server.with_safe_default_protocol_versions().unwrap();
    let server = server.with_no_client_auth();
    let server = server
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(own.cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider);
    let client = client.with_safe_default_protocol_versions().unwrap();
    let client = client.with_root_certificates(roots).with_no_client_auth();
    (TlsAcceptor::from(Arc::new(server)), Arc::new(client))
}

#[tokio::test]
async fn a_server_with_a_trusted_certificate_is_used_and_another_is_not() {
    let (acceptor, trusting) = configurations();
    let node = memory().await;
    let allow = Arc::new(AllowAll);
    let server = Server::start_on(node, allow, "127.0.0.1:0", Some(acceptor)).await;
    let url = format!("wss://localhost:{}", server.address.port());
    let node = Node::builder().connect(Peer::new(&url).tls(trusting));
    let node = node.spawn().await.unwrap();
    let map = node.open("m").await.unwrap();
    map.set("k", "secret").unwrap();
    soon("flush", map.flush_peers()).await.unwrap();
    let there = server.node.get("m").await.unwrap().unwrap();
    assert_eq!(there.get("k"), Some(Value::from("secret")));

    let (_, distrusting) = configurations();
    let node = Node::builder().connect(Peer::new(&url).tls(distrusting));
    let node = node.spawn().await.unwrap();
    let reason = soon("the refusal", async {
        loop {
            let link = node.status().links.remove(0);
            if let LinkState::Connecting { last: Some(error) } = link.state {
                return error;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(matches!(reason, Error::Unreachable { .. }), "{reason}");
    assert!(reason.to_string().contains("certificate"), "{reason}");
}
