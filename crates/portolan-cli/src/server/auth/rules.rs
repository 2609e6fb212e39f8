//! The auth file, read: keys, and the tokens that they signed.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use portolan::Pattern;
use ring::{hmac, signature};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;

use super::{Grant, Rights, TokenError, now};

/// Longest token, in bytes: it is sent with every map that is opened.
const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// Shortest secret, in bytes: HS256 is as strong as its secret is long (RFC 7518, section 3.2).
const MIN_SECRET_BYTES: usize = 32;
/// How far apart the clocks of signer and server may be, in seconds.
const LEEWAY: u64 = 5;

/// What the auth file says.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// To tell whether the file says something else than before.
    pub(super) text: String,
    /// How many came before.
    pub(super) number: u64,
    keys: Vec<NamedKey>,
    audience: Option<String>,
    pub(super) origins: HashSet<String>,
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
    pub(super) fn read(file: &Path) -> anyhow::Result<Self> {
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
    pub(super) fn verify(&self, token: &str) -> Result<Grant, TokenError> {
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
    pub(super) fn check(&self, grant: &Grant, now: u64) -> Result<u64, TokenError> {
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
