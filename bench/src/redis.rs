//! The suite of maps on Redis: each task of coordinated maps beside the bare commands that do the
//! least of it, on one Redis and in one process; and the bus beside a server without one.

mod bare;
mod bus;
mod reads;
mod server;
mod writes;

use anyhow::Context;

use crate::engine::PORTOLAN;
use crate::options::Options;
use crate::report::{Measure, Report};
use server::Server;

/// What is not Portolan.
const BARE: &str = "bare";
/// What has no bus.
const ONE_SERVER: &str = "one-server";

const KILLS: &str = "redis/kills";
const SET: &str = "redis/set";
const SET_64: &str = "redis/set-64";
const GET: &str = "redis/get";
const GET_2: &str = "redis/get-2-threads";
const JOIN: &str = "redis/join";
const LATENCY: &str = "redis/latency";
const BUS: &str = "redis/bus";

/// The tasks of the suite.
pub(crate) const TASKS: [&str; 8] = [KILLS, SET, SET_64, GET, GET_2, JOIN, LATENCY, BUS];

/// Who joins while sets are measured; one of them writes.
const REPLICAS: usize = 11;

/// Measures what the options want. Each run goes through all tasks, Portolan and bare in turn.
pub(crate) fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    for run in 1..=options.runs {
        for task in TASKS.into_iter().filter(|task| options.wants(task)) {
            eprintln!("run {run} of {}: {task}", options.runs);
            let measured = runtime.block_on(measure(task, run % 2 == 1));
            let (own, bare) = measured.with_context(|| format!("{task} failed"))?;
            report.add(task, PORTOLAN, own);
            let rival = if task == BUS { ONE_SERVER } else { BARE };
            report.add(task, rival, bare);
        }
    }
    Ok(())
}

/// Measures one task on a new server; which side is first changes from run to run.
async fn measure(task: &str, own_first: bool) -> anyhow::Result<(Vec<Measure>, Vec<Measure>)> {
    let server = Server::start().await?;
    let (mut own, mut bare) = (Vec::new(), Vec::new());
    for side in [own_first, !own_first] {
        match (task, side) {
            (KILLS, true) => own = writes::kills(&server).await?,
            // It loses what it loses: that is no figure to compare.
            (KILLS, false) => {}
            (SET, true) => own = writes::sets(&server, 1).await?,
            (SET, false) => bare = bare::sets(&server, 1).await?,
            (SET_64, true) => own = writes::sets(&server, 64).await?,
            (SET_64, false) => bare = bare::sets(&server, 64).await?,
            (GET, true) => own = reads::gets(&server, 1).await?,
            (GET, false) => bare = reads::bare_gets(1)?,
            (GET_2, true) => own = reads::gets(&server, 2).await?,
            (GET_2, false) => bare = reads::bare_gets(2)?,
            (JOIN, true) => own = reads::join(&server).await?,
            (JOIN, false) => bare = bare::read_all(&server).await?,
            (BUS, true) => own = bus::two_servers(&server).await?,
            (BUS, false) => bare = bus::one_server().await?,
            (LATENCY, true) => own = writes::latency(&server).await?,
            _ => bare = bare::latency(&server).await?,
        }
    }
    Ok((own, bare))
}
