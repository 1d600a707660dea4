//! Names of keys that their issuer knew, kept over a restart so that they need not compete with strangers'.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::NAME_LEN_MAX;

/// Bytes of the file that are read: more names than any keyring keeps.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The names in a file, one a line. They are a help and no promise: a file that cannot be read or written is
/// as good as an empty one.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// None in tests: nothing is kept.
    path: Option<PathBuf>,
    pub(super) known: BTreeSet<String>,
}

impl Names {
    /// What lies at this path.
    #[must_use]
    pub fn open(path: PathBuf) -> Self {
        let small = std::fs::metadata(&path).is_ok_and(|file| file.len() <= FILE_BYTES_MAX);
        let text = if small { std::fs::read_to_string(&path) } else { Ok(String::new()) };
        let text = text.unwrap_or_default();
        let known = text.lines().filter(|name| !name.is_empty() && name.len() <= NAME_LEN_MAX);
        Self { path: Some(path), known: known.map(String::from).collect() }
    }

    /// Adds a name, or takes one away. Of more than `max`, one goes that `held` does not want.
    pub(super) fn change(
        &mut self,
        name: &str,
        is_known: bool,
        max: usize,
        held: impl Fn(&str) -> bool,
    ) {
        // A line end would make two of one.
        let changed = match is_known {
            true if name.contains(['\n', '\r']) => false,
            true => self.known.insert(name.into()),
            false => self.known.remove(name),
        };
        if self.known.len() > max {
            let other = self.known.iter().find(|other| *other != name && !held(other)).cloned();
            other.map(|other| self.known.remove(&other));
        }
        if changed {
            self.keep();
        }
    }

    /// Written anew as a whole, some kilobytes when an issuer has a new key; a half of it is never read.
    fn keep(&self) {
        let Some(path) = &self.path else { return };
        let text: String = self.known.iter().flat_map(|name| [name.as_str(), "\n"]).collect();
        let fresh = path.with_extension("new");
        let kept = std::fs::write(&fresh, text).and_then(|()| std::fs::rename(&fresh, path));
        if let Err(error) = kept {
            tracing::warn!(%error, path = %path.display(), "the names of keys are not kept");
        }
    }
}
