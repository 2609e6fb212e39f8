//! Where a map's log is.

/// The keys of a map, and its channel.
pub(super) struct Place {
    pub(super) meta: String,
    pub(super) log: String,
    pub(super) snapshot: String,
    pub(super) claim: String,
    pub(super) channel: String,
}

/// The names of all maps.
pub(super) const MAPS: &str = "portolan:maps";

impl Place {
    pub(super) fn new(map: &str) -> Self {
        let key = |what: &str| format!("portolan:{{{}}}:{what}", escaped(map));
        Self {
            meta: key("meta"),
            log: key("log"),
            snapshot: key("snapshot"),
            claim: key("claim"),
            channel: channel(map),
        }
    }

    /// The key of a snapshot on its way.
    pub(super) fn saving(&self, id: u64) -> String {
        let stem = self.snapshot.strip_suffix("snapshot").unwrap_or_default();
        format!("{stem}saving:{id:016x}")
    }
}

/// The channel of a map.
pub(super) fn channel(map: &str) -> String {
    format!("portolan:{{{}}}:entries", escaped(map))
}

/// A name that a hash tag can hold: it ends at the first `}`.
fn escaped(map: &str) -> String {
    map.replace('%', "%25").replace('}', "%7D")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_keys_of_a_map_have_one_hash_tag_and_those_of_another_others() {
        for name in ["fleet", "}", "{}", "a}b", "a%7Db", "{a"] {
            let place = Place::new(name);
            let tag = |key: &str| {
                let open = key.find('{').unwrap();
                let close = open + key[open..].find('}').unwrap();
                key[open + 1..close].to_owned()
            };
            let first = tag(&place.meta);
            assert!(!first.is_empty());
            for key in [&place.log, &place.snapshot, &place.claim, &place.saving(7)] {
                assert_eq!(tag(key), first);
            }
        }
        assert_ne!(Place::new("a}b").log, Place::new("a%7Db").log);
    }
}
