//! Secrets: where they come from, and that nobody sees them. The only file that reads the environment.

use std::fmt;
use std::path::Path;

use serde::Deserialize;

/// A secret as the config names it, and its value once it was resolved.
#[derive(Clone, Deserialize)]
#[serde(from = "String")]
pub struct Secret {
    source: String,
    value: String,
}

impl From<String> for Secret {
    fn from(source: String) -> Self {
        Self { source, value: String::new() }
    }
}

/// Never the value.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// The value: never log it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.value
    }

    /// Reads the value: `env:NAME`, `file:PATH` relative to the config, or a literal in a private file.
    pub(super) fn resolve(&mut self, config: &Path, private: bool) -> Result<(), String> {
        let value = if let Some(name) = self.source.strip_prefix("env:") {
            std::env::var(name).map_err(|_| format!("the environment has no {name}"))?
        } else if let Some(file) = self.source.strip_prefix("file:") {
            let path = config.parent().unwrap_or(Path::new(".")).join(file);
            let text = std::fs::read_to_string(&path)
                .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            text.trim_end_matches(['\n', '\r']).to_string()
        } else if private {
            self.source.clone()
        } else {
            return Err("a literal secret needs a file that only its owner can read (chmod 600); \
                        or write env:NAME or file:PATH"
                .into());
        };
        if value.len() < 8 {
            return Err("a secret has at least 8 characters".into());
        }
        self.value = value;
        Ok(())
    }
}

/// Whether only its owner can read a file.
pub(super) fn is_private(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path)
        .is_ok_and(|metadata| metadata.permissions().mode().trailing_zeros() >= 6)
}

/// What the environment says of logging.
#[must_use]
pub fn log_filter() -> Option<String> {
    std::env::var("STOCKRAFT_LOG").ok()
}

/// The bug that a test plants, in a build for such tests.
#[cfg(feature = "planted-bugs")]
#[must_use]
pub fn planted_bug() -> Option<String> {
    std::env::var("STOCKRAFT_PLANTED_BUG").ok()
}
