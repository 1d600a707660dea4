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
    let mut left = text.to_string();
    let mut faults: Vec<Fault> = Vec::new();
    loop {
        let error = match toml::from_str::<T>(&left) {
            Ok(value) if faults.is_empty() => return Ok(value),
            Ok(_) => return Err(faults),
            Err(error) => error,
        };
        let span = error.span();
        let line = span.as_ref().map(|span| line_at(text, span.start));
        let message = reword(error.message());
        // What was blanked may be missing now: that is no second fault.
        let follows = !faults.is_empty() && message.starts_with("missing");
        if !follows {
            faults.push(Fault { line, message });
        }
        let blanked = span.is_some_and(|span| blank(&mut left, span));
        if follows || !blanked || faults.len() >= FAULTS_MAX {
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

/// Overwrites the lines of a span with blanks, a table's header with all that belongs to it. False if
/// there was nothing to blank.
fn blank(text: &mut String, span: Range<usize>) -> bool {
    let start = text.get(..span.start).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
    let Some(rest) = text.get(start..) else { return false };
    let is_header = rest.trim_start().starts_with('[');
    let length = if is_header {
        rest.match_indices("\n[").next().map_or(rest.len(), |(at, _)| at)
    } else {
        let after = span.end.saturating_sub(start).min(rest.len());
        rest.get(after..).and_then(|tail| tail.find('\n')).map_or(rest.len(), |at| after + at)
    };
    let Some(faulty) = rest.get(..length) else { return false };
    if faulty.trim().is_empty() {
        return false;
    }
    let blanks: String = faulty.chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
    text.replace_range(start..start + length, &blanks);
    true
}

/// "unknown field `x`, expected one of `a`, `b`" in the words of a person, with the nearest key.
fn reword(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    if message.starts_with("unknown field") || message.starts_with("unknown variant") {
        let what = if message.starts_with("unknown field") { "key" } else { "value" };
        let Some(found) = quoted.next() else { return message.into() };
        let known: Vec<&str> = quoted.collect();
        return match nearest(found, known.iter().copied()) {
            Some(near) => format!("unknown {what} `{found}`; did you mean `{near}`?"),
            None => format!("unknown {what} `{found}`; known are {}", known.join(", ")),
        };
    }
    if message.starts_with("missing field")
        && let Some(name) = quoted.next()
    {
        return format!("missing key `{name}`");
    }
    message.trim_end().replace('\n', "; ")
}

/// The nearest of the known names, if any is near.
pub(super) fn nearest<'a>(found: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let distances = known.map(|name| (strsim::damerau_levenshtein(found, name), name));
    let (distance, name) = distances.min()?;
    (distance <= 1 + found.len() / 3).then_some(name)
}
