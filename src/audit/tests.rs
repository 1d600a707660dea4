use std::sync::{Arc, RwLock};

use cluster::durable::Batch;
use cluster::{Entry, StateMachine};
use state::command::{Asked, MovementRequest, Movements};
use state::ledger::Kind;

use super::*;
use crate::measures::Measures;
use crate::replica::Replica;

fn receipt(id: &str, quantity: i64) -> Command {
    let key = crate::channel::key(id.as_bytes());
    let movement = MovementRequest::new(key, id, Kind::Receipt, "MUG", quantity, "main");
    let asked = Asked::Movements(Movements { atomic: false, movements: vec![movement] });
    Command::Request { idempotency: None, asked }
}

/// A replica that applied commands.
fn replica(commands: &[Command]) -> (tempfile::TempDir, Replica) {
    let dir = tempfile::tempdir().unwrap();
    let mut replica = Replica::open(dir.path(), Arc::new(Measures::default())).unwrap();
    for (index, command) in (1..).zip(commands) {
        let command = codec::encode(command);
        replica.apply(&[Entry { index, at_ms: 1_000, command: &command }]).unwrap();
    }
    (dir, replica)
}

fn audited(replica: &Replica) -> Report {
    audit(&replica.freeze(), &replica.history())
}

// An audit that finds nothing in a good replica is the ground of all else.
#[test]
fn a_good_replica_is_good() {
    let (_dir, replica) = replica(&[receipt("a", 5), receipt("b", 2)]);
    let report = audited(&replica);
    assert_eq!((report.movements, report.fault), (2, None));
}

// A movement that was put into the history, or changed there, would explain a wrong number.
#[test]
fn a_movement_out_of_the_chain_is_found() {
    let (_dir, replica) = replica(&[receipt("a", 5), receipt("b", 2)]);
    let history = replica.history();
    let mut lines = history.lines(1).unwrap().unwrap();
    lines.0[0].0.quantity = 50;
    let mut batch = Batch::default();
    history::put_lines(&mut batch, 1, &lines);
    history.write(batch).unwrap();
    let fault = audited(&replica).fault.unwrap();
    assert!(fault.contains("log index 1, line 0: receipt 50 of \"MUG\""), "{fault}");

    // With a hash that fits it, what follows does not.
    lines.0[0].1 = history::link(&Hash::default(), &lines.0[0].0);
    let mut batch = Batch::default();
    history::put_lines(&mut batch, 1, &lines);
    history.write(batch).unwrap();
    let fault = audited(&replica).fault.unwrap();
    assert!(fault.contains("log index 2"), "{fault}");
}

// One that was added behind the last would never be reached by the chain of the state.
#[test]
fn a_movement_that_nobody_agreed_on_is_found() {
    let (_dir, replica) = replica(&[receipt("a", 5), receipt("b", 2)]);
    let history = replica.history();
    let mut batch = Batch::default();
    let mut lines = history.lines(2).unwrap().unwrap();
    let (movement, hash) = lines.0[0].clone();
    lines.0.push((movement.clone(), history::link(&hash, &movement)));
    history::put_lines(&mut batch, 2, &lines);
    history.write(batch).unwrap();
    let fault = audited(&replica).fault.unwrap();
    assert!(fault.contains("another line than the state"), "{fault}");
}

// A bit that flips in memory changes what is sold, on one node alone: digests that are remembered by
// bucket would go on saying that all is well.
#[test]
fn a_flipped_bit_is_found_and_named() {
    let commands = [receipt("a", 5), receipt("b", 2)];
    let ((_one, good), (_other, bad)) = (replica(&commands), replica(&commands));
    let mut frozen = bad.freeze();
    let stock = Arc::make_mut(frozen.data.stock.get_mut("MUG").unwrap());
    stock.levels.get_mut("main").unwrap().on_hand ^= 64;
    let (good, bad) = (audited(&good), audit(&frozen, &bad.history()));
    let differs: Vec<&String> =
        good.digests.keys().filter(|name| good.digests[*name] != bad.digests[*name]).collect();
    assert_eq!(differs, ["stock"]);
    let fault = bad.fault.unwrap();
    assert!(fault.starts_with("MUG at main: levels say 71 on hand"), "{fault}");
}

// At a checkpoint inside a batch the replica must be frozen there, not at the end of the batch.
#[test]
fn a_checkpoint_is_of_its_own_index() {
    let dir = tempfile::tempdir().unwrap();
    let mut replica = Replica::open(dir.path(), Arc::new(Measures::default())).unwrap();
    let commands = [receipt("a", 5), Command::Checkpoint, receipt("b", 2)];
    let encoded: Vec<Vec<u8>> = commands.iter().map(codec::encode).collect();
    let entries = (1..).zip(&encoded);
    let entries: Vec<Entry<'_>> =
        entries.map(|(index, command)| Entry { index, at_ms: 1_000, command }).collect();
    replica.apply(&entries).unwrap();
    let replica = RwLock::new(replica);
    let replica = replica.read().unwrap();
    let frozen = replica.checkpoint().borrow().clone().unwrap();
    let report = audit(&frozen, &replica.history());
    assert_eq!((frozen.index, report.movements, report.fault), (2, 1, None));
}
