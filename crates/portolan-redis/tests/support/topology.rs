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

/// Three masters with all slots, and their replicas.
pub(crate) struct Cluster {
    nodes: Vec<Redis>,
    connections: Vec<MultiplexedConnection>,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::of(3, "0").await
    }

    /// With a replica for each master.
    pub(crate) async fn with_replicas() -> Self {
        let cluster = Self::of(6, "1").await;
        for connection in &cluster.connections {
            until("the replicas follow", async || {
                let info: String = ask(&mut connection.clone(), &["INFO", "replication"]).await;
                info.contains("master_link_status:up") || info.contains("state=online")
            })
            .await;
        }
        cluster
    }

    async fn of(count: usize, replicas: &str) -> Self {
        let (mut nodes, mut connections) = (Vec::new(), Vec::new());
        for _ in 0..count {
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
            .args(["--cluster-replicas", replicas, "--cluster-yes"])
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

    /// Kills the master that has a key, and waits until its replica has taken its place; a
    /// connection to that.
    pub(crate) async fn fail_over(&mut self, key: &str) -> MultiplexedConnection {
        let at = self.master_of(key).await.expect("it is somewhere");
        let copied: u64 = ask(&mut self.connections[at], &["WAIT", "1", "5000"]).await;
        assert_eq!(copied, 1, "the replica has all of it");
        self.nodes[at].kill();
        self.connections.remove(at);
        // Dropped, and its folder with it: it does not come back.
        self.nodes.remove(at);
        until("the replica is the master", async || {
            self.master_of(key).await.is_some()
        })
        .await;
        for connection in &self.connections {
            until("the cluster is whole", async || {
                let info: String = ask(&mut connection.clone(), &["CLUSTER", "INFO"]).await;
                info.contains("cluster_state:ok")
            })
            .await;
        }
        let master = self.master_of(key).await.expect("it was found");
        self.connections[master].clone()
    }

    /// The master that has a key, by its place among the nodes.
    async fn master_of(&self, key: &str) -> Option<usize> {
        for (at, connection) in self.connections.iter().enumerate() {
            let mut connection = connection.clone();
            let role: redis::RedisResult<Vec<redis::Value>> =
                redis::cmd("ROLE").query_async(&mut connection).await;
            let is_master = role.is_ok_and(|role| {
                role.first() == Some(&redis::Value::BulkString(b"master".to_vec()))
            });
            // One that does not have it sends elsewhere.
            let here: redis::RedisResult<u64> = redis::cmd("EXISTS")
                .arg(key)
                .query_async(&mut connection)
                .await;
            if is_master && here == Ok(1) {
                return Some(at);
            }
        }
        None
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
