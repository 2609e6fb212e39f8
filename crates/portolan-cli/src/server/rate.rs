//! How many requests one address may make.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Addresses remembered at once; beyond it, those that have not asked for a while are forgotten,
/// and if all have, strangers share one allowance.
const MAX_ADDRESSES: usize = 65_536;
/// How much of a second's allowance may be used at once, times two: bursts are normal.
const BURST_SECONDS: f64 = 2.0;

/// A leaky bucket for each address (the generic cell rate algorithm).
#[derive(Debug)]
pub(crate) struct RateLimit {
    interval: Duration,
    burst: Duration,
    /// When the bucket of an address will be empty.
    empty_at: Mutex<HashMap<IpAddr, Instant>>,
}

impl RateLimit {
    /// `per_second` requests a second, and bursts of two seconds' worth; 0 for no limit.
    pub(crate) fn new(per_second: u32) -> Self {
        let interval = match per_second {
            0 => Duration::ZERO,
            n => Duration::from_secs(1) / n,
        };
        let burst = Duration::from_secs_f64(BURST_SECONDS);
        Self {
            interval,
            burst,
            empty_at: Mutex::default(),
        }
    }

    /// Counts a request, or says how long to wait before the next.
    pub(crate) fn count(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        if self.interval.is_zero() {
            return Ok(());
        }
        let mut buckets = self.empty_at.lock();
        if buckets.len() >= MAX_ADDRESSES && !buckets.contains_key(&address) {
            buckets.retain(|_, empty_at| *empty_at > now);
        }
        let full = buckets.len() >= MAX_ADDRESSES && !buckets.contains_key(&address);
        let address = if full {
            IpAddr::from([0, 0, 0, 0])
        } else {
            address
        };
        let empty_at = buckets.entry(address).or_insert(now);
        let next = (*empty_at).max(now) + self.interval;
        let over = (next - now).saturating_sub(self.burst);
        if !over.is_zero() {
            return Err(over);
        }
        *empty_at = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gets_its_share_and_takes_nothing_from_others() {
        let limit = RateLimit::new(10);
        let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let start = Instant::now();
        let passed = (0..100).filter(|_| limit.count(a, start).is_ok()).count();
        assert_eq!(passed, 20);
        assert!(limit.count(b, start).is_ok());
        let later = start + Duration::from_secs(1);
        let passed = (0..100).filter(|_| limit.count(a, later).is_ok()).count();
        assert_eq!(passed, 10);
        assert!((0..100).all(|_| RateLimit::new(0).count(a, start).is_ok()));
    }
}
