//! Moments in the past of a map, as people and programs name them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use portolan::{Moment, ReplicaId, Timestamp, Version};

/// A moment as it was asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum When {
    /// Milliseconds since the Unix epoch, and all that was stamped with it.
    Millis(u64),
    /// The state at a version.
    Version(Version),
}

impl When {
    /// Reads RFC 3339, how long ago it was (`90s`, `15m`, `2h`, `1d12h`, `1w`), milliseconds since
    /// the Unix epoch, or a version as it was given out.
    pub(crate) fn parse(text: &str, now: u64) -> Result<Self, String> {
        if let Some(version) = text.strip_prefix('v') {
            let version = parse_version(version);
            return version
                .map(Self::Version)
                .ok_or_else(|| "the version is not one that was given out".to_owned());
        }
        if let Ok(millis) = text.parse() {
            return Ok(Self::Millis(millis));
        }
        if let Some(ago) = duration(text) {
            return Ok(Self::Millis(now.saturating_sub(ago)));
        }
        let moment = text.parse::<jiff::Timestamp>().map_err(|_| {
            format!(
                "{text:?} is no moment: write it as 2026-01-31T12:00:00Z, as how long ago it was \
                 (15m, 2h, 1d), or as milliseconds since 1970"
            )
        })?;
        let millis = u64::try_from(moment.as_millisecond());
        millis
            .map(Self::Millis)
            .map_err(|_| format!("{text:?} lies before 1970"))
    }

    /// For the node.
    pub(crate) fn moment(&self) -> Moment<'_> {
        match self {
            Self::Millis(millis) => Moment::from(*millis),
            Self::Version(version) => Moment::Version(version),
        }
    }
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0)
}

/// RFC 3339, in UTC.
pub(crate) fn text(timestamp: Timestamp) -> String {
    let millis = i64::try_from(timestamp.millis()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis)
        .map_or_else(|_| String::new(), |moment| moment.to_string())
}

/// Numbers with units, in milliseconds.
fn duration(text: &str) -> Option<u64> {
    let (mut rest, mut sum) = (text, 0u64);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, behind) = rest.split_at(digits);
        let unit = behind
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit);
        let unit: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return None,
        };
        sum = sum.checked_add(number.parse::<u64>().ok()?.checked_mul(unit)?)?;
        rest = behind;
    }
    (!text.is_empty()).then_some(sum)
}

/// A version as opaque text: for each range the replica in eight bytes, then its first number and
/// how many more there are, in LEB128.
pub(crate) fn version_text(version: &Version) -> String {
    let mut bytes = Vec::new();
    for range in version.ranges() {
        bytes.extend_from_slice(&range.replica.get().to_be_bytes());
        for mut number in [range.first, range.last - range.first] {
            while number >= 0x80 {
                bytes.push(number as u8 | 0x80);
                number >>= 7;
            }
            bytes.push(number as u8);
        }
    }
    format!("v{}", BASE64.encode(bytes))
}

fn parse_version(text: &str) -> Option<Version> {
    let bytes = BASE64.decode(text).ok()?;
    let (mut rest, mut version) = (bytes.as_slice(), Version::new());
    while let Some((replica, behind)) = rest.split_first_chunk::<8>() {
        rest = behind;
        let mut number = || {
            let mut number = 0u64;
            for shift in (0..64).step_by(7) {
                let (byte, behind) = rest.split_first()?;
                rest = behind;
                number |= u64::from(byte & 0x7f).checked_shl(shift)?;
                if byte & 0x80 == 0 {
                    return Some(number);
                }
            }
            None
        };
        let (first, more) = (number()?, number()?);
        let last = first.checked_add(more).filter(|_| first > 0)?;
        version.insert_range(ReplicaId::new(u64::from_be_bytes(*replica)), first, last);
    }
    rest.is_empty().then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_in_each_form() {
        let at = |text: &str| When::parse(text, 10_000_000_000);
        assert_eq!(at("1767225600000"), Ok(When::Millis(1_767_225_600_000)));
        assert_eq!(
            at("2026-01-01T00:00:00Z"),
            Ok(When::Millis(1_767_225_600_000))
        );
        assert_eq!(
            at("2026-01-01T01:00:00+01:00"),
            Ok(When::Millis(1_767_225_600_000))
        );
        assert_eq!(at("2h"), Ok(When::Millis(10_000_000_000 - 7_200_000)));
        assert_eq!(at("1d12h"), Ok(When::Millis(10_000_000_000 - 129_600_000)));
        assert_eq!(at("9999w"), Ok(When::Millis(0)));
        for text in ["", "yesterday", "2 h", "h", "2x", "1d2", "v!", "vAA", "-1"] {
            assert!(at(text).is_err(), "{text}");
        }
    }

    #[test]
    fn versions_come_back_as_they_were() {
        let mut version = Version::new();
        assert_eq!(
            parse_version(&version_text(&version)[1..]),
            Some(version.clone())
        );
        for (id, first, last) in [
            (1, 1, 1),
            (1, 4, u64::MAX),
            (u64::MAX, 1, 200),
            (7, 300, 300),
        ] {
            version.insert_range(ReplicaId::new(id), first, last);
            let text = version_text(&version);
            assert_eq!(When::parse(&text, 0), Ok(When::Version(version.clone())));
        }
    }
}
