//! Which shared thing: its id, and what kind of data it is.

use core::fmt;
use core::str::FromStr;

/// The id of what replicas share: 128 random bits, chosen by whoever creates it, the same at all
/// of them. Shown as thirty-two hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(u128);

impl InstanceId {
    /// The id with these 128 bits.
    pub const fn new(bits: u128) -> Self {
        Self(bits)
    }

    /// Its 128 bits.
    pub const fn get(self) -> u128 {
        self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for InstanceId {
    type Err = core::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(text, 16).map(Self)
    }
}

/// A replicated data type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum DataType {
    /// A map that keeps concurrent values of a key: [`MvMap`](super::MvMap).
    MvMap = 1,
    /// A replicated growable array: [`RgArray`](super::RgArray).
    RgArray = 2,
    /// An observed-remove set: [`OrSet`](super::OrSet).
    OrSet = 3,
    /// A counter: [`Counter`](super::Counter).
    Counter = 4,
    /// A register that keeps concurrent values: [`MvRegister`](super::MvRegister).
    MvRegister = 5,
}

impl DataType {
    pub(super) fn from_code(code: u8) -> Option<Self> {
        let all = [
            Self::MvMap,
            Self::RgArray,
            Self::OrSet,
            Self::Counter,
            Self::MvRegister,
        ];
        all.into_iter().find(|known| *known as u8 == code)
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
