//! Certificates, as an operator makes them.

use std::path::Path;

use super::stockraft;

/// An authority in a directory, if there is none yet, and certificates of nodes.
pub fn certify(dir: &Path, ids: &[u64]) -> Result<(), String> {
    let cert = |arguments: &[&str]| {
        let output = stockraft().arg("cert").args(arguments).arg("--dir").arg(dir).output();
        let output = output.map_err(|error| error.to_string())?;
        let said = || String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(said()) }
    };
    if !dir.exists() {
        std::fs::create_dir(dir).map_err(|error| error.to_string())?;
        cert(&["ca"])?;
    }
    ids.iter().try_for_each(|id| cert(&["node", "--id", &id.to_string()]))
}
