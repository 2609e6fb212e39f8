//! Where a map is in Redis, and what names and keys are allowed.

use crate::error::{Error, Result};
use crate::limits::{MAX_KEY_BYTES, MAX_NAME_CHARS, MAX_VALUE_BYTES};

/// How a map's keys and channels are named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Layout {
    /// The names that Go services use: `map:NAME:content` and `map:NAME:updates`. A Redis Cluster
    /// delivers its messages to all of its nodes.
    #[default]
    Shared,
    /// Names with a hash tag, `map:{NAME}:content`, so that all of a map is in one slot of a
    /// Redis Cluster, and sharded channels, which stay on the slot's node. Go nodes do not read
    /// it. Needs Redis 7.
    Cluster,
}

/// The field that counts mutations.
pub(crate) const REVISION: &[u8] = b"=rev";
/// The field that tells the last mutation's kind.
pub(crate) const KIND: &[u8] = b"=kind";

/// The names of one map in Redis.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) layout: Layout,
    /// The hash.
    pub(crate) content: String,
    /// The channel of the format.
    pub(crate) updates: String,
    /// The channel on which nodes ask each other whether they are up to date.
    pub(crate) nodes: String,
}

impl Place {
    pub(crate) fn new(name: &str, layout: Layout) -> Result<Self> {
        check_name(name, layout)?;
        let mut place = Self {
            name: name.to_owned(),
            layout,
            content: String::new(),
            updates: String::new(),
            nodes: String::new(),
        };
        place.content = place.path("content");
        place.updates = place.path("updates");
        place.nodes = place.path("nodes");
        Ok(place)
    }

    /// A key or channel of this map.
    pub(crate) fn path(&self, last: &str) -> String {
        match self.layout {
            Layout::Shared => format!("map:{}:{last}", self.name),
            Layout::Cluster => format!("map:{{{}}}:{last}", self.name),
        }
    }

    /// The channel on which one node alone listens.
    pub(crate) fn node(&self, node: &str) -> String {
        self.path(&format!("node:{node}"))
    }

    pub(crate) fn publish(&self) -> &'static str {
        match self.layout {
            Layout::Shared => "PUBLISH",
            Layout::Cluster => "SPUBLISH",
        }
    }

    pub(crate) fn subscribe(&self) -> &'static str {
        match self.layout {
            Layout::Shared => "SUBSCRIBE",
            Layout::Cluster => "SSUBSCRIBE",
        }
    }
}

fn check_name(name: &str, layout: Layout) -> Result<()> {
    let refused = |reason| {
        let name = name.chars().take(100).collect();
        Err(Error::Name { name, reason })
    };
    if name.is_empty() {
        return refused("it is empty");
    }
    if name.chars().nth(MAX_NAME_CHARS).is_some() {
        return refused("it is too long");
    }
    if name.contains([' ', '\0', '*', '?', '[', ']']) {
        return refused("it has a character that is not allowed");
    }
    // Redis takes the text to the first `}` for the tag, and all of the key where that is empty.
    if layout == Layout::Cluster && name.starts_with('}') {
        return refused("in the layout for a cluster it may not begin with `}`");
    }
    Ok(())
}

pub(crate) fn check_key(key: &[u8]) -> Result<()> {
    let refused = |reason: &str| {
        let what = format!("the key {}", crate::error::excerpt(key));
        let reason = reason.to_owned();
        Err(Error::Limit { what, reason })
    };
    if key.is_empty() {
        return refused("a key is not empty");
    }
    if key.contains(&b'=') {
        return refused("a key has no `=`");
    }
    if key.len() > MAX_KEY_BYTES {
        return refused("a key has at most 4 KiB");
    }
    Ok(())
}

pub(crate) fn check_value(value: &[u8]) -> Result<()> {
    if value.len() > MAX_VALUE_BYTES {
        let what = format!("a value of {} bytes", value.len());
        let reason = "a value has at most 1 MiB".to_owned();
        return Err(Error::Limit { what, reason });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shared_layout_is_the_one_of_the_format() {
        let place = Place::new("fleet", Layout::Shared).unwrap();
        assert_eq!(place.content, "map:fleet:content");
        assert_eq!(place.updates, "map:fleet:updates");
    }

    #[test]
    fn a_cluster_finds_one_tag_in_all_names() {
        let place = Place::new("fleet", Layout::Cluster).unwrap();
        for name in [
            &place.content,
            &place.updates,
            &place.nodes,
            &place.node("a"),
        ] {
            assert!(name.starts_with("map:{fleet}:"), "{name}");
        }
    }

    #[test]
    fn names_and_keys_are_checked_as_the_format_says() {
        for name in ["", "a b", "a\0", "a*", "a?", "[a", "a]", &"a".repeat(513)] {
            assert!(Place::new(name, Layout::Shared).is_err(), "{name:?}");
        }
        assert!(Place::new(&"é".repeat(512), Layout::Shared).is_ok());
        assert!(Place::new("}a", Layout::Cluster).is_err());
        for key in [&b""[..], b"=rev", b"a=b", &[b'a'; 4097]] {
            assert!(check_key(key).is_err(), "{key:?}");
        }
        assert!(check_key(&[0xff, 0]).is_ok());
        assert!(check_value(&vec![0; MAX_VALUE_BYTES + 1]).is_err());
    }
}
