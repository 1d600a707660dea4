//! Promise: whatever fails above the consensus library, and whenever, every invariant holds; and a run can
//! be repeated to the last bit.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::process::Command;

fn sim(options: &str) -> (bool, String) {
    let run = Command::new(env!("CARGO_BIN_EXE_stockraft"))
        .arg("sim")
        .args(options.split_whitespace())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    (run.status.success(), format!("{said}{}", String::from_utf8_lossy(&run.stderr)))
}

fn count(said: &str, name: &str) -> u64 {
    let found = said.split(['·', '\n']).find_map(|cell| cell.trim().strip_prefix(name));
    found.and_then(|rest| rest.trim().parse().ok()).unwrap_or(0)
}

// A node that dies between its disk and its 200, a leader that is lost with proposals in its log, a push
// whose answer never comes, a clock that is hours off: each alone is easy, and all of them at once is what
// happens. A run in which nothing fails, or nothing is sold, would show nothing.
#[test]
fn every_invariant_holds_while_everything_fails() {
    let (mut faults, mut under_leases, mut stood_in, mut heaps) = (0, 0, 0, 0);
    let (mut feeds, mut ahead, mut late) = (0, 0, 0);
    for seed in [2, 3] {
        let (kept, said) = sim(&format!("--seed {seed} --hours 2 --events 250"));
        assert!(kept, "{said}");
        assert!(count(&said, "sale") > 40 && count(&said, "raise taken") > 20, "{said}");
        assert!(count(&said, "webhook answered 200") > 40, "{said}");
        assert!(count(&said, "ack done") > 40 && count(&said, "ack gone") > 10, "{said}");
        assert!(count(&said, "worker died with leases") > 10, "{said}");
        heaps += ["deleted", "without its group", "begun again", "left behind", "grown old"]
            .map(|how| count(&said, &format!("heap {how}")))
            .iter()
            .sum::<u64>();
        assert!(count(&said, "command measured") > 3, "{said}");
        assert!(count(&said, "command rebalance") > 0, "{said}");
        feeds += count(&said, "feed made");
        ahead += count(&said, "sale went ahead of a feed");
        late += count(&said, "feed row set over a newer push");
        faults += count(&said, "node-killed") + count(&said, "power-lost");
        let given_up = count(&said, "message given up") + count(&said, "redrive done");
        assert!(given_up > 0, "{said}");
        stood_in += count(&said, "another node stood in");
        under_leases += count(&said, "node-killed under a lease");
        under_leases += count(&said, "power-lost under a lease");
    }
    assert!(faults > 4, "{faults} nodes died");
    assert!(stood_in > 2, "no channel was pushed to by another node than its home");
    assert!(under_leases > 0, "no node died while a worker had a lease");
    assert!(feeds > 10, "{feeds} feeds");
    assert!(
        ahead > 2 && late > 0,
        "{ahead} sales went ahead of a feed, {late} were set over by one"
    );
    assert!(heaps > 4, "{heaps} topics with much in them were taken back");
}

// One source of chance that is not the seed's, one map whose order hangs on an address, and no failure
// that is found could be looked at again.
#[test]
fn the_same_seed_is_the_same_run() {
    let digest = |seed: u64| {
        let (kept, said) = sim(&format!("--seed {seed} --hours 1 --events 150"));
        assert!(kept, "{said}");
        let digest = said.lines().find_map(|line| line.strip_prefix("digest ")).unwrap();
        digest.to_string()
    };
    let first = digest(11);
    assert_eq!(first, digest(11));
    assert_ne!(first, digest(12));
}
