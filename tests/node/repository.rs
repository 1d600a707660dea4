//! The repository keeps its own rules: what a person would have to remember, a test remembers.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use stockraft::config::Config;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Source files of the workspace.
#[expect(clippy::unwrap_used, reason = "a test may end here")]
fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> =
        ["src", "state", "channels", "cluster", "marketplace", "tests", "benches", "fuzz"]
            .map(|f| Path::new(ROOT).join(f))
            .into();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    assert!(found.len() > 50, "the sources were not found: {found:?}");
    found
}

/// The file under the central noun grows until nobody can hold it in mind.
#[test]
fn no_file_is_past_five_hundred_lines() {
    let long: Vec<_> = sources()
        .into_iter()
        .map(|path| (fs::read_to_string(&path).unwrap().lines().count(), path))
        .filter(|(lines, _)| *lines > 500)
        .collect();
    assert!(long.is_empty(), "split by decision: {long:?}");
}

/// Storage that is named everywhere can never be replaced.
#[test]
fn sled_and_bincode_are_named_in_one_file_each() {
    for (needle, home) in
        [("sled::", "cluster/src/durable.rs"), ("bincode::", "cluster/src/codec.rs")]
    {
        let code = |line: &str| !line.trim_start().starts_with("//");
        let users: Vec<_> = sources()
            .into_iter()
            .filter(|path| !path.ends_with("tests/node/repository.rs"))
            .filter(|path| {
                path.components().all(|part| {
                    !["tests", "benches"].map(AsRef::as_ref).contains(&part.as_os_str())
                })
            })
            .filter(|path| {
                let text = fs::read_to_string(path).unwrap();
                let product = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
                product.lines().any(|line| code(line) && line.contains(needle))
            })
            .map(|path| path.strip_prefix(ROOT).unwrap().display().to_string())
            .collect();
        assert_eq!(users, [home], "{needle}");
    }
}

/// A parser that is fuzzed with another version of what it stands on is another parser.
#[test]
fn what_is_fuzzed_is_what_ships() {
    let packages = |file: &str| -> BTreeSet<(String, String)> {
        let text = fs::read_to_string(Path::new(ROOT).join(file)).unwrap();
        let lock: toml::Table = text.parse().unwrap();
        let text = |package: &toml::Value, key: &str| package[key].as_str().unwrap().to_string();
        let packages = lock["package"].as_array().unwrap().iter();
        packages.map(|package| (text(package, "name"), text(package, "version"))).collect()
    };
    let (shipped, fuzzed) = (packages("Cargo.lock"), packages("fuzz/Cargo.lock"));
    let names: BTreeSet<&str> = shipped.iter().map(|(name, _)| name.as_str()).collect();
    let differ: Vec<_> =
        fuzzed.difference(&shipped).filter(|(name, _)| names.contains(name.as_str())).collect();
    assert!(differ.is_empty(), "fuzz/Cargo.lock has other versions: {differ:?}");
    assert!(fuzzed.intersection(&shipped).count() > 50, "the locks were not read");
}

/// A setting that is not explained is not found; one that is explained and differs misleads.
#[test]
fn the_default_config_is_what_the_code_does() {
    let path = Path::new(ROOT).join("config.default.toml");
    let text = fs::read_to_string(&path).unwrap();
    let explained = Config::parse(&text, &path).unwrap();
    let bare = "[node]\nid = 1\nregion = \"eu\"\ndata_dir = \"/var/lib/stockraft\"\n";
    let defaults = Config::parse(bare, &path).unwrap();
    assert_eq!(format!("{explained:#?}"), format!("{defaults:#?}"));
}

/// A commented example rots: it must be a config too, and name every key that the code knows.
#[test]
fn the_commented_settings_of_the_default_config_work() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["ca.pem", "node-1.pem", "node-1.key"] {
        fs::write(dir.path().join(file), "x").unwrap();
    }
    fs::write(dir.path().join("secret"), "whsec_YSBzZWNyZXQgb2YgYSB0ZXN0IDAxMjM0").unwrap();
    let text = fs::read_to_string(Path::new(ROOT).join("config.default.toml")).unwrap();
    let is_setting = |line: &&str| {
        let Some(commented) = line.strip_prefix("# ") else { return false };
        let key = commented.split([' ', '=']).next().unwrap_or_default();
        let is_key = !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        commented.starts_with('[')
            || (is_key && commented.contains(" = "))
            || (is_key && commented.contains("  ="))
    };
    let lines = text
        .lines()
        .filter(|line| *line != "tokens = []")
        .map(|line| if is_setting(&line) { line.trim_start_matches("# ") } else { line });
    let text = lines.collect::<Vec<_>>().join("\n");
    // Whatever the environment would hold is in a file here.
    let text = text.split("\"env:").enumerate().map(|(n, part)| match (n, part.split_once('"')) {
        (0, _) | (_, None) => part.to_string(),
        (_, Some((_, rest))) => format!("\"file:secret\"{rest}"),
    });
    let text: String = text.collect();
    let config = Config::parse(&text, &dir.path().join("node.toml")).unwrap();
    let shown = format!("{config:#?}");
    assert!(
        !shown.contains("whsec_YSBzZWNyZXQgb2YgYSB0ZXN0IDAxMjM0"),
        "a secret is shown: {shown}"
    );
    // Each kind has keys of its own: every key must be set for one channel at least.
    let keys = |value: &str| -> BTreeSet<String> {
        let set = shown.lines().filter(|line| line.contains(&format!(": {value}")));
        set.filter_map(|line| Some(line.trim().split_once(": ")?.0.to_string())).collect()
    };
    let unexplained: Vec<_> = keys("None").difference(&keys("Some(")).cloned().collect();
    assert!(unexplained.is_empty(), "not every setting is explained: {unexplained:?}");
    let kinds: BTreeSet<&str> = config.channels.iter().map(|c| c.kind.as_str()).collect();
    assert_eq!(kinds.len(), 7, "{kinds:?}");
    assert_eq!(config.policies.len(), 1);
    assert_eq!(config.admin.tokens.len(), 1);
}
