//! Escrow: this node grants reservations by itself, from quotas that the cluster granted to it, and goes on
//! with them by itself: also while nobody else can be reached.
//!
//! What it does is written to its own inbox before anybody is answered, as a fact about itself that the cluster
//! hears of later. What is left of a quota is what this replica knows of it less what was told and is not known
//! here yet (`src/escrow/book.rs`); nothing is kept beside the inbox that could differ from it after a crash.
//!
//! ```text
//!  a request ─► book: is enough left? ─► inbox ═disk═► 201 … ─► log ─► replica ─► book: known by now
//! ```

mod book;
pub mod size;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cluster::durable::Db;
use cluster::{Clock, Role, codec};
use state::command::{Confirm, Delivery, Fact, Hold};
use state::escrow::told::{Held, Told, What};
use state::escrow::{Holder, Judged};
use state::limits::{RESERVATION_TTL_MAX_MS, RESERVATION_TTL_MIN_MS};
use state::origin::Lane;
use state::reply::{Answered, Lacking, Refused};
use state::reservation::{Reservation, Status};
use state::{Key, Millis, NodeId, Reply, State};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::agreed::{Agreed, Member};
use crate::channel::key;
use crate::inbox::{Busy, Inbox, Store};
use crate::measures::Measures;
use book::Book;

/// Between two looks at what has ended and what lies idle, at the least.
const PAUSE: Duration = Duration::from_secs(1);

/// What this node holds in escrow. Cheap to clone.
pub struct Escrow<A = Member, S = Db>(Arc<Inner<A, S>>);

impl<A, S> Clone for Escrow<A, S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Inner<A, S> {
    holder: Holder,
    cluster: A,
    inbox: Inbox<S>,
    clock: Clock,
    removed: watch::Receiver<bool>,
    measures: Arc<Measures>,
    book: Mutex<Book>,
    /// Something may end sooner than anything else.
    woken: Notify,
}

/// What this node says to a request by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It is done, and durable here: the reservation as it is now.
    Reservation(String, Box<Reservation>),
    /// It cannot be done.
    Refused(Refused),
    /// It is about escrow, and too little of that is left here.
    Beyond(Vec<Lacking>),
    /// The same `Idempotency-Key` was used with another request.
    KeyReused,
    /// It is not for this node alone to say.
    Elsewhere,
}

/// What is asked of a reservation that there is.
#[derive(Clone, Debug)]
pub enum Change {
    /// To sell what is held, all or a part of it.
    Confirm(Confirm),
    /// To let go what is held.
    Release(String),
    /// To hold it for so long from now.
    Extend(String, Millis),
}

impl Change {
    fn id(&self) -> &str {
        match self {
            Self::Confirm(Confirm { id, .. }) | Self::Release(id) | Self::Extend(id, _) => id,
        }
    }
}

/// An answer, and when it may be given.
enum Begun {
    Said(Said),
    /// Once this says that it is durable.
    Wait(oneshot::Receiver<()>, Said),
}

impl<A: Agreed, S: Store> Escrow<A, S> {
    /// What a node holds by its inbox and its replica, until it is `removed` from the cluster.
    #[must_use]
    pub fn new(
        cluster: A,
        inbox: Inbox<S>,
        clock: Clock,
        removed: watch::Receiver<bool>,
        measures: Arc<Measures>,
    ) -> Self {
        let holder = Holder { node: inbox.origin().node, book: inbox.book() };
        let (issued, told) = inbox.take_told();
        let book = Mutex::new(Book::new(holder, issued, told, Instant::now()));
        let woken = Notify::new();
        Self(Arc::new(Inner { holder, cluster, inbox, clock, removed, measures, book, woken }))
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds units, if all of them are left here. Durable when this returns.
    pub async fn hold(&self, asked: &Hold, key: Option<(Key, Key)>) -> Result<Said, Busy> {
        finish(self.begin(asked, key)).await
    }

    /// Changes a reservation that this node granted and still goes on with.
    pub async fn change(&self, asked: &Change, key: Option<(Key, Key)>) -> Result<Said, Busy> {
        finish(self.begin_change(asked, key)).await
    }

    /// A reservation that this node goes on with, as it is.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Reservation> {
        let mut book = self.book();
        self.0.cluster.look(|state| {
            let open = book.settle(state);
            book.known(state, id, Instant::now()).filter(|_| open).cloned()
        })
    }

    /// Somebody was sent to the cluster with this key, and does not know what came of it: this node must not
    /// answer it by itself.
    pub fn sent_away(&self, key: Option<(Key, Key)>) {
        if let Some((key, _)) = key {
            self.book().send_away(key);
        }
    }

    fn begin(&self, asked: &Hold, key: Option<(Key, Key)>) -> Begun {
        if *self.0.removed.borrow() {
            return Begun::Said(Said::Elsewhere);
        }
        let at = (self.0.clock)();
        let mut book = self.book();
        let judged = self.0.cluster.look(|state| {
            let open = book.settle(state);
            if let Some(begun) = answered(&mut book, state, key) {
                return Err(begun);
            }
            if !open || book.is_away(key) {
                return Err(Begun::Said(Said::Elsewhere));
            }
            let taken = |sku: &str, location: &str| book.taken(sku, location);
            Ok(state.judge_in_escrow(self.0.holder, asked, taken))
        });
        let lines = match judged {
            Err(begun) => return begun,
            Ok(Judged::Elsewhere) => return Begun::Said(Said::Elsewhere),
            Ok(Judged::Beyond(lacking)) => {
                self.0.measures.escrow.beyond.inc();
                return Begun::Said(Said::Beyond(lacking));
            }
            Ok(Judged::Granted(lines)) => lines,
        };
        let held = Held {
            id: asked.id.clone(),
            lines,
            channel: asked.channel.clone(),
            ttl_ms: asked.ttl_ms,
            reference: asked.reference.clone(),
        };
        let reservation = Reservation::of(self.0.holder, &held, at);
        self.tell(&mut book, at, key, What::Held(held), reservation)
    }

    fn begin_change(&self, asked: &Change, key: Option<(Key, Key)>) -> Begun {
        if *self.0.removed.borrow() {
            return Begun::Said(Said::Elsewhere);
        }
        let at = (self.0.clock)();
        let mut book = self.book();
        let known = self.0.cluster.look(|state| {
            let open = book.settle(state);
            if let Some(begun) = answered(&mut book, state, key) {
                return Err(begun);
            }
            let known = book.known(state, asked.id(), Instant::now()).filter(|_| open);
            known.cloned().ok_or(Begun::Said(Said::Elsewhere))
        });
        let mut known = match known {
            Ok(known) => known,
            Err(begun) => return begun,
        };
        let ttl = RESERVATION_TTL_MIN_MS..=RESERVATION_TTL_MAX_MS;
        let what = match asked {
            Change::Confirm(asked) => known.to_confirm(asked),
            // Released twice is released.
            Change::Release(id) if matches!(known.status, Status::Released | Status::Expired) => {
                return Begun::Said(Said::Reservation(id.clone(), Box::new(known)));
            }
            Change::Release(id) => known.is_held().map(|()| What::Released(id.clone())),
            Change::Extend(_, ttl_ms) if !ttl.contains(ttl_ms) => {
                return Begun::Said(Said::Elsewhere);
            }
            Change::Extend(id, ttl_ms) => {
                known.is_held().map(|()| What::Extended(id.clone(), *ttl_ms))
            }
        };
        match what {
            Ok(what) => {
                known.tell(&what, at);
                self.tell(&mut book, at, key, what, known)
            }
            Err(refused) => Begun::Said(Said::Refused(refused)),
        }
    }

    /// Tells what was done, which leads to this reservation.
    fn tell(
        &self,
        book: &mut Book,
        at: Millis,
        key: Option<(Key, Key)>,
        what: What,
        reservation: Reservation,
    ) -> Begun {
        let held = matches!(what, What::Held(_));
        let id = what.id().map(ToString::to_string).unwrap_or_default();
        let Ok(told) = self.put(book, at, key, what) else {
            // Where nothing can be made durable the cluster may still do.
            return Begun::Said(Said::Elsewhere);
        };
        let sooner = book.note(&id, reservation.clone(), Instant::now());
        if sooner {
            self.0.woken.notify_one();
        }
        if held {
            self.0.measures.escrow.held.inc();
        }
        Begun::Wait(told, Said::Reservation(id, Box::new(reservation)))
    }

    /// Puts what was done into the inbox, in the order of its serial.
    fn put(
        &self,
        book: &mut Book,
        at: Millis,
        idempotency: Option<(Key, Key)>,
        what: What,
    ) -> Result<oneshot::Receiver<()>, Busy> {
        let serial = book.next_serial();
        let told = Told { holder: self.0.holder, serial, at, idempotency, what };
        let written = self.0.inbox.put(Lane::Urgent, delivery(&told))?;
        let durable = book.push(told);
        let this = self.clone();
        // Whoever asked may hang up, and ask again.
        tokio::spawn(async move {
            let durable = matches!(written.await, Ok(Ok(_)));
            this.book().written(serial, durable);
        });
        Ok(durable)
    }

    /// Lets go what has ended, gives back what lies idle, and opens the book, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut changed = self.0.cluster.watch();
        loop {
            changed.borrow_and_update();
            let next = self.work();
            let ended = async {
                match next {
                    Some(next) => tokio::time::sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = ended => {}
                () = self.0.woken.notified() => {}
                changed = changed.changed() => if changed.is_err() { return },
            }
            // Late is safe, and many may ask at once.
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    /// Does what is due; when the next reservation ends.
    fn work(&self) -> Option<Instant> {
        let status = self.0.cluster.status();
        if status.role == Role::Uninitialised {
            return None;
        }
        let removed = *self.0.removed.borrow();
        let (at, now) = ((self.0.clock)(), Instant::now());
        let mut book = self.book();
        let nodes = status.members.iter().map(|known| known.member.id);
        // What a removed node has left is of no use to it; whoever is alone needs what it has.
        let nodes: Vec<NodeId> = nodes.filter(|id| !removed || *id != status.id).collect();
        let returns = removed || status.leader.is_some();
        let due = self.0.cluster.look(|state| {
            if !book.settle(state) {
                return Vec::new();
            }
            let escrow = &state.data().escrow;
            if !escrow.holders().contains_key(&self.0.holder) {
                let open = !removed && !escrow.skus().is_empty() && !book.has_told();
                return if open { vec![What::Opened] } else { Vec::new() };
            }
            let taken = |sku: &str, location: &str| book.taken(sku, location);
            let left = state.data().quota_of(self.0.holder) - book.all_taken();
            self.0.measures.escrow.quota.set(left);
            let mut due = Vec::new();
            if returns {
                let idle = state.data().idle(self.0.holder, &nodes, taken);
                let idle = idle.into_iter();
                due.extend(idle.map(|(sku, location, units)| What::Returned {
                    sku,
                    location,
                    units,
                }));
            }
            book.look(state, now);
            due.extend(book.over(state, now).into_iter().map(What::Expired));
            due
        });
        for what in due {
            let expired = matches!(what, What::Expired(_));
            let about = what.id().and_then(|id| Some((id.to_string(), book.held(id)?.clone())));
            if self.put(&mut book, at, None, what.clone()).is_err() {
                // There is no room now; it stays due.
                return Some(now + PAUSE);
            }
            if let Some((id, mut known)) = about.filter(|_| expired) {
                known.tell(&what, at);
                book.note(&id, known, now);
            }
        }
        book.next_end()
    }
}

async fn finish(begun: Begun) -> Result<Said, Busy> {
    match begun {
        Begun::Said(said) => Ok(said),
        Begun::Wait(durable, said) => {
            durable.await.map_err(|_| Busy::Stopping)?;
            Ok(said)
        }
    }
}

/// What was answered to a key before, here or by the cluster.
fn answered(book: &mut Book, state: &State, key: Option<(Key, Key)>) -> Option<Begun> {
    let (key, body) = key?;
    if let Some(before) = book.before(state, &key, Instant::now()) {
        return Some(if before.body == body {
            Begun::Wait(before.durable, Said::Reservation(before.id, Box::new(before.reservation)))
        } else {
            Begun::Said(Said::KeyReused)
        });
    }
    let known = state.data().answers.get(&key)?;
    let said = match &known.reply {
        _ if known.body != body => Said::KeyReused,
        Reply::Answered { answer: Answered::Reservation(id, reservation), .. } => {
            Said::Reservation(id.clone(), Box::new(reservation.clone()))
        }
        Reply::Answered { answer: Answered::Refused(refused), .. } => {
            Said::Refused(refused.clone())
        }
        _ => Said::Elsewhere,
    };
    Some(Begun::Said(said))
}

/// How it lies in the inbox. Two that a disk numbered alike, as it went back to an older image, are two.
fn delivery(told: &Told) -> Delivery {
    let Holder { node, book } = told.holder;
    let about = told.what.id().unwrap_or_default();
    let id = format!("escrow:{node}-{book:016x}/{}/{about}", told.serial);
    let body = key(&codec::encode(told));
    Delivery {
        key: key(&[id.as_bytes(), &body].concat()),
        body,
        id,
        topic: "escrow".into(),
        received_ms: told.at,
        facts: vec![Fact::Escrow(told.clone())],
        ..Delivery::default()
    }
}
