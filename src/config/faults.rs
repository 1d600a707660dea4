//! Finding every fault of a file at once, with its line and the nearest known key.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// How many faults are looked for: past that many it is not the file that was meant.
const FAULTS_MAX: usize = 50;

/// One fault of a config file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Counted from 1, where it could be told.
    pub line: Option<usize>,
    /// What is wrong and what to do.
    pub message: String,
}

/// All faults of a file, one line each.
#[derive(Debug, thiserror::Error)]
pub struct Faults {
    path: PathBuf,
    faults: Vec<Fault>,
}

impl Faults {
    pub(super) fn of(path: &Path, faults: Vec<Fault>) -> Self {
        Self { path: path.into(), faults }
    }

    /// The faults, in the order in which they were found.
    #[must_use]
    pub fn all(&self) -> &[Fault] {
        &self.faults
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, fault) in self.faults.iter().enumerate() {
            if n > 0 {
                writeln!(f)?;
            }
            write!(f, "{}", self.path.display())?;
            if let Some(line) = fault.line {
                write!(f, ":{line}")?;
            }
            write!(f, ": {}", fault.message)?;
        }
        Ok(())
    }
}

/// Deserialises a text; at a fault, blanks what is wrong and goes on, so that all faults are found.
pub(super) fn deserialize<T: DeserializeOwned>(text: &str) -> Result<T, Vec<Fault>> {
    let is_toml = |text: &str| text.parse::<toml::Table>().is_ok();
    let was_toml = is_toml(text);
    let mut left = text.to_string();
    let mut faults: Vec<Fault> = Vec::new();
    let mut blanked: Vec<(Range<usize>, String)> = Vec::new();
    loop {
        let error = match toml::from_str::<T>(&left) {
            Ok(value) if faults.is_empty() => return Ok(value),
            Ok(_) => return Err(faults),
            Err(error) => error,
        };
        let span = error.span();
        let lines = span.clone().and_then(|span| lines_of(&left, span));
        let within = lines.clone().unwrap_or(0..text.len());
        // What was blanked may be missing now: that is no second fault.
        let follows = missing_key(error.message()).is_some_and(|key| {
            let mut blanked = blanked.iter().filter(|(lines, _)| within.contains(&lines.start));
            blanked.any(|(_, text)| mentions_key(text, key))
        });
        let message = reword(error.message());
        if !follows {
            let line = span.map(|span| line_at(text, span.start));
            faults.push(Fault { line, message: message.clone() });
        }
        let Some(lines) = lines.filter(|_| faults.len() < FAULTS_MAX) else { return Err(faults) };
        // With the message, since it says which key an unknown one was meant to be.
        let gone = format!("{} {message}", left.get(lines.clone()).unwrap_or_default());
        blank(&mut left, lines.clone());
        blanked.push((lines, gone));
        // A list with a hole may be no list any more: what would be said of it now is no fault.
        if was_toml && !is_toml(&left) {
            return Err(faults);
        }
    }
}

/// The line that sets a key, or else the first that mentions the text outside a comment.
pub(super) fn line_of(text: &str, mention: &str) -> Option<usize> {
    let sets = |line: &str| {
        let rest = line.trim_start().strip_prefix(mention);
        rest.is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    let mentions = |line: &str| line.split('#').next().is_some_and(|line| line.contains(mention));
    let by_key = text.lines().position(sets);
    by_key.or_else(|| text.lines().position(mentions)).map(|at| at + 1)
}

fn line_at(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

/// The lines of a span, of a table's header with all that belongs to it; `None` if there is nothing on
/// them, or if they are the whole text.
fn lines_of(text: &str, span: Range<usize>) -> Option<Range<usize>> {
    let start = text.get(..span.start)?.rfind('\n').map_or(0, |at| at + 1);
    let rest = text.get(start..)?;
    let is_header = rest.trim_start().starts_with('[');
    let length = if is_header {
        rest.match_indices("\n[").next().map_or(rest.len(), |(at, _)| at)
    } else {
        let after = span.end.saturating_sub(start).min(rest.len());
        rest.get(after..)?.find('\n').map_or(rest.len(), |at| after + at)
    };
    let is_blank = rest.get(..length)?.trim().is_empty();
    (!is_blank && length < text.len()).then_some(start..start + length)
}

/// Overwrites with blanks, so that everything else stays at its place.
fn blank(text: &mut String, lines: Range<usize>) {
    let Some(faulty) = text.get(lines.clone()) else { return };
    let blanks = faulty.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' });
    let blanks: String = blanks.collect();
    text.replace_range(lines, &blanks);
}

fn missing_key(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.split('`').next()
}

fn mentions_key(text: &str, key: &str) -> bool {
    let in_key = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    text.split(|c| !in_key(c)).any(|word| word == key)
}

/// What the deserialiser says in the words of a person, with the nearest key, and without values: any of
/// them may be a secret in a wrong place.
fn reword(message: &str) -> String {
    if let Some(key) = missing_key(message) {
        return format!("missing key `{key}`");
    }
    if let Some(mismatch) = message.strip_prefix("invalid ") {
        return wrong_value(mismatch);
    }
    if message.starts_with("unknown field") || message.starts_with("unknown variant") {
        let mut quoted = message.split('`').skip(1).step_by(2);
        let what = if message.starts_with("unknown field") { "key" } else { "value" };
        let Some(found) = quoted.next() else { return format!("unknown {what}") };
        let known: Vec<&str> = quoted.collect();
        return match nearest(found, known.iter().copied()) {
            Some(near) => format!("unknown {what} `{found}`; did you mean `{near}`?"),
            None => format!("unknown {what} `{found}`; known are {}", known.join(", ")),
        };
    }
    message.trim_end().replace('\n', "; ")
}

/// `type: string "x", expected a sequence` without the value.
fn wrong_value(mismatch: &str) -> String {
    let (what, rest) = mismatch.split_once(": ").unwrap_or(("value", mismatch));
    let Some((found, expected)) = rest.rsplit_once(", expected ") else {
        return if what == mismatch { format!("invalid {what}") } else { "invalid value".into() };
    };
    let found = found.split(['`', '"']).next().unwrap_or_default().trim();
    let found = match found {
        "sequence" => "list",
        "map" => "table",
        "floating point" => "number with a fraction",
        "integer" => "number",
        known @ ("string" | "boolean" | "character") => known,
        _ => "value",
    };
    let expected = match expected {
        "a sequence" => "a list",
        "a map" => "a table",
        "f64" => "a number",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number from 0 up",
        table if table.starts_with("struct ") => "a table",
        other => other,
    };
    format!("this is a {found}, {expected} is expected")
}

/// The nearest of the known names, if any is near.
pub(crate) fn nearest<'a>(found: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let distances = known.map(|name| (strsim::damerau_levenshtein(found, name), name));
    let (distance, name) = distances.min()?;
    (distance <= 1 + found.len() / 3).then_some(name)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::Config;

    const NODE: &str = "[node]\nid = 1\nregion = \"eu\"\ndata_dir = \"data\"\n\n";

    fn faults(more: &str) -> Vec<String> {
        let faults = Config::parse(&format!("{NODE}{more}"), Path::new("F")).unwrap_err();
        faults.to_string().lines().map(Into::into).collect()
    }

    // Brackets or quotes that were forgotten must not print a secret into a log.
    #[test]
    fn a_value_of_the_wrong_type_is_not_said() {
        let secrets = "[[channel]]\nname = \"a\"\nkind = \"shopify\"\nsecrets = ";
        let token = "[admin]\ntokens = [{ name = \"a\", scopes = [], secret = ";
        for (text, expected) in [
            (format!("{secrets}\"shpss_1234567\"\n"), "this is a string, a list is expected"),
            (
                format!("{secrets}\"shpss_1234567, expected 1234567\"\n"),
                "this is a string, a list is expected",
            ),
            (format!("{secrets}[1234567]\n"), "this is a number, a string is expected"),
            (format!("{token}1234567 }}]\n"), "this is a number, a string is expected"),
            (format!("{token}1234567.5 }}]\n"), "this is a number with a fraction, a string"),
            (format!("{token}shpss_1234567 }}]\n"), ""),
            (format!("{token}1234567-shpss }}]\n"), ""),
            (format!("{token}[\"1234567\"] }}]\n"), "this is a list, a string is expected"),
            (format!("{token}{{ a = \"1234567\" }} }}]\n"), "this is a table, a string is"),
            ("[admin]\ntokens = \"1234567\"\n".into(), "this is a string, a list is expected"),
            ("[[channel]]\napi = \"1234567\"\n".into(), "this is a string, a table is expected"),
        ] {
            let said = faults(&text);
            assert!(!said.concat().contains("1234567"), "{said:?}");
            assert!(said.iter().any(|line| line.contains(expected)), "{text}: {said:?}");
        }
    }

    // A token of the wrong type is missing once its line was set aside; the rest must still be read.
    #[test]
    fn faults_behind_a_key_that_was_set_aside_are_found() {
        let text = "[[channel]]\nname = \"ä\"\nkind = \"shopify\"\nsecrets = []\n\
                    [channel.api]\ntoken = 5 # ü\nbase_url = \"https://a.example\"\n\n\
                    [[channel]]\nname = \"b\"\nkinds = \"shopify\"\n\n\
                    [raft]\nheartbaet = \"1s\"\n";
        let said = faults(text);
        assert_eq!(
            said,
            [
                "F:11: this is a number, a string is expected",
                "F:16: unknown key `kinds`; did you mean `kind`?",
                "F:19: unknown key `heartbaet`; did you mean `heartbeat`?",
            ]
        );
        // What was missing from the start is a fault of its own, wherever it is.
        let channel = "[[channel]]\nname = \"a\"\nsecrets = 5\n\n";
        let said = faults(&format!("{channel}{channel}[admin]\ntokens = [{{ name = \"a\" }}]\n"));
        assert_eq!(said.len(), 5, "{said:?}");
        assert_eq!(said.iter().filter(|line| line.ends_with("missing key `kind`")).count(), 2);
        assert!(said.iter().any(|line| line.ends_with("missing key `secret`")), "{said:?}");
    }
}
