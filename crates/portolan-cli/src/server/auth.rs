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

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use parking_lot::{Mutex, RwLock};
use portolan::Pattern;
use ring::{hmac, signature};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use tokio::sync::watch;

/// Longest token, in bytes: it is sent with every map that is opened.
const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// Shortest secret, in bytes: HS256 is as strong as its secret is long (RFC 7518, section 3.2).
const MIN_SECRET_BYTES: usize = 32;
/// How far apart the clocks of signer and server may be, in seconds.
const LEEWAY: u64 = 5;

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
    file: Option<PathBuf>,
    /// How the file looked when it was read last.
    seen: Mutex<Option<Fingerprint>>,
    rules: RwLock<Arc<Rules>>,
    changed: watch::Sender<u64>,
}

impl Auth {
    /// Asks nobody for a token.
    pub(crate) fn open() -> Self {
        let (changed, _) = watch::channel(0);
        Self {
            file: None,
            seen: Mutex::default(),
            rules: RwLock::default(),
            changed,
        }
    }

    /// Asks for tokens that the file vouches for.
    pub(crate) fn from_file(file: &Path) -> anyhow::Result<Self> {
        // Before it is read: a change in between is found later.
        let seen = fingerprint(file);
        let rules = Rules::read(file)?;
        let (changed, _) = watch::channel(0);
        Ok(Self {
            file: Some(file.to_owned()),
            seen: Mutex::new(seen),
            rules: RwLock::new(Arc::new(rules)),
            changed,
        })
    }

    pub(crate) fn is_open(&self) -> bool {
        self.file.is_none()
    }

    /// Whether the file does not look as it did when this was last asked.
    pub(crate) fn file_changed(&self) -> bool {
        let found = self.file.as_deref().and_then(fingerprint);
        std::mem::replace(&mut *self.seen.lock(), found) != found
    }

    /// Reads the file again; the old rules stay in force when that fails. Whether they changed.
    pub(crate) fn reload(&self) -> anyhow::Result<bool> {
        let Some(file) = &self.file else {
            return Ok(false);
        };
        let mut fresh = Rules::read(file)?;
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

/// Changes when the file does.
type Fingerprint = (SystemTime, u64, u64);

fn fingerprint(file: &Path) -> Option<Fingerprint> {
    let found = std::fs::metadata(file).ok()?;
    Some((found.modified().ok()?, found.len(), found.ino()))
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |time| time.as_secs())
}

/// The auth file, read.
#[derive(Debug, Default)]
struct Rules {
    /// To tell whether the file says something else than before.
    text: String,
    /// How many came before.
    number: u64,
    keys: Vec<NamedKey>,
    audience: Option<String>,
    origins: HashSet<String>,
    revoked: HashSet<String>,
}

#[derive(Debug)]
struct NamedKey {
    id: Option<String>,
    key: VerifyingKey,
}

enum VerifyingKey {
    Hs256(hmac::Key),
    EdDsa(Vec<u8>),
}

/// Keys are not for logs.
impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.algorithm())
    }
}

impl VerifyingKey {
    fn algorithm(&self) -> &'static str {
        match self {
            VerifyingKey::Hs256(_) => "HS256",
            VerifyingKey::EdDsa(_) => "EdDSA",
        }
    }

    fn verifies(&self, message: &[u8], signed: &[u8]) -> bool {
        match self {
            VerifyingKey::Hs256(key) => hmac::verify(key, message, signed).is_ok(),
            VerifyingKey::EdDsa(key) => {
                let key = signature::UnparsedPublicKey::new(&signature::ED25519, key);
                key.verify(message, signed).is_ok()
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AuthFile {
    keys: Vec<KeyEntry>,
    #[serde(default)]
    access: AccessEntry,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyEntry {
    id: Option<String>,
    algorithm: String,
    secret: Option<String>,
    secret_base64: Option<String>,
    public_key: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct AccessEntry {
    audience: Option<String>,
    origins: Vec<String>,
    revoked: Vec<String>,
}

impl KeyEntry {
    fn key(&self) -> anyhow::Result<VerifyingKey> {
        match (
            self.algorithm.as_str(),
            &self.secret,
            &self.secret_base64,
            &self.public_key,
        ) {
            ("HS256", Some(text), None, None) => hs256(text.as_bytes()),
            ("HS256", None, Some(text), None) => hs256(&base64(text)?),
            ("HS256", ..) => bail!("HS256 takes `secret` or `secret_base64`"),
            ("EdDSA", None, None, Some(text)) => Ok(VerifyingKey::EdDsa(ed25519(text)?)),
            ("EdDSA", ..) => bail!("EdDSA takes `public_key`"),
            (other, ..) => bail!("the algorithm {other:?} is not HS256 or EdDSA"),
        }
    }
}

fn hs256(secret: &[u8]) -> anyhow::Result<VerifyingKey> {
    let found = secret.len();
    ensure!(
        found >= MIN_SECRET_BYTES,
        "the secret has {found} bytes; it needs {MIN_SECRET_BYTES} (openssl rand -base64 48)"
    );
    Ok(VerifyingKey::Hs256(hmac::Key::new(
        hmac::HMAC_SHA256,
        secret,
    )))
}

fn ed25519(text: &str) -> anyhow::Result<Vec<u8>> {
    // SubjectPublicKeyInfo of an Ed25519 key (RFC 8410): this, then the 32 bytes of the key.
    const HEAD: [u8; 12] = [
        0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0,
    ];
    let bytes = if text.contains("-----BEGIN") {
        let info = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes());
        let info = info.context("`public_key` is no PEM of a public key")?;
        let key = info
            .strip_prefix(&HEAD)
            .context("`public_key` is no Ed25519 key")?;
        key.to_vec()
    } else {
        base64(text)?
    };
    ensure!(
        bytes.len() == 32,
        "an Ed25519 public key has 32 bytes, not {}",
        bytes.len()
    );
    Ok(bytes)
}

fn base64(text: &str) -> anyhow::Result<Vec<u8>> {
    let text = text.trim();
    let decoded = STANDARD
        .decode(text)
        .or_else(|_| URL_SAFE_NO_PAD.decode(text));
    decoded.context("not base64")
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood: none are.
    crit: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Claims {
    exp: f64,
    nbf: Option<f64>,
    jti: Option<String>,
    sub: Option<String>,
    aud: Option<OneOrMany>,
    #[serde(default)]
    maps: BTreeMap<String, OneOrMany>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn iter(&self) -> impl Iterator<Item = &str> {
        match self {
            OneOrMany::One(one) => std::slice::from_ref(one).iter().map(String::as_str),
            OneOrMany::Many(many) => many.iter().map(String::as_str),
        }
    }
}

impl Rules {
    fn read(file: &Path) -> anyhow::Result<Self> {
        let name = file.display();
        let text = std::fs::read_to_string(file);
        let text = text.with_context(|| format!("cannot read the auth file {name}"))?;
        Self::parse(text).with_context(|| format!("the auth file {name} is wrong"))
    }

    fn parse(text: String) -> anyhow::Result<Self> {
        let file: AuthFile = toml::from_str(&text)?;
        ensure!(
            !file.keys.is_empty(),
            "it has no [[keys]]: nobody could get in"
        );
        let mut keys = Vec::new();
        for (index, entry) in file.keys.iter().enumerate() {
            let key = entry.key().with_context(|| format!("key {}", index + 1))?;
            keys.push(NamedKey {
                id: entry.id.clone(),
                key,
            });
        }
        let AccessEntry {
            audience,
            origins,
            revoked,
        } = file.access;
        let trimmed = origins
            .iter()
            .map(|origin| origin.trim_end_matches('/').to_owned());
        let origins = trimmed.collect();
        let revoked = revoked.into_iter().collect();
        Ok(Self {
            text,
            number: 0,
            keys,
            audience,
            origins,
            revoked,
        })
    }

    /// Checks form and signature; what may change with time is for [`check`](Self::check).
    fn verify(&self, token: &str) -> Result<Grant, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Malformed("it is too long"));
        }
        let malformed = |what| move || TokenError::Malformed(what);
        let (message, signed) = token
            .rsplit_once('.')
            .ok_or_else(malformed("no signature"))?;
        let (header, claims) = message.split_once('.').ok_or_else(malformed("no claims"))?;
        let decode = |part: &str, what| {
            URL_SAFE_NO_PAD
                .decode(part)
                .map_err(|_| TokenError::Malformed(what))
        };
        let header: Header = serde_json::from_slice(&decode(header, "header")?)
            .map_err(|_| TokenError::Malformed("header"))?;
        if header.crit.is_some() {
            return Err(TokenError::Malformed("it has critical extensions"));
        }
        let signed = decode(signed, "signature")?;
        // The algorithm is the key's; the header only says which keys to try.
        let mut keys = self.keys.iter().filter(|named| {
            let id_fits = match (&header.kid, &named.id) {
                (Some(wanted), Some(id)) => wanted == id,
                _ => true,
            };
            id_fits && named.key.algorithm() == header.alg
        });
        if !keys.any(|named| named.key.verifies(message.as_bytes(), &signed)) {
            return Err(TokenError::Signature);
        }
        let claims: Claims = serde_json::from_slice(&decode(claims, "claims")?)
            .map_err(|_| TokenError::Malformed("the claims `exp` and `maps` are needed"))?;
        if let Some(wanted) = &self.audience {
            let named = claims
                .aud
                .as_ref()
                .is_some_and(|aud| aud.iter().any(|one| one == wanted));
            if !named {
                return Err(TokenError::Audience);
            }
        }
        if claims
            .nbf
            .is_some_and(|from| from > (now() + LEEWAY) as f64)
        {
            return Err(TokenError::NotYet);
        }
        let mut maps = Vec::new();
        for (pattern, names) in &claims.maps {
            let pattern =
                Pattern::new(pattern).map_err(|_| TokenError::Malformed("a pattern in `maps`"))?;
            maps.push((pattern, rights(names)?));
        }
        Ok(Grant {
            token: token.to_owned(),
            rules: self.number,
            subject: claims.sub,
            id: claims.jti,
            expires: claims.exp as u64,
            maps,
        })
    }

    /// Seconds for which the grant is good if nothing changes.
    fn check(&self, grant: &Grant, now: u64) -> Result<u64, TokenError> {
        if grant
            .id
            .as_ref()
            .is_some_and(|id| self.revoked.contains(id))
        {
            return Err(TokenError::Revoked);
        }
        let end = grant.expires.saturating_add(LEEWAY);
        match end.checked_sub(now) {
            None | Some(0) => Err(TokenError::Expired(now - grant.expires)),
            Some(left) => Ok(left),
        }
    }
}

fn rights(names: &OneOrMany) -> Result<Rights, TokenError> {
    names.iter().try_fold(Rights::default(), |all, name| {
        let more = match name {
            "read" => Rights {
                read: true,
                ..Rights::default()
            },
            "write" => Rights {
                write: true,
                ..Rights::default()
            },
            "admin" => Rights::ALL,
            _ => return Err(TokenError::Malformed("`maps` gives read, write or admin")),
        };
        Ok(all.union(more))
    })
}

#[cfg(test)]
mod tests {
    use ring::signature::{Ed25519KeyPair, KeyPair as _};
    use serde_json::{Value as Json, json};

    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn encode(part: &Json) -> String {
        URL_SAFE_NO_PAD.encode(part.to_string())
    }

    fn hs256_token(header: &Json, claims: &Json, secret: &[u8]) -> String {
        let message = format!("{}.{}", encode(header), encode(claims));
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let signed = hmac::sign(&key, message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signed))
    }

    fn token(claims: &Json) -> String {
        hs256_token(&json!({ "alg": "HS256" }), claims, SECRET.as_bytes())
    }

    fn rules(access: &str) -> Rules {
        let text = format!(
            "[[keys]]\nid = \"a\"\nalgorithm = \"HS256\"\nsecret = \"{SECRET}\"\n[access]\n{access}"
        );
        Rules::parse(text).expect("good rules")
    }

    fn claims() -> Json {
        json!({ "exp": now() + 60, "jti": "t1", "maps": { "fleet/**": ["read", "write"], "log": "read" } })
    }

    fn grant(rules: &Rules, token: &str) -> Result<Grant, TokenError> {
        let grant = rules.verify(token)?;
        rules.check(&grant, now()).map(|_| grant)
    }

    #[test]
    fn a_token_gives_what_its_patterns_say() {
        let grant = grant(&rules(""), &token(&claims())).expect("a good token");
        let read = Rights {
            read: true,
            ..Rights::default()
        };
        assert_eq!(
            grant.rights("fleet/config"),
            Rights {
                write: true,
                ..read
            }
        );
        assert_eq!(grant.rights("log"), read);
        assert_eq!(grant.rights("fleet"), Rights::default());
        assert!(!grant.is_admin());
        let admin = json!({ "exp": now() + 60, "maps": { "**": "admin" } });
        let admin = rules("").verify(&token(&admin)).expect("a good token");
        assert!(admin.is_admin());
        assert_eq!(admin.rights("anything"), Rights::ALL);
    }

    #[test]
    fn forged_tokens_are_refused() {
        let rules = rules("");
        let other = b"another secret of thirty-two bytes";
        let header = json!({ "alg": "HS256" });
        let signature = |token: &str| grant(&rules, token).err();
        let forged = hs256_token(&header, &claims(), other);
        assert_eq!(signature(&forged), Some(TokenError::Signature));
        for header in [
            json!({ "alg": "none" }),
            json!({ "alg": "HS384" }),
            json!({ "alg": "HS256", "kid": "b" }),
        ] {
            let token = hs256_token(&header, &claims(), SECRET.as_bytes());
            assert_eq!(signature(&token), Some(TokenError::Signature), "{header}");
        }
        let named = hs256_token(
            &json!({ "alg": "HS256", "kid": "a" }),
            &claims(),
            SECRET.as_bytes(),
        );
        assert_eq!(signature(&named), None);
        let good = token(&claims());
        let more = json!({ "exp": now() + 60, "maps": { "**": "admin" } });
        let swapped: Vec<_> = good.split('.').collect();
        let swapped = format!("{}.{}.{}", swapped[0], encode(&more), swapped[2]);
        assert_eq!(signature(&swapped), Some(TokenError::Signature));
        for text in [
            "",
            ".",
            "..",
            "a.b.c",
            &good[1..],
            &format!("{good}x"),
            &"a".repeat(20_000),
        ] {
            assert!(signature(text).is_some(), "{text:.40}");
        }
    }

    #[test]
    fn eddsa_is_verified_and_its_public_key_is_no_secret() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a key");
        let public = pair.public_key().as_ref();
        let mut info = vec![
            0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0,
        ];
        info.extend_from_slice(public);
        let pem = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            STANDARD.encode(&info)
        );
        let message = format!(
            "{}.{}",
            encode(&json!({ "alg": "EdDSA" })),
            encode(&claims())
        );
        let signed = URL_SAFE_NO_PAD.encode(pair.sign(message.as_bytes()));
        let good = format!("{message}.{signed}");
        let confused = hs256_token(&json!({ "alg": "HS256" }), &claims(), public);
        for key in [STANDARD.encode(public), URL_SAFE_NO_PAD.encode(public), pem] {
            let text = format!("[[keys]]\nalgorithm = \"EdDSA\"\npublic_key = '''{key}'''\n");
            let rules = Rules::parse(text).expect("good rules");
            assert!(grant(&rules, &good).is_ok());
            assert_eq!(grant(&rules, &confused).err(), Some(TokenError::Signature));
        }
    }

    #[test]
    fn time_audience_and_revocation_count() {
        let with = |change: &dyn Fn(&mut Json)| {
            let mut claims = claims();
            change(&mut claims);
            token(&claims)
        };
        let plain = rules("");
        let old = with(&|claims| claims["exp"] = json!(now() - 100));
        assert_eq!(grant(&plain, &old).err(), Some(TokenError::Expired(100)));
        let early = with(&|claims| claims["nbf"] = json!(now() + 100));
        assert_eq!(grant(&plain, &early).err(), Some(TokenError::NotYet));
        let timeless = with(&|claims| drop(claims.as_object_mut().unwrap().remove("exp")));
        assert!(matches!(
            grant(&plain, &timeless),
            Err(TokenError::Malformed(_))
        ));
        let odd = with(&|claims| claims["maps"] = json!({ "**": "everything" }));
        assert!(matches!(grant(&plain, &odd), Err(TokenError::Malformed(_))));

        let strict = rules("audience = \"portolan\"\nrevoked = [\"t0\", \"t2\"]");
        assert_eq!(
            grant(&strict, &with(&|_| ())).err(),
            Some(TokenError::Audience)
        );
        let meant = with(&|claims| claims["aud"] = json!(["x", "portolan"]));
        assert!(grant(&strict, &meant).is_ok());
        let revoked = with(&|claims| {
            claims["aud"] = json!("portolan");
            claims["jti"] = json!("t2");
        });
        assert_eq!(grant(&strict, &revoked).err(), Some(TokenError::Revoked));
    }

    #[test]
    fn a_wrong_file_says_what_is_wrong() {
        let key = format!("[[keys]]\nalgorithm = \"HS256\"\nsecret = \"{SECRET}\"\n");
        for (text, words) in [
            ("", "keys"),
            ("keys = []", "nobody could get in"),
            (
                "[[keys]]\nalgorithm = \"HS256\"\nsecret = \"short\"",
                "needs 32",
            ),
            ("[[keys]]\nalgorithm = \"RS256\"", "not HS256 or EdDSA"),
            ("[[keys]]\nalgorithm = \"HS256\"", "secret"),
            (
                "[[keys]]\nalgorithm = \"EdDSA\"\npublic_key = \"AAAA\"",
                "32 bytes",
            ),
            (&format!("{key}colour = 1"), "colour"),
            (&format!("{key}[access]\nrevoke = []"), "revoke"),
        ] {
            let error = Rules::parse(text.to_owned()).expect_err(text);
            let message = format!("{error:#}");
            assert!(message.contains(words), "{text}: {message}");
        }
    }
}
