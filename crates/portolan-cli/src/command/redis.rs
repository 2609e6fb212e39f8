//! redis: the operations of a coordinated map.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use portolan::{Pattern, Value};
use portolan_redis::{
    Change, CoordinatedMap, Error, Event, Kind, Layout, Options, Origin, Outcome, Server, Snapshot,
};
use serde_json::json;

use super::{output, written};
use crate::arguments::{Redis, RedisOperation};
use crate::failure::Failure;
use crate::json::value_json;

/// How long other nodes may take to say that they are there.
const ROLL_CALL: Duration = Duration::from_secs(1);

/// `portolan redis`
pub(crate) fn redis(arguments: &Redis) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| Failure::Refused(format!("no runtime: {error}")))?;
    runtime.block_on(perform(arguments))
}

async fn perform(arguments: &Redis) -> Result<(), Failure> {
    use RedisOperation as Do;
    match &arguments.operation {
        Do::Get { place, json } => {
            let map = join(arguments, &place.name).await?;
            let value = map.get(&place.key).ok_or_else(|| no_key(&place.key))?;
            if *json {
                return print(&bytes_json(&value));
            }
            let mut out = output();
            written(
                out.write_all(&value)
                    .and_then(|()| writeln!(out))
                    .and_then(|()| out.flush()),
            )
        }
        Do::Set {
            place,
            value,
            if_absent,
            if_equals,
            wait,
        } => {
            let value = read_value(value)?;
            let map = join(arguments, &place.name).await?;
            let key = &place.key;
            let done = match if_equals {
                Some(test) => map.compare_and_set(key, test, &value).await,
                None if *if_absent => map.set_if_absent(key, &value).await,
                None => map.set(key, &value).await,
            };
            applied(&done.map_err(failure)?, key)?;
            if let Some(seconds) = wait {
                let within = Duration::from_secs(u64::from(*seconds));
                map.confirm(within).await.map_err(failure)?;
            }
            Ok(())
        }
        Do::Keys {
            name,
            pattern,
            json,
        } => {
            let pattern = read_pattern(pattern.as_deref())?;
            let map = join(arguments, name).await?;
            let mut out = output();
            for key in map.keys() {
                if pattern.matches(&key.to_string()) {
                    let line = if *json {
                        bytes_json(key.as_bytes())
                    } else {
                        key.to_string()
                    };
                    written(writeln!(out, "{line}"))?;
                }
            }
            written(out.flush())
        }
        Do::Watch {
            name,
            pattern,
            json,
        } => {
            let pattern = read_pattern(pattern.as_deref())?;
            watch(&join(arguments, name).await?, &pattern, *json).await
        }
        Do::Delete { place, if_equals } => {
            let map = join(arguments, &place.name).await?;
            let done = match if_equals {
                Some(test) => map.compare_and_delete(&place.key, test).await,
                None => map.delete(&place.key).await,
            };
            let done = done.map_err(failure)?;
            if !done.existed() {
                return Err(no_key(&place.key));
            }
            applied(&done, &place.key)
        }
        Do::Incr { place, by } => {
            let map = join(arguments, &place.name).await?;
            let done = map.increment(&place.key, *by).await.map_err(failure)?;
            print(&done.value.to_string())
        }
        Do::Append {
            place,
            values,
            unique,
        } => {
            let map = join(arguments, &place.name).await?;
            let done = if *unique {
                map.append_unique(&place.key, values).await
            } else {
                map.append(&place.key, values).await
            };
            print(&json!(done.map_err(failure)?.value).to_string())
        }
        Do::Remove { place, values } => {
            let map = join(arguments, &place.name).await?;
            let done = map.remove(&place.key, values).await.map_err(failure)?;
            if !done.is_applied() {
                let what = format!("none of them is in the list `{}`", place.key);
                return Err(Failure::NotFound(what));
            }
            print(&json!(done.value).to_string())
        }
        Do::Reset { name } => {
            let map = join(arguments, name).await?;
            map.reset().await.map(drop).map_err(failure)
        }
        Do::Status { name, json } => status(&join(arguments, name).await?, *json).await,
    }
}

async fn join(arguments: &Redis, name: &str) -> Result<CoordinatedMap, Failure> {
    let urls: Vec<&str> = arguments.urls.iter().map(String::as_str).collect();
    let server = match (&arguments.sentinel, urls.as_slice()) {
        (Some(master), urls) => Server::sentinel(urls, master, &arguments.master),
        (None, urls) if arguments.cluster => Server::cluster(urls),
        (None, [url]) => Server::single(url),
        (None, _) => {
            let what = "several URLs are for --sentinel or --cluster: give one";
            return Err(Failure::Usage(what.to_owned()));
        }
    };
    let mut server = server.map_err(failure)?;
    if let Some(file) = &arguments.ca {
        let pem = std::fs::read(file)
            .map_err(|error| Failure::Usage(format!("cannot read {}: {error}", file.display())))?;
        server = server.with_root_certificate(pem);
    }
    let layout = if arguments.cluster {
        Layout::Cluster
    } else {
        Layout::Shared
    };
    let options = Options::default().layout(layout);
    CoordinatedMap::join(&server, name, options)
        .await
        .map_err(failure)
}

/// Ends when the reader of the output goes.
async fn watch(map: &CoordinatedMap, pattern: &Pattern, json: bool) -> Result<(), Failure> {
    let (snapshot, mut watch) = map.snapshot_and_watch(pattern.as_str()).map_err(failure)?;
    drop(snapshot);
    while let Some(event) = watch.next().await {
        let mut out = output();
        match event {
            Event::Changed(batch) => {
                for change in &batch.changes {
                    let line = if json {
                        change_json(change, batch.revision, batch.origin)
                    } else {
                        change_text(change)
                    };
                    written(writeln!(out, "{line}"))?;
                }
            }
            Event::Lagged { missed, snapshot } => {
                written(writeln!(out, "{}", lagged(missed, &snapshot, json)))?;
            }
        }
        written(out.flush())?;
    }
    Ok(())
}

fn change_json(change: &Change, revision: u64, origin: Origin) -> String {
    let value = |value: &Option<_>| value.as_ref().map_or(serde_json::Value::Null, bytes_value);
    json!({
        "key": bytes_value(change.key.as_bytes()),
        "old": value(&change.old),
        "new": value(&change.new),
        "revision": revision,
        "kind": match change.kind {
            Kind::Set => "set",
            Kind::Delete => "delete",
            Kind::Reset => "reset",
            _ => "expired",
        },
        "here": origin == Origin::Here,
    })
    .to_string()
}

fn change_text(change: &Change) -> String {
    match &change.new {
        Some(value) => format!("{} = {}", change.key, String::from_utf8_lossy(value)),
        None => format!("{} is gone", change.key),
    }
}

fn lagged(missed: u64, snapshot: &Snapshot, json: bool) -> String {
    if !json {
        return format!(
            "{missed} changes were missed; {} keys are there now",
            snapshot.len()
        );
    }
    let entries = snapshot.iter().map(
        |(key, value)| json!({ "key": bytes_value(key.as_bytes()), "value": bytes_value(value) }),
    );
    let entries: Vec<_> = entries.collect();
    json!({ "missed": missed, "revision": snapshot.revision(), "entries": entries }).to_string()
}

async fn status(map: &CoordinatedMap, json: bool) -> Result<(), Failure> {
    // This command is a node itself.
    let (answered, asked) = match map.confirm(ROLL_CALL).await {
        Ok(nodes) => (nodes, nodes),
        Err(Error::Unconfirmed { told, of, .. }) => (told, of),
        Err(error) => return Err(failure(error)),
    };
    let (answered, asked) = (answered.saturating_sub(1), asked.saturating_sub(1));
    if json {
        let status = json!({
            "name": map.name(),
            "keys": map.len(),
            "revision": map.revision(),
            "nodes": asked,
            "answered": answered,
        });
        return print(&status.to_string());
    }
    let silent = asked - answered.min(asked);
    let silent = if silent > 0 {
        format!(", {silent} of them silent")
    } else {
        String::new()
    };
    print(&format!(
        "{}: {} keys at revision {}, {asked} Portolan nodes{silent}",
        map.name(),
        map.len(),
        map.revision()
    ))
}

/// The value that an argument gives, as it is.
fn read_value(text: &str) -> Result<Vec<u8>, Failure> {
    if text != "-" {
        return Ok(text.as_bytes().to_vec());
    }
    let mut value = Vec::new();
    let read = std::io::stdin().read_to_end(&mut value);
    read.map_err(|error| Failure::Usage(format!("cannot read standard input: {error}")))?;
    // The newline that ends what `echo` writes is not meant.
    if value.ends_with(b"\n") {
        value.pop();
    }
    Ok(value)
}

fn read_pattern(pattern: Option<&str>) -> Result<Pattern, Failure> {
    let pattern = pattern.map_or_else(|| Ok(Pattern::all()), Pattern::new);
    pattern.map_err(|error| Failure::Usage(error.to_string()))
}

fn applied(done: &Outcome, key: &str) -> Result<(), Failure> {
    if done.is_applied() {
        return Ok(());
    }
    let what = match &done.previous {
        Some(value) => format!("`{key}` holds `{}`", String::from_utf8_lossy(value)),
        None => format!("`{key}` is not there"),
    };
    Err(Failure::Refused(format!("{what}: nothing was written")))
}

fn no_key(key: &str) -> Failure {
    Failure::NotFound(format!("there is no `{key}`"))
}

fn print(line: &str) -> Result<(), Failure> {
    let mut out = output();
    written(writeln!(out, "{line}").and_then(|()| out.flush()))
}

/// Text as a JSON string, other bytes as `{"$bytes": …}`.
fn bytes_json(bytes: &[u8]) -> String {
    value_json(&match std::str::from_utf8(bytes) {
        Ok(text) => Value::from(text),
        Err(_) => Value::from(bytes.to_vec()),
    })
}

fn bytes_value(bytes: impl AsRef<[u8]>) -> serde_json::Value {
    let text = bytes_json(bytes.as_ref());
    serde_json::from_str(&text).unwrap_or(serde_json::Value::Null)
}

fn failure(error: Error) -> Failure {
    let text = error.to_string();
    match error {
        Error::Name { .. } | Error::Limit { .. } | Error::Address { .. } | Error::Pattern(_) => {
            Failure::Usage(text)
        }
        Error::Unreachable { .. } | Error::Unknown { .. } => Failure::Unreachable(text),
        Error::Behind { .. } | Error::Unconfirmed { .. } => Failure::Unavailable(text),
        _ => Failure::Refused(text),
    }
}
