//! The operations: each one atomic in Redis, and read here once it has returned.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::error::{Error, Result, excerpt};
use crate::key::Key;
use crate::layout::{check_key, check_value};
use crate::lease::Lease;
use crate::limits::MAX_ENTRIES;
use crate::list::not_a_list;
use crate::map::{CoordinatedMap, Shared, Trouble};
use crate::message::Mutation;
use crate::options::Ttl;
use crate::order::{Seen, Ticket};
use crate::reply::{self, Reply};
use crate::script::{self, Script};

/// What came of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome<T = ()> {
    /// What the operation gives beside the rest.
    pub value: T,
    /// What the key held before; nothing where it was not there, or more than one is concerned.
    pub previous: Option<Bytes>,
    /// The revision of what was written; nothing where nothing was changed.
    pub revision: Option<u64>,
}

impl<T> Outcome<T> {
    /// Whether anything was changed.
    pub fn is_applied(&self) -> bool {
        self.revision.is_some()
    }

    /// Whether the key was there before.
    pub fn existed(&self) -> bool {
        self.previous.is_some()
    }
}

/// Errors of all operations: [`Error::Limit`] for keys and values that are not allowed;
/// [`Error::Unreachable`] where nothing was written; [`Error::Unknown`] where the connection broke
/// before the answer; [`Error::Behind`] where it is written and not readable here yet;
/// [`Error::Refused`] and [`Error::WrongType`] in Redis's words. None is tried again by itself once
/// Redis may have done it.
impl CoordinatedMap {
    /// Sets a key.
    pub async fn set(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<Outcome> {
        self.put(key.as_ref(), value.as_ref(), None, None).await
    }

    /// Sets a key that expires by itself after so long. Each later write makes it stay again.
    ///
    /// Other nodes see it go when Redis has dropped it and the next digest is due. Needs Redis 7.4
    /// or Valkey 9, else [`Error::Unsupported`].
    pub async fn set_for(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        ttl: Duration,
    ) -> Result<Outcome> {
        let ttl = Some(milliseconds(ttl));
        self.put(key.as_ref(), value.as_ref(), ttl, None).await
    }

    /// Sets a key, and waits until every node that has joined the map reads it, see
    /// [`confirm`](Self::confirm). Returns how many nodes there are.
    pub async fn set_and_wait(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        within: Duration,
    ) -> Result<Outcome<usize>> {
        let until = Instant::now() + within;
        let written = self.set(key, value).await?;
        let left = until.saturating_duration_since(Instant::now());
        Ok(Outcome {
            value: self.confirm(left).await?,
            previous: written.previous,
            revision: written.revision,
        })
    }

    /// Sets a key that is not there.
    pub async fn set_if_absent(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<Outcome> {
        let (key, value) = (key.as_ref(), value.as_ref());
        check_value(value)?;
        self.write(&script::SET_IF_ABSENT, key, &[value], |_| {
            Ok(put(key, value))
        })
        .await
    }

    /// Sets a key that holds the value `test`.
    pub async fn compare_and_set(
        &self,
        key: impl AsRef<[u8]>,
        test: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<Outcome> {
        let (key, value) = (key.as_ref(), value.as_ref());
        check_value(value)?;
        let arguments = [test.as_ref(), value];
        self.write(&script::COMPARE_AND_SET, key, &arguments, |_| {
            Ok(put(key, value))
        })
        .await
    }

    /// Deletes a key.
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<Outcome> {
        let key = key.as_ref();
        self.write(&script::DELETE, key, &[], |_| Ok(drop_key(key)))
            .await
    }

    /// Deletes a key that holds the value `test`.
    pub async fn compare_and_delete(
        &self,
        key: impl AsRef<[u8]>,
        test: impl AsRef<[u8]>,
    ) -> Result<Outcome> {
        let key = key.as_ref();
        let arguments = [test.as_ref()];
        self.write(&script::DELETE, key, &arguments, |_| Ok(drop_key(key)))
            .await
    }

    /// Adds to a 64-bit integer, absent being 0; gives the sum.
    pub async fn increment(&self, key: impl AsRef<[u8]>, by: i64) -> Result<Outcome<i64>> {
        let key = key.as_ref();
        let by = by.to_string();
        self.write(&script::INCREMENT, key, &[by.as_bytes()], |reply| {
            let stored = stored(reply)?;
            let text = std::str::from_utf8(&stored).ok();
            let sum: Option<i64> = text.and_then(|text| text.parse().ok());
            let sum = sum.ok_or_else(|| Error::Format {
                what: format!("the sum {}", excerpt(&stored)),
            })?;
            Ok((sum, vec![Mutation::Set(Key::copy(key), stored)]))
        })
        .await
    }

    /// Appends to a list of strings, absent being empty; gives the list.
    ///
    /// What is not a list stays as it is: [`Error::NotAList`].
    pub async fn append(
        &self,
        key: impl AsRef<[u8]>,
        values: &[impl AsRef<str>],
    ) -> Result<Outcome<Vec<String>>> {
        self.edit_list(&script::APPEND, key.as_ref(), Some(""), values)
            .await
    }

    /// Appends those values to a list of strings that are not in it; gives the list.
    pub async fn append_unique(
        &self,
        key: impl AsRef<[u8]>,
        values: &[impl AsRef<str>],
    ) -> Result<Outcome<Vec<String>>> {
        self.edit_list(&script::APPEND, key.as_ref(), Some("unique"), values)
            .await
    }

    /// Removes every occurrence of values from a list of strings; gives the rest. A list that is
    /// emptied is deleted.
    pub async fn remove(
        &self,
        key: impl AsRef<[u8]>,
        values: &[impl AsRef<str>],
    ) -> Result<Outcome<Vec<String>>> {
        self.edit_list(&script::REMOVE, key.as_ref(), None, values)
            .await
    }

    /// Sets many keys in one step and one round trip; gives what each held before. Later ones of
    /// one key count. At most 10,000.
    ///
    /// In Redis and in this process all of them are there at once, in the eyes of watchers and of
    /// other nodes one after the other, as the format has it.
    pub async fn set_many(
        &self,
        entries: impl IntoIterator<Item = (impl AsRef<[u8]>, impl AsRef<[u8]>)>,
    ) -> Result<Outcome<Vec<Option<Bytes>>>> {
        let entries: Vec<_> = entries.into_iter().collect();
        check_count(entries.len())?;
        let mut arguments = Vec::with_capacity(entries.len() * 2);
        for (key, value) in &entries {
            check_key(key.as_ref())?;
            check_value(value.as_ref())?;
            arguments.extend([key.as_ref(), value.as_ref()]);
        }
        if entries.is_empty() {
            return Ok(Outcome {
                value: Vec::new(),
                previous: None,
                revision: None,
            });
        }
        let call = Call::new(&script::SET_MANY, &arguments);
        let mut reply = self
            .shared
            .call(call, |_| {
                Ok(arguments
                    .chunks(2)
                    .map(|entry| set(entry[0], entry[1]))
                    .collect())
            })
            .await?;
        let revision = reply.revision;
        let value = reply.values()?;
        Ok(Outcome {
            value,
            previous: None,
            revision,
        })
    }

    /// Deletes all keys.
    pub async fn reset(&self) -> Result<Outcome> {
        self.clear("reset", &[]).await
    }

    /// Deletes all keys if each of these holds this value; without any, always.
    pub async fn compare_and_reset(
        &self,
        tests: impl IntoIterator<Item = (impl AsRef<[u8]>, impl AsRef<[u8]>)>,
    ) -> Result<Outcome> {
        let tests: Vec<_> = tests.into_iter().collect();
        check_count(tests.len())?;
        let mut arguments = Vec::with_capacity(tests.len() * 2);
        for (key, value) in &tests {
            check_key(key.as_ref())?;
            arguments.extend([key.as_ref(), value.as_ref()]);
        }
        self.clear("reset", &arguments).await
    }

    /// Deletes all keys, and tells Go nodes that the map is of no more use. The revision goes on
    /// counting, so the map can be used again all the same.
    pub async fn destroy(&self) -> Result<Outcome> {
        self.clear("destroy", &[]).await
    }

    pub(crate) async fn put(
        &self,
        key: &[u8],
        value: &[u8],
        ttl: Option<String>,
        lease: Option<&Lease>,
    ) -> Result<Outcome> {
        check_key(key)?;
        check_value(value)?;
        let mut arguments = vec![key, value];
        if ttl.is_none() && lease.is_none() && self.shared.options.ttl.is_none() {
            let mut call = Call::new(&script::SET_ALONE, &arguments);
            call.is_alone = true;
            return self.keyed(call, |_| Ok(put(key, value))).await;
        }
        arguments.extend(ttl.as_ref().map(String::as_bytes));
        let mut call = Call::new(&script::SET, &arguments);
        call.lease = lease;
        self.keyed(call, |_| Ok(put(key, value))).await
    }

    pub(crate) async fn delete_leased(&self, key: &[u8], lease: &Lease) -> Result<Outcome> {
        let arguments = [key];
        let mut call = Call::new(&script::DELETE, &arguments);
        call.lease = Some(lease);
        self.keyed(call, |_| Ok(drop_key(key))).await
    }

    async fn clear(&self, kind: &str, tests: &[&[u8]]) -> Result<Outcome> {
        let mut arguments = vec![kind.as_bytes()];
        arguments.extend(tests);
        let call = Call::new(&script::CLEAR, &arguments);
        let reply = self
            .shared
            .call(call, |_| Ok(vec![Mutation::Clear]))
            .await?;
        Ok(Outcome {
            value: (),
            previous: None,
            revision: reply.revision,
        })
    }

    async fn edit_list(
        &self,
        script: &Script,
        key: &[u8],
        mode: Option<&str>,
        values: &[impl AsRef<str>],
    ) -> Result<Outcome<Vec<String>>> {
        check_count(values.len())?;
        let mut arguments: Vec<&[u8]> = Vec::with_capacity(values.len() + 1);
        arguments.extend(mode.map(str::as_bytes));
        for value in values {
            check_value(value.as_ref().as_bytes())?;
            arguments.push(value.as_ref().as_bytes());
        }
        self.write(script, key, &arguments, |reply| {
            let mutation = match reply.value()? {
                Some(stored) => Mutation::Set(Key::copy(key), stored),
                None => Mutation::Delete(Key::copy(key)),
            };
            let items = reply.values()?.into_iter().flatten();
            let items = items.map(|item| String::from_utf8_lossy(&item).into_owned());
            Ok((items.collect(), vec![mutation]))
        })
        .await
    }

    /// One operation on one key.
    async fn write<T>(
        &self,
        script: &Script,
        key: &[u8],
        rest: &[&[u8]],
        read: impl FnOnce(&mut Reply) -> Result<(T, Vec<Mutation>)>,
    ) -> Result<Outcome<T>> {
        check_key(key)?;
        let mut arguments = Vec::with_capacity(rest.len() + 1);
        arguments.push(key);
        arguments.extend(rest);
        self.keyed(Call::new(script, &arguments), read).await
    }

    async fn keyed<T>(
        &self,
        call: Call<'_>,
        read: impl FnOnce(&mut Reply) -> Result<(T, Vec<Mutation>)>,
    ) -> Result<Outcome<T>> {
        let key = call.arguments[0];
        let mut parts = None;
        let reply = self
            .shared
            .call(call, |reply| {
                let previous = reply.value()?;
                check_outcome(key, reply, previous.as_deref())?;
                let (value, mutations) = read(reply)?;
                parts = Some((value, previous));
                Ok(mutations)
            })
            .await?;
        // proof: `call` returns a reply only after the closure has returned `Ok`.
        let (value, previous) = parts.expect("the reply was read");
        Ok(Outcome {
            value,
            previous,
            revision: reply.revision,
        })
    }
}

fn check_outcome(key: &[u8], reply: &Reply, previous: Option<&[u8]>) -> Result<()> {
    let name = || String::from_utf8_lossy(key).into_owned();
    match reply.outcome.as_str() {
        "no list" => Err(not_a_list(key, previous.unwrap_or_default())),
        "no integer" => Err(Error::NotAnInteger {
            key: name(),
            found: excerpt(previous.unwrap_or_default()),
        }),
        "overflow" => Err(Error::Overflow { key: name() }),
        _ => Ok(()),
    }
}

fn check_count(found: usize) -> Result<()> {
    if found > MAX_ENTRIES {
        let what = format!("{found} entries");
        let reason = format!("one operation takes at most {MAX_ENTRIES}");
        return Err(Error::Limit { what, reason });
    }
    Ok(())
}

fn set(key: &[u8], value: &[u8]) -> Mutation {
    Mutation::Set(Key::copy(key), Bytes::copy_from_slice(value))
}

fn put(key: &[u8], value: &[u8]) -> ((), Vec<Mutation>) {
    ((), vec![set(key, value)])
}

fn drop_key(key: &[u8]) -> ((), Vec<Mutation>) {
    ((), vec![Mutation::Delete(Key::copy(key))])
}

fn stored(reply: &mut Reply) -> Result<Bytes> {
    reply.value()?.ok_or_else(|| Error::Format {
        what: "Redis answered without the value".to_owned(),
    })
}

fn milliseconds(time: Duration) -> String {
    // Redis refuses 0, and has no use for more than its clock counts.
    time.as_millis().clamp(1, i64::MAX as u128 / 2).to_string()
}

/// A script that writes, and its own arguments.
struct Call<'a> {
    script: &'a Script,
    arguments: &'a [&'a [u8]],
    lease: Option<&'a Lease>,
    /// Whether the script takes its arguments between the channel and the command to publish, and
    /// knows of no lease and no time to live.
    is_alone: bool,
}

impl<'a> Call<'a> {
    fn new(script: &'a Script, arguments: &'a [&'a [u8]]) -> Self {
        Self {
            script,
            arguments,
            lease: None,
            is_alone: false,
        }
    }
}

impl Shared {
    /// Runs a script, and waits until what it wrote is read here.
    async fn call(
        &self,
        call: Call<'_>,
        read: impl FnOnce(&mut Reply) -> Result<Vec<Mutation>>,
    ) -> Result<Reply> {
        let until = Instant::now() + self.options.patience;
        let (mode, ttl) = match self.options.ttl {
            None => ("", String::new()),
            Some(Ttl::Absolute(ttl)) => ("absolute", milliseconds(ttl)),
            Some(Ttl::Sliding(ttl)) => ("sliding", milliseconds(ttl)),
        };
        let token = call
            .lease
            .map_or(String::new(), |lease| lease.token().to_string());
        let place = &self.place;
        let mut arguments: Vec<&[u8]> = Vec::with_capacity(call.arguments.len() + 5);
        let (channel, publish) = (place.updates.as_bytes(), place.publish().as_bytes());
        if call.is_alone {
            arguments.push(channel);
            arguments.extend(call.arguments);
            arguments.push(publish);
        } else {
            let options = [mode.as_bytes(), ttl.as_bytes(), token.as_bytes()];
            arguments.extend([channel, publish]);
            arguments.extend(options);
            arguments.extend(call.arguments);
        }
        let mut keys = vec![place.content.as_str()];
        keys.extend(call.lease.map(Lease::place));
        let (mut under_way, answer) = loop {
            let (generation, mut connection) = self.commands(until).await?;
            let under_way = UnderWay::begin(self);
            match call.script.run(&mut connection, &keys, &arguments).await {
                Ok(answer) => break (under_way, answer),
                Err(error) if reply::is_elsewhere(&error) && Instant::now() < until => {
                    self.broken(generation);
                }
                Err(error) => {
                    let failure = reply::failure(&error, &place.content);
                    if matches!(failure, Error::Unknown { .. }) {
                        self.broken(generation);
                    }
                    return Err(failure);
                }
            }
        };
        let mut reply = Reply::read(answer)?;
        match (reply.outcome.as_str(), call.lease) {
            ("lost", Some(lease)) => return Err(lease.lost_now()),
            ("unsupported", _) => {
                return Err(Error::Unsupported {
                    command: "HPEXPIRE",
                    advice: "keys expire by themselves from Redis 7.4 or Valkey 9 on",
                });
            }
            _ => {}
        }
        // Redis may have written even where the answer cannot be read.
        let seen = match (read(&mut reply), reply.revision) {
            (Ok(mutations), Some(revision)) => under_way.written(revision, mutations),
            (Ok(_), None) => Seen::Now,
            (Err(error), _) => return Err(error),
        };
        drop(under_way);
        let told = match seen {
            Seen::Now => return Ok(reply),
            Seen::Soon(told) | Seen::Afresh(told) => told,
        };
        match tokio::time::timeout_at(until, told).await {
            Ok(Ok(())) => Ok(reply),
            Ok(Err(_)) | Err(_) => Err(Error::Behind {
                revision: reply.revision.unwrap_or_default(),
            }),
        }
    }
}

/// A write of this node that is not answered; ends when dropped, since whoever waited for the
/// answer may go.
struct UnderWay<'a> {
    shared: &'a Shared,
    ticket: Ticket,
    is_ended: bool,
}

impl<'a> UnderWay<'a> {
    fn begin(shared: &'a Shared) -> Self {
        let ticket = shared.order.lock().begin_write();
        Self {
            shared,
            ticket,
            is_ended: false,
        }
    }

    fn written(&mut self, revision: u64, mutations: Vec<Mutation>) -> Seen {
        let mut order = self.shared.order.lock();
        let (seen, found) = order.written(&self.ticket, revision, mutations);
        self.is_ended = true;
        self.shared.settle(&order, found);
        if matches!(seen, Seen::Afresh(_)) {
            self.shared.call_for(Trouble::ReadAgain);
        }
        seen
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if !self.is_ended {
            self.shared.order.lock().end_write(&self.ticket);
        }
    }
}
