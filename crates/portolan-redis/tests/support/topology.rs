//! More than one server: a master with a replica and a Sentinel, and a cluster.

use std::process::Command;

use portolan_redis::Server;
use redis::aio::MultiplexedConnection;

use super::{Redis, ask, free_port, until};

/// A master, a replica that follows it, and a Sentinel that knows both.
pub(crate) struct Watched {
    pub(crate) master: Redis,
    pub(crate) replica: Redis,
    pub(crate) sentinel: Redis,
}

impl Watched {
    pub(crate) async fn start() -> Self {
        let master = Redis::start().await;
        let follow = format!("127.0.0.1 {}", master.port);
        let replica = Redis::with(&["--replicaof", &follow]).await;
        let connection = replica.plain().await;
        until("the replica follows", async || {
            let info: String = ask(&mut connection.clone(), &["INFO", "replication"]).await;
            info.contains("master_link_status:up")
        })
        .await;
        let rules = format!(
            "sentinel monitor fleet 127.0.0.1 {} 1\n\
             sentinel down-after-milliseconds fleet 300\n\
             sentinel failover-timeout fleet 2000\n",
            master.port
        );
        let sentinel = Redis::sentinel(&rules).await;
        let connection = sentinel.plain().await;
        until("the replica is known", async || {
            let mut replicas = redis::cmd("SENTINEL");
            replicas.arg("REPLICAS").arg("fleet");
            let known: Vec<redis::Value> =
                replicas.query_async(&mut connection.clone()).await.unwrap();
            known.len() == 1
        })
        .await;
        Self {
            master,
            replica,
            sentinel,
        }
    }

    /// Has the Sentinel make the replica the master; the other one stays up as its replica.
    pub(crate) async fn fail_over(&self) {
        until(
            "the Sentinel finds the replica fit to be master",
            async || {
                let mut failover = redis::cmd("SENTINEL");
                failover.arg("FAILOVER").arg("fleet");
                let mut connection = self.sentinel.plain().await;
                failover.exec_async(&mut connection).await.is_ok()
            },
        )
        .await;
        // A server ends its connections when it becomes the master.
        until("the replica is master", async || {
            let client = redis::Client::open(self.replica.url()).unwrap();
            let Ok(mut connection) = client.get_multiplexed_async_connection().await else {
                return false;
            };
            let mut info = redis::cmd("INFO");
            let info = info.arg("replication").query_async(&mut connection).await;
            info.is_ok_and(|info: String| info.contains("role:master"))
        })
        .await;
    }

    /// Whichever is the master.
    pub(crate) fn server(&self) -> Server {
        Server::sentinel(&[&self.sentinel.url()], "fleet", "redis://fleet").unwrap()
    }
}

/// Three nodes with all slots.
pub(crate) struct Cluster {
    nodes: Vec<Redis>,
    connections: Vec<MultiplexedConnection>,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let (mut nodes, mut connections) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            // The nodes talk to each other on a port 10,000 higher.
            let port = std::iter::repeat_with(free_port)
                .find(|port| *port < 55_000)
                .unwrap();
            let enabled = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
            let node = Redis::spawned(port, &enabled);
            node.answers().await;
            connections.push(node.plain().await);
            nodes.push(node);
        }
        let made = Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)))
            .arg("--cluster-yes")
            .output()
            .unwrap();
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stdout)
        );
        for connection in &connections {
            until("the cluster is whole", async || {
                let info: String = ask(&mut connection.clone(), &["CLUSTER", "INFO"]).await;
                info.contains("cluster_state:ok")
            })
            .await;
        }
        Self { nodes, connections }
    }

    pub(crate) fn server(&self) -> Server {
        let urls: Vec<String> = self.nodes.iter().map(Redis::url).collect();
        let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
        Server::cluster(&urls).unwrap()
    }

    /// Moves the slot of a key to another node, with all keys in it, one after the other; a
    /// connection to that node.
    pub(crate) async fn move_slot(&mut self, key: &str) -> MultiplexedConnection {
        let connections = &mut self.connections;
        let slot: u16 = ask(&mut connections[0], &["CLUSTER", "KEYSLOT", key]).await;
        let slot = slot.to_string();
        let (mut ids, mut owner) = (Vec::new(), None);
        for (at, connection) in connections.iter_mut().enumerate() {
            let id: String = ask(connection, &["CLUSTER", "MYID"]).await;
            ids.push(id);
            let keys: Vec<String> =
                ask(connection, &["CLUSTER", "GETKEYSINSLOT", &slot, "10"]).await;
            if !keys.is_empty() {
                owner = Some((at, keys));
            }
        }
        let (from, keys) = owner.expect("the key is somewhere");
        let to = (from + 1) % connections.len();
        let importing = ["CLUSTER", "SETSLOT", &slot, "IMPORTING", &ids[from]];
        let _: String = ask(&mut connections[to], &importing).await;
        let migrating = ["CLUSTER", "SETSLOT", &slot, "MIGRATING", &ids[to]];
        let _: String = ask(&mut connections[from], &migrating).await;
        let port = self.nodes[to].port.to_string();
        for key in &keys {
            let migrate = ["MIGRATE", "127.0.0.1", &port, key, "0", "5000"];
            let _: String = ask(&mut connections[from], &migrate).await;
        }
        // The new owner first: another one would send clients to where they are sent back.
        let others = (0..connections.len()).filter(|at| ![to, from].contains(at));
        for at in [to, from].into_iter().chain(others) {
            let moved = ["CLUSTER", "SETSLOT", &slot, "NODE", &ids[to]];
            let _: String = ask(&mut connections[at], &moved).await;
        }
        connections[to].clone()
    }
}
