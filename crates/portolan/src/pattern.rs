//! Patterns over the names of maps and over paths of keys.

use std::fmt;
use std::str::FromStr;

use portolan_core::Key;

use crate::error::{Error, Result};

/// Longest pattern, in bytes: patterns come from outside too.
const MAX_PATTERN_BYTES: usize = 4 * 1024;
/// Most ways to choose among alternatives in braces: each may have to be tried, and what is
/// matched is held meanwhile.
const MAX_WAYS: usize = 64;

/// A glob over names of maps or paths of keys, read as segments between slashes.
///
/// `?` is one character and `*` any run of them within a segment; `**` as a whole segment is any
/// number of segments; `[a-z]` and `[!a-z]` are one character of a kind, `{a,b}` is either;
/// a leading `!` negates; `\` takes the meaning from the next character. There may be 10 braces,
/// and 64 ways to choose among what is in them.
///
/// A path of keys is matched as its keys joined by slashes, so a slash inside a key separates
/// segments too: `feature/**` matches the key `feature/dark-mode/rollout`.
///
/// ```
/// use portolan::Pattern;
/// let pattern: Pattern = "feature/*".parse()?;
/// assert!(pattern.matches("feature/dark-mode"));
/// assert!(!pattern.matches("feature/dark-mode/rollout"));
/// # Ok::<(), portolan::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    form: Form,
}

/// What most patterns are can be matched without reading them again each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    All,
    Literal,
    /// Nothing special but a final `/**`.
    Under,
    Glob,
}

impl Pattern {
    /// Reads a pattern.
    pub fn new(text: &str) -> Result<Self> {
        let invalid = |reason: String| Error::Pattern {
            pattern: text.chars().take(100).collect(),
            reason,
        };
        if text.len() > MAX_PATTERN_BYTES {
            let reason = format!("it has more than {MAX_PATTERN_BYTES} bytes");
            return Err(invalid(reason));
        }
        fast_glob::validate(text).map_err(|error| invalid(error.to_string()))?;
        if ways(text.as_bytes()) > MAX_WAYS {
            let reason = format!("its braces can be read in more than {MAX_WAYS} ways");
            return Err(invalid(reason));
        }
        let plain = |text: &str| !text.contains(['*', '?', '[', ']', '{', '}', '!', '\\']);
        let form = match text.strip_suffix("/**") {
            _ if text == "**" => Form::All,
            _ if plain(text) => Form::Literal,
            Some(head) if plain(head) && !head.is_empty() => Form::Under,
            _ => Form::Glob,
        };
        Ok(Self {
            text: text.into(),
            form,
        })
    }

    /// The pattern that matches everything, `**`.
    pub fn all() -> Self {
        Self {
            text: "**".into(),
            form: Form::All,
        }
    }

    /// The pattern that matches this text alone.
    pub fn literal(text: &str) -> Self {
        let mut escaped = String::with_capacity(text.len());
        for c in text.chars() {
            if matches!(c, '*' | '?' | '[' | ']' | '{' | '}' | '!' | '\\' | ',') {
                escaped.push('\\');
            }
            escaped.push(c);
        }
        let form = if escaped.len() == text.len() {
            Form::Literal
        } else {
            Form::Glob
        };
        Self {
            text: escaped.into(),
            form,
        }
    }

    /// The pattern that matches what any of these matches; none of them may begin with `!`, unless
    /// it is alone.
    ///
    /// ```
    /// use portolan::Pattern;
    /// let pattern = Pattern::any(&[Pattern::new("fleet/**")?, Pattern::new("a,b")?])?;
    /// assert!(pattern.matches("fleet/rate") && pattern.matches("a,b"));
    /// assert!(!pattern.matches("a"));
    /// # Ok::<(), portolan::Error>(())
    /// ```
    pub fn any(patterns: &[Self]) -> Result<Self> {
        if let [one] = patterns {
            return Ok(one.clone());
        }
        if patterns.iter().any(Self::is_all) {
            return Ok(Self::all());
        }
        if let Some(negative) = patterns
            .iter()
            .find(|pattern| pattern.text.starts_with('!'))
        {
            return Err(Error::Pattern {
                pattern: negative.text.chars().take(100).collect(),
                reason: "one that begins with an exclamation mark can only stand alone".to_owned(),
            });
        }
        let alternatives: Vec<String> = patterns.iter().map(Self::alternative).collect();
        Self::new(&format!("{{{}}}", alternatives.join(",")))
    }

    /// The text as one of several in braces, where a comma would end it, and a brace all of them.
    fn alternative(&self) -> String {
        let text = self.text.as_bytes();
        let (mut escaped, mut depth, mut at) = (Vec::with_capacity(text.len()), 0usize, 0);
        while let Some(&byte) = text.get(at) {
            let start = at;
            at += 1;
            match byte {
                b'\\' => at += 1,
                b'[' => at = past_class(text, at),
                b'{' => depth += 1,
                b',' | b'}' if depth == 0 => escaped.push(b'\\'),
                b'}' => depth -= 1,
                _ => {}
            }
            escaped.extend_from_slice(&text[start..at.min(text.len())]);
        }
        String::from_utf8_lossy(&escaped).into_owned()
    }

    /// The pattern's text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it matches everything.
    pub fn is_all(&self) -> bool {
        self.form == Form::All
    }

    /// Whether it matches a name.
    pub fn matches(&self, name: &str) -> bool {
        match self.form {
            Form::All => true,
            Form::Literal => name == &*self.text,
            // `a/**` is the text `a/` and at least one more segment.
            Form::Under => name
                .strip_prefix(&self.text[..self.text.len() - 2])
                .is_some(),
            Form::Glob => fast_glob::glob_match(&*self.text, name),
        }
    }

    /// Whether it matches a path of keys.
    pub fn matches_path(&self, path: &[Key]) -> bool {
        match path {
            _ if self.form == Form::All => true,
            [Key::Str(key)] => self.matches(key),
            _ => self.matches(&path_text(path)),
        }
    }
}

/// In how many ways one alternative can be chosen in each of the braces of a valid pattern.
fn ways(pattern: &[u8]) -> usize {
    // Of each brace that is open: the ways of the alternatives before, and those before the brace.
    let mut open: Vec<(usize, usize)> = Vec::new();
    let (mut here, mut at) = (1usize, 0);
    while let Some(&byte) = pattern.get(at) {
        at += 1;
        match byte {
            b'\\' => at += 1,
            b'[' => at = past_class(pattern, at),
            b'{' => {
                open.push((0, here));
                here = 1;
            }
            b',' => {
                if let Some((alternatives, _)) = open.last_mut() {
                    *alternatives = alternatives.saturating_add(here);
                    here = 1;
                }
            }
            b'}' => {
                if let Some((alternatives, before)) = open.pop() {
                    here = before.saturating_mul(alternatives.saturating_add(here));
                }
            }
            _ => {}
        }
    }
    here
}

/// Where a class of characters ends that begins before `at`.
fn past_class(pattern: &[u8], mut at: usize) -> usize {
    at += usize::from(matches!(pattern.get(at), Some(b'!' | b'^')));
    let first = at;
    while let Some(&byte) = pattern.get(at) {
        at += 1;
        match byte {
            b'\\' => at += 1,
            // As the first of the class it is a member.
            b']' if at > first + 1 => break,
            _ => {}
        }
    }
    at
}

/// What is watched: a pattern over the paths beneath a map.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    base: Box<[Key]>,
    pattern: Pattern,
}

impl Scope {
    pub(crate) fn new(pattern: Pattern) -> Self {
        Self::beneath(&[], pattern)
    }

    pub(crate) fn beneath(base: &[Key], pattern: Pattern) -> Self {
        let base = base.into();
        Self { base, pattern }
    }

    pub(crate) fn is_all(&self) -> bool {
        self.base.is_empty() && self.pattern.is_all()
    }

    pub(crate) fn matches(&self, path: &[Key]) -> bool {
        match path.strip_prefix(&*self.base) {
            // A path that ends at the map itself tells of what stands beside it.
            None | Some([]) => false,
            Some(rest) => self.pattern.matches_path(rest),
        }
    }
}

/// The keys of a path joined by slashes, as patterns see it.
pub fn path_text(path: &[Key]) -> String {
    let mut text = String::new();
    for (i, key) in path.iter().enumerate() {
        use fmt::Write as _;
        let slash = if i > 0 { "/" } else { "" };
        // Writing to a string does not fail.
        let _ = write!(text, "{slash}{key}");
    }
    text
}

impl FromStr for Pattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern::new(pattern).unwrap().matches(name)
    }

    #[test]
    fn one_star_stays_in_its_segment_and_two_cross() {
        assert!(matches("feature/*", "feature/a"));
        assert!(!matches("feature/*", "feature/a/b"));
        assert!(!matches("*", "a/b"));
        assert!(matches("feature/**", "feature/a"));
        assert!(matches("feature/**", "feature/a/b"));
        assert!(!matches("feature/**", "feature"));
        assert!(!matches("feature/**", "features/a"));
        assert!(matches("**/rollout", "feature/a/rollout"));
        assert!(matches("**/rollout", "rollout"));
        assert!(matches("a/**/z", "a/z"));
        assert!(matches("a/**/z", "a/b/c/z"));
        assert!(matches("**", ""));
        assert!(matches("**", "a//b"));
        assert!(matches("{fleet/**,private/*}", "fleet/a/b"));
        assert!(matches("{fleet/**,private/*}", "private/a"));
        assert!(!matches("{fleet/**,private/*}", "private/a/b"));
    }

    #[test]
    fn short_cuts_agree_with_the_glob() {
        let names = [
            "", "a", "a/", "a/b", "a/b/c", "ab", "b", "/", "a//b", ".a", "a/.b",
        ];
        for pattern in ["**", "a", "a/b", "a/**", "ab", "a/b/**"] {
            let short = Pattern::new(pattern).unwrap();
            assert_ne!(short.form, Form::Glob);
            for name in names {
                let glob = fast_glob::glob_match(pattern, name);
                assert_eq!(short.matches(name), glob, "{pattern} on {name:?}");
            }
        }
    }

    #[test]
    fn a_literal_matches_itself_alone() {
        for text in ["a", "a*b", "[x]", "{a,b}", "!a", "\\", "a/**", "?", "a,b"] {
            let pattern = Pattern::literal(text);
            assert!(pattern.matches(text), "{text}");
            assert!(!pattern.matches("other"), "{text}");
            assert_eq!(Pattern::new(pattern.as_str()).unwrap(), pattern);
        }
        assert!(!Pattern::literal("a*b").matches("axb"));
    }

    proptest::proptest! {
        #[test]
        fn any_matches_what_one_of_them_matches(
            texts in proptest::collection::vec(
                proptest::sample::subsequence(
                    vec!["a", ",", "b/", "*", "[,]", "{a,b}", "}", "\\,", "\\{", "?", "/b", "{,/*}", "]", "/**"],
                    0..4,
                ),
                1..5,
            ),
            names in proptest::collection::vec("[ab,/{}]{0,4}", 20),
        ) {
            let texts: Vec<String> = texts.iter().map(|pieces| pieces.concat()).collect();
            let patterns: Vec<Pattern> = texts.iter().map(|text| Pattern::new(text).unwrap()).collect();
            // More ways to choose than may be are an error.
            if let Ok(any) = Pattern::any(&patterns) {
                for name in &names {
                    let one = patterns.iter().any(|pattern| pattern.matches(name));
                    proptest::prop_assert_eq!(any.matches(name), one, "{} {:?} on {:?}", any, texts, name);
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_one_of_several_is_refused() {
        let pattern = |text| Pattern::new(text).unwrap();
        assert!(Pattern::any(&[pattern("!a"), pattern("b")]).is_err());
        assert_eq!(Pattern::any(&[pattern("!a")]).unwrap(), pattern("!a"));
        assert!(
            Pattern::any(&[pattern("a"), Pattern::all()])
                .unwrap()
                .is_all()
        );
        assert!(!Pattern::any(&[]).unwrap().matches("a"));
        assert!(Pattern::any(&vec![pattern("{a,b}"); 33]).is_err());
    }

    #[test]
    fn broken_patterns_are_refused_with_a_reason() {
        for broken in ["[a", "{a,b", "a\\"] {
            let error = Pattern::new(broken).unwrap_err().to_string();
            assert!(error.contains(broken), "{error}");
        }
        assert!(Pattern::new(&"a".repeat(5_000)).is_err());
    }

    #[test]
    fn braces_that_would_take_long_to_match_are_refused() {
        for (pattern, count) in [
            ("a", 1),
            ("{a,b}", 2),
            ("{a,b,{c,d}{e,f}}x{g,}", 12),
            ("\\{a,b}{c,d\\,e}", 2),
            ("[{,]{a,b}[]{},]{c,[!],}],d}", 6),
            ("{a,b},{c,d}", 4),
        ] {
            assert_eq!(fast_glob::validate(pattern), Ok(()), "{pattern}");
            assert_eq!(ways(pattern.as_bytes()), count, "{pattern}");
        }
        assert!(Pattern::new("{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}").is_ok());
        assert!(Pattern::new(&format!("{{{}}}", ["a"; 64].join(","))).is_ok());
        for broken in ["{a,aa}".repeat(7), "{*a,*a,*a}".repeat(10)] {
            let error = Pattern::new(&broken).unwrap_err().to_string();
            assert!(error.contains("64 ways"), "{error}");
        }
    }

    #[test]
    fn keys_of_every_kind_stand_in_a_path() {
        let path = [Key::from("a"), Key::from(7i64), Key::from(true)];
        assert_eq!(path_text(&path), "a/7/true");
        assert!(Pattern::new("a/*/true").unwrap().matches_path(&path));
        assert!(Pattern::new("7").unwrap().matches_path(&[Key::from(7i64)]));
    }
}
