//! What is on its way to the bus while the log is read and kept.

use std::future::pending;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::{Bus, BusError, BusFuture};

/// An entry on its way to the log, and what was answered; messages on their way to others.
#[derive(Default)]
pub(super) struct Append<'b> {
    pub(super) waiting: Option<BusFuture<'b, Option<u64>>>,
    pub(super) answer: Option<Result<Option<u64>, BusError>>,
    pub(super) telling: Option<BoxFuture<'b, ()>>,
}

impl Append<'_> {
    pub(super) fn is_free(&self) -> bool {
        self.waiting.is_none() && self.answer.is_none()
    }

    /// Waits until there is an answer, or all is told.
    pub(super) async fn progress(&mut self) {
        let answer = async {
            match &mut self.waiting {
                Some(waiting) => waiting.await,
                None => pending().await,
            }
        };
        let told = async {
            match &mut self.telling {
                Some(telling) => telling.await,
                None => pending().await,
            }
        };
        tokio::select! {
            answer = answer => (self.waiting, self.answer) = (None, Some(answer)),
            () = told => self.telling = None,
        }
    }

    /// Does something else meanwhile. What waits may hold what the other waits for: neither may be
    /// left alone.
    pub(super) async fn beside<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = self.progress() => {}
            }
        }
    }
}

/// Passes messages on. What is lost is noticed by those whom it concerns.
pub(super) async fn tell(bus: &dyn Bus, map: &str, messages: Vec<Bytes>) {
    for message in messages {
        if let Err(error) = bus.tell(map, message).await {
            tracing::debug!(map, %error, "a message was not passed on");
            return;
        }
    }
}
