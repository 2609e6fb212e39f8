//! Who may do what: the auth file, and the tokens that it vouches for.
//!
//! The file is TOML:
//!
//! ```toml
//! # Whose signatures are good. `id` is matched with a token's `kid`; a token without one is
//! # tried with every key of its algorithm.
//! [[keys]]
//! id = "ops"
//! algorithm = "HS256"
//! secret = "at least 32 bytes, or secret_base64"
//!
//! [[keys]]
//! algorithm = "EdDSA"
//! public_key = "PEM, or the 32 bytes in base64"
//!
//! [access]                                 # all optional
//! audience = "portolan"                    # what tokens must name as `aud`
//! origins = ["https://app.example.com"]    # web pages that are let in
//! revoked = ["token-17"]                   # token ids (`jti`) that are good no more
//! ```
//!
//! A token is a JWT with the claims `exp` (required), `nbf`, `jti`, `sub`, `aud` and
//! `maps`: an object of patterns over names of maps, each with `"read"`, `"write"`, `"admin"`
//! or a list of these. Admin includes the others; `{"**": "admin"}` is whoever runs the server.

mod rules;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::RwLock;
use portolan::Pattern;
use tokio::sync::watch;

use self::rules::Rules;
use super::watched_file::WatchedFile;

/// What a token, or the absence of the need for one, allows for one map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rights {
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) admin: bool,
}

impl Rights {
    const ALL: Self = Self {
        read: true,
        write: true,
        admin: true,
    };

    fn union(self, other: Self) -> Self {
        Self {
            read: self.read || other.read,
            write: self.write || other.write,
            admin: self.admin || other.admin,
        }
    }
}

/// Why a token is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("this server asks for a token")]
    Missing,
    #[error("the token is no JWT: {0}")]
    Malformed(&'static str),
    #[error("the token's signature is not by a key of this server")]
    Signature,
    #[error("the token expired {0} s ago: ask for a new one")]
    Expired(u64),
    #[error("the token is not valid yet; check the clocks")]
    NotYet,
    #[error("the token is for another audience")]
    Audience,
    #[error("the token was revoked")]
    Revoked,
}

/// A token that was found good; ask [`Auth::check`] again before relying on it later.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    token: String,
    /// The rules that it was verified by.
    rules: u64,
    subject: Option<String>,
    id: Option<String>,
    expires: u64,
    maps: Vec<(Pattern, Rights)>,
}

impl Grant {
    /// What it allows for a map.
    pub(crate) fn rights(&self, map: &str) -> Rights {
        let matching = self.maps.iter().filter(|(pattern, _)| pattern.matches(map));
        matching.fold(Rights::default(), |all, (_, rights)| all.union(*rights))
    }

    /// Whether it runs the whole server.
    fn is_admin(&self) -> bool {
        self.maps
            .iter()
            .any(|(pattern, rights)| rights.admin && pattern.is_all())
    }
}

/// Who is asking, as far as is known.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// Nobody is asked for a token here.
    Anyone,
    /// The bearer of this token.
    Bearer(Arc<Grant>),
}

impl Caller {
    pub(crate) fn rights(&self, map: &str) -> Rights {
        match self {
            Caller::Anyone => Rights::ALL,
            Caller::Bearer(grant) => grant.rights(map),
        }
    }

    pub(crate) fn is_admin(&self) -> bool {
        match self {
            Caller::Anyone => true,
            Caller::Bearer(grant) => grant.is_admin(),
        }
    }
}

/// Shown in logs.
impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Caller::Anyone => f.write_str("anyone"),
            Caller::Bearer(grant) => {
                let name = grant.subject.as_deref().or(grant.id.as_deref());
                f.write_str(name.unwrap_or("the bearer of a token"))
            }
        }
    }
}

/// The rules in force. They may change while connections last: whoever holds one follows
/// [`Auth::changes`] and checks again.
#[derive(Debug)]
pub(crate) struct Auth {
    file: Option<WatchedFile>,
    rules: RwLock<Arc<Rules>>,
    changed: watch::Sender<u64>,
}

impl Auth {
    /// Asks nobody for a token.
    pub(crate) fn open() -> Self {
        let (changed, _) = watch::channel(0);
        Self {
            file: None,
            rules: RwLock::default(),
            changed,
        }
    }

    /// Asks for tokens that the file vouches for.
    pub(crate) fn from_file(file: &Path) -> anyhow::Result<Self> {
        let watched = WatchedFile::new(file);
        let rules = Rules::read(file)?;
        let (changed, _) = watch::channel(0);
        Ok(Self {
            file: Some(watched),
            rules: RwLock::new(Arc::new(rules)),
            changed,
        })
    }

    pub(crate) fn is_open(&self) -> bool {
        self.file.is_none()
    }

    /// Whether the file does not look as it did when this was last asked.
    pub(crate) fn file_changed(&self) -> bool {
        self.file.as_ref().is_some_and(WatchedFile::has_changed)
    }

    /// Reads the file again; the old rules stay in force when that fails. Whether they changed.
    pub(crate) fn reload(&self) -> anyhow::Result<bool> {
        let Some(file) = &self.file else {
            return Ok(false);
        };
        let mut fresh = Rules::read(file.path())?;
        {
            let mut rules = self.rules.write();
            if rules.text == fresh.text {
                return Ok(false);
            }
            fresh.number = rules.number + 1;
            *rules = Arc::new(fresh);
        }
        self.changed.send_modify(|times| *times += 1);
        Ok(true)
    }

    /// Counts the changes of the rules.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Whether web pages of an origin are let in.
    pub(crate) fn allows_origin(&self, origin: &str) -> bool {
        self.rules.read().origins.contains(origin)
    }

    /// Who the bearer of this token is.
    pub(crate) fn caller(&self, token: Option<&str>) -> Result<Caller, TokenError> {
        if self.is_open() {
            return Ok(Caller::Anyone);
        }
        let rules = self.rules.read().clone();
        let grant = rules.verify(token.ok_or(TokenError::Missing)?)?;
        rules.check(&grant, now())?;
        Ok(Caller::Bearer(Arc::new(grant)))
    }

    /// Whether a caller is still good; if so, for how many seconds without a change of the rules.
    pub(crate) fn check(&self, caller: &Caller) -> Result<Option<u64>, TokenError> {
        match caller {
            Caller::Anyone => Ok(None),
            Caller::Bearer(grant) => {
                let rules = self.rules.read().clone();
                if rules.number != grant.rules {
                    rules.verify(&grant.token)?;
                }
                rules.check(grant, now()).map(Some)
            }
        }
    }
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |time| time.as_secs())
}
