//! Promise: the README's programs for curl, Python and Node do what they say.

use crate::support::{Cluster, TOKEN};
use serde_json::json;
use tokio::process::Command;

/// The README's program in a language.
fn program(language: &str) -> String {
    let readme = include_str!("../../README.md");
    let section =
        readme.split("## Work on messages").nth(1).unwrap().split("\n## ").next().unwrap();
    let block = section.split(&format!("```{language}\n")).nth(1).unwrap();
    block.split("```").next().unwrap().to_string()
}

// The first thing that a newcomer copies must work, and must stay short.
#[tokio::test(flavor = "multi_thread")]
async fn the_programs_of_the_readme_work() {
    let cluster = Cluster::start(1, |_| ()).await;
    let node = &cluster.nodes[0];
    let url = format!("http://127.0.0.1:{}", node.ports[1]);
    let dir = tempfile::tempdir().unwrap();
    let mut finished = 0;
    for (language, interpreter, flags, says) in [
        ("sh", "sh", &["-c"][..], "done"),
        ("python", "python3", &["-c"], "print a label for 1002\ndone\n"),
        ("js", "node", &["--input-type=module", "-e"], "print a label for 1003\ndone\n"),
    ] {
        let program = program(language);
        assert!(program.lines().count() < 15, "{language} is too long for an example");
        let mut command = Command::new(interpreter);
        command.args(flags).arg(program).current_dir(dir.path());
        command.env("STOCKRAFT_NODE", &url).env("STOCKRAFT_TOKEN", TOKEN);
        let output = match command.output().await {
            Ok(output) => output,
            Err(error) => {
                println!("skipped: {interpreter} cannot be run: {error}");
                continue;
            }
        };
        let said = String::from_utf8_lossy(&output.stdout);
        let wrong = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains(says), "{language}: {said}{wrong}");
        finished += 1;
        let topic = node.get("/v1/topics/labels").await;
        assert_eq!(topic["groups"]["default"]["finished"], json!(finished), "{language}");
    }
}
