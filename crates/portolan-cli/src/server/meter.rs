//! What the server measures, for Prometheus.

use std::time::Duration;

use anyhow::Context as _;
use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use portolan::{LinkState, NodeStatus};

const SECONDS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// The recorder of this process.
pub(crate) struct Meter {
    handle: PrometheusHandle,
}

impl Meter {
    /// Starts to record; once in a process.
    pub(crate) fn install(descriptors: u64) -> anyhow::Result<Self> {
        let builder = PrometheusBuilder::new().set_buckets(SECONDS);
        let handle = builder
            .context("buckets")?
            .install_recorder()
            .context("cannot record metrics")?;
        describe();
        gauge!("portolan_file_descriptors_limit").set(descriptors as f64);
        gauge!("portolan_connections").set(0);
        Ok(Self { handle })
    }

    /// Everything, as text.
    pub(crate) fn render(&self, node: &NodeStatus, streams: usize) -> String {
        record(node, streams);
        self.handle.run_upkeep();
        self.handle.render()
    }

    /// Makes room; due every few seconds.
    pub(crate) fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

/// Counts a request that was answered.
pub(crate) fn request(method: &str, route: &str, status: u16, took: Duration) {
    let labels = [
        ("method", method.to_owned()),
        ("route", route.to_owned()),
        ("status", status.to_string()),
    ];
    counter!("portolan_http_requests_total", &labels).increment(1);
    histogram!("portolan_http_request_seconds", "route" => route.to_owned()).record(took);
}

/// Counts bytes of frames on a connection that is served.
pub(crate) fn frame(direction: &'static str, bytes: usize) {
    counter!("portolan_sync_frames_total", "direction" => direction).increment(1);
    counter!("portolan_sync_bytes_total", "direction" => direction).increment(bytes as u64);
}

/// A connection is open for as long as this lives.
pub(crate) struct OpenConnection(());

impl OpenConnection {
    pub(crate) fn count() -> Self {
        gauge!("portolan_connections").increment(1);
        counter!("portolan_connections_total").increment(1);
        Self(())
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        gauge!("portolan_connections").decrement(1);
    }
}

fn record(node: &NodeStatus, streams: usize) {
    let sum = |f: fn(&portolan::MapStatus) -> u64| node.maps.iter().map(f).sum::<u64>() as f64;
    let sessions = node.maps.iter().flat_map(|map| &map.sessions);
    let queued = sessions
        .map(|session| session.queued_bytes as u64)
        .sum::<u64>();
    gauge!("portolan_documents").set(node.maps.len() as f64);
    gauge!("portolan_keys").set(sum(|map| map.keys as u64));
    gauge!("portolan_operations").set(sum(|map| map.version.len()));
    gauge!("portolan_replicas").set(sum(|map| map.replicas as u64));
    gauge!("portolan_sessions").set(sum(|map| map.sessions.len() as u64));
    gauge!("portolan_queued_bytes").set(queued as f64);
    gauge!("portolan_unstored_writes").set(sum(|map| map.unstored));
    gauge!("portolan_event_streams").set(streams as f64);
    let served = node.links.iter().filter(|link| !link.opened).count();
    let online = node
        .links
        .iter()
        .filter(|link| link.opened && matches!(link.state, LinkState::Online));
    gauge!("portolan_sync_links", "side" => "served").set(served as f64);
    gauge!("portolan_sync_links", "side" => "opened").set(online.count() as f64);
    if let Some(bus) = &node.bus {
        counter!("portolan_bus_entries_appended_total").absolute(bus.appended);
        counter!("portolan_bus_entries_read_total").absolute(bus.read);
        counter!("portolan_bus_joins_total").absolute(bus.joins);
        counter!("portolan_bus_snapshots_total").absolute(bus.snapshots);
        gauge!("portolan_bus_failing").set(f64::from(u8::from(bus.failure.is_some())));
        let unpublished = |map: &portolan::MapStatus| map.bus.as_ref().map_or(0, |b| b.unpublished);
        gauge!("portolan_bus_unpublished_operations").set(sum(unpublished));
        let differences = node.maps.iter();
        let differences = differences.filter_map(|map| Some(map.bus.as_ref()?.differences));
        counter!("portolan_bus_differences_total").absolute(differences.sum());
    }
    if let Some(store) = &node.store {
        counter!("portolan_store_commits_total").absolute(store.commits);
        counter!("portolan_store_writes_total").absolute(store.writes);
        counter!("portolan_store_written_bytes_total").absolute(store.written_bytes);
        counter!("portolan_store_compactions_total").absolute(store.compactions);
        gauge!("portolan_store_backlog_bytes").set(store.backlog_bytes as f64);
        gauge!("portolan_store_failing").set(f64::from(u8::from(store.failure.is_some())));
    }
}

fn describe() {
    describe_gauge!("portolan_connections", "Connections open now");
    describe_counter!("portolan_connections_total", "Connections accepted");
    describe_gauge!(
        "portolan_file_descriptors_limit",
        "Files this process may have open: bounds the connections"
    );
    describe_counter!("portolan_http_requests_total", "Requests answered");
    describe_histogram!(
        "portolan_http_request_seconds",
        Unit::Seconds,
        "Time until a request was answered"
    );
    describe_counter!(
        "portolan_sync_frames_total",
        "Frames on the connections served"
    );
    describe_counter!(
        "portolan_sync_bytes_total",
        Unit::Bytes,
        "Bytes of frames on the connections served"
    );
    describe_gauge!(
        "portolan_sync_links",
        "Connections that synchronise, served or opened to other servers"
    );
    describe_gauge!("portolan_documents", "Maps in memory");
    describe_gauge!("portolan_keys", "Keys of all maps in memory");
    describe_gauge!(
        "portolan_operations",
        "Operations applied to all maps in memory"
    );
    describe_gauge!(
        "portolan_replicas",
        "Entries of the versions of all maps in memory: ids that have written"
    );
    describe_gauge!(
        "portolan_sessions",
        "Maps open on connections, each counted for each"
    );
    describe_gauge!(
        "portolan_queued_bytes",
        Unit::Bytes,
        "Bytes that wait to be sent to peers"
    );
    describe_gauge!(
        "portolan_unstored_writes",
        "Changes that wait for the store"
    );
    describe_gauge!("portolan_event_streams", "Streams of server-sent events");
    describe_counter!("portolan_store_commits_total", "Commits of the store");
    describe_counter!(
        "portolan_store_writes_total",
        "Changes in the commits of the store"
    );
    describe_counter!(
        "portolan_store_written_bytes_total",
        Unit::Bytes,
        "Bytes of changes given to the store"
    );
    describe_counter!(
        "portolan_store_compactions_total",
        "Logs replaced by a snapshot"
    );
    describe_gauge!(
        "portolan_store_backlog_bytes",
        Unit::Bytes,
        "Bytes that wait for the store"
    );
    describe_counter!(
        "portolan_bus_entries_appended_total",
        "Entries put on the bus"
    );
    describe_counter!(
        "portolan_bus_entries_read_total",
        "Entries read from the bus, own ones included"
    );
    describe_counter!(
        "portolan_bus_joins_total",
        "Logs of maps joined: once for each map, and again where something was lost"
    );
    describe_counter!("portolan_bus_snapshots_total", "Snapshots put on the bus");
    describe_counter!(
        "portolan_bus_differences_total",
        "Differences to other servers on the bus that should not have been, and were repaired"
    );
    describe_gauge!("portolan_bus_failing", "1 while the bus cannot be used");
    describe_gauge!(
        "portolan_bus_unpublished_operations",
        "Operations that are not known to be on the bus"
    );
    describe_gauge!(
        "portolan_store_failing",
        "1 while the store takes no writes"
    );
}
