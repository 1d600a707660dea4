//! Public keys that are fetched by name from whoever issues them, and kept for a while.
//!
//! A stranger chooses the name: it stands in a request that is not verified yet. So all is bounded: how
//! many keys are kept, how many names are known to stand for nothing, how often anything is fetched. A
//! flood of forged names uses up the fetches of new names alone: keys that are held are renewed apart
//! from it, and those that were held before a restart are fetched apart from it too.

mod names;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::time::Instant;

pub use names::Names;

/// No name of a key is longer.
const NAME_LEN_MAX: usize = 2048;
/// How long after a failed renewal none is tried again.
const RETRY: Duration = Duration::from_secs(10);
/// How long the renewal of a key that still serves is waited for: a key that was withdrawn is noticed at once,
/// and a slow issuer holds nobody up.
const RENEWAL: Duration = Duration::from_secs(1);

/// Who issues keys.
pub trait Fetch<K>: Send + Sync + 'static {
    /// The key of a name; `None` if the issuer says that there is none. An error, with its reason, if
    /// nobody can tell now.
    fn fetch(&self, name: &str) -> impl Future<Output = Result<Option<K>, String>> + Send;
}

/// The bounds of a keyring.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How long a key is used before it is fetched again.
    pub life: Duration,
    /// How long after that it is used still, while it cannot be fetched.
    pub grace: Duration,
    /// Keys that are kept; the one least recently used goes.
    pub keys_max: usize,
    /// How long a name that stands for nothing is not asked for again.
    pub unknown_life: Duration,
    /// Such names that are kept; the oldest goes.
    pub unknown_max: usize,
    /// Fetches of new names at once.
    pub burst: u32,
    /// After how long one more is allowed.
    pub every: Duration,
    /// How long a fetch may take.
    pub timeout: Duration,
}

impl Bounds {
    /// The usual bounds, for keys of this life: an hour for eBay's, a day for certificates of SNS.
    #[must_use]
    pub const fn living(life: Duration) -> Self {
        Self {
            life,
            grace: Duration::from_secs(24 * 3600),
            keys_max: 64,
            unknown_life: Duration::from_secs(300),
            unknown_max: 1024,
            burst: 10,
            every: Duration::from_secs(1),
            timeout: Duration::from_secs(10),
        }
    }
}

/// What is known of a name.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<K> {
    /// Its key.
    Known(Arc<K>),
    /// There is none: whatever it signed is forged.
    Unknown,
    /// Nobody can tell now. Ask again later.
    Unavailable,
}

impl<K> Clone for Found<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Known(key) => Self::Known(Arc::clone(key)),
            Self::Unknown => Self::Unknown,
            Self::Unavailable => Self::Unavailable,
        }
    }
}

/// Keys by name. Cheap to clone; clones share all.
pub struct Keyring<K, F>(Arc<Ring<K, F>>);

impl<K, F> Clone for Keyring<K, F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, F> fmt::Debug for Keyring<K, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyring")
    }
}

struct Ring<K, F> {
    issuer: F,
    bounds: Bounds,
    book: Mutex<Book<K>>,
}

struct Book<K> {
    held: BTreeMap<String, Held<K>>,
    /// Names that stand for nothing, and until when that is believed.
    unknown: BTreeMap<String, Instant>,
    /// Fetches under way, which all who want the same name share.
    flights: BTreeMap<String, Flight<K>>,
    /// Names that stood for a key before, and of those that are not held, when they may be fetched.
    names: Names,
    retries: BTreeMap<String, Instant>,
    /// When all fetches of the burst will be allowed again.
    rested_at: Instant,
}

type Flight<K> = Shared<BoxFuture<'static, Found<K>>>;

struct Held<K> {
    key: Arc<K>,
    fetched: Instant,
    used: Instant,
    /// Not fetched again before this.
    retry_at: Instant,
}

impl<K: Send + Sync + 'static, F: Fetch<K>> Keyring<K, F> {
    /// An empty keyring, and the names of what it held before.
    #[must_use]
    pub fn new(issuer: F, bounds: Bounds, names: Names) -> Self {
        let book = Book {
            held: BTreeMap::new(),
            unknown: BTreeMap::new(),
            flights: BTreeMap::new(),
            names,
            retries: BTreeMap::new(),
            rested_at: Instant::now(),
        };
        Self(Arc::new(Ring { issuer, bounds, book: Mutex::new(book) }))
    }

    /// The key of a name. Waits for a fetch if it must, no longer than one may take. The fetch goes on
    /// when the caller gives up, so that an issuer slower than the sender's patience is heard for the
    /// sender's next try.
    pub async fn get(&self, name: &str) -> Found<K> {
        match self.0.look(name, Instant::now()) {
            Look::Found(found) => found,
            Look::Wait(flight, Found::Known(old)) => {
                let renewed = tokio::time::timeout(RENEWAL, flight).await;
                renewed.unwrap_or(Found::Known(old))
            }
            Look::Wait(flight, _) => flight.await,
        }
    }
}

enum Look<K> {
    Found(Found<K>),
    /// A fetch, and what serves meanwhile.
    Wait(Flight<K>, Found<K>),
}

impl<K: Send + Sync + 'static, F: Fetch<K>> Ring<K, F> {
    fn book(&self) -> MutexGuard<'_, Book<K>> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(self: &Arc<Self>, name: &str, now: Instant) -> Look<K> {
        let mut book = self.book();
        let mut old = None;
        if let Some(held) = book.held.get_mut(name) {
            held.used = now;
            let usable = self.usable(held, now);
            if now < held.fetched + self.bounds.life || now < held.retry_at {
                return Look::Found(usable);
            }
            old = Some(usable);
        }
        let unknown = book.unknown.get(name).is_some_and(|until| now < *until);
        if unknown || name.len() > NAME_LEN_MAX {
            return Look::Found(Found::Unknown);
        }
        if let Some(flight) = book.flights.get(name) {
            return Look::Wait(flight.clone(), old.unwrap_or(Found::Unavailable));
        }
        let allowed = old.is_some()
            || if book.names.known.contains(name) {
                book.retries.get(name).is_none_or(|at| now >= *at)
            } else {
                self.allowed(&mut book.rested_at, now)
            };
        if !allowed {
            return Look::Found(Found::Unavailable);
        }
        let (ring, wanted) = (Arc::clone(self), name.to_string());
        let task = tokio::spawn(async move { ring.fetch(wanted).await });
        let flight = async move { task.await.unwrap_or(Found::Unavailable) }.boxed().shared();
        book.flights.insert(name.into(), flight.clone());
        Look::Wait(flight, old.unwrap_or(Found::Unavailable))
    }

    /// A key that is held, unless even its time of grace is over.
    fn usable(&self, held: &Held<K>, now: Instant) -> Found<K> {
        let until = held.fetched + self.bounds.life + self.bounds.grace;
        if now < until { Found::Known(Arc::clone(&held.key)) } else { Found::Unavailable }
    }

    /// Whether a new name may be fetched now; counts it.
    fn allowed(&self, rested_at: &mut Instant, now: Instant) -> bool {
        let room = self.bounds.every * self.bounds.burst.saturating_sub(1);
        if *rested_at > now + room {
            return false;
        }
        *rested_at = (*rested_at).max(now) + self.bounds.every;
        true
    }

    async fn fetch(self: Arc<Self>, name: String) -> Found<K> {
        let landing = Landing { ring: &self, name: &name };
        let fetched = tokio::time::timeout(self.bounds.timeout, self.issuer.fetch(&name)).await;
        let fetched = fetched.unwrap_or_else(|_| Err("no answer in time".into()));
        let found = self.settle(&name, fetched, Instant::now());
        drop(landing);
        found
    }

    fn settle(&self, name: &str, fetched: Result<Option<K>, String>, now: Instant) -> Found<K> {
        let mut guard = self.book();
        let book = &mut *guard;
        if let Ok(key) = &fetched {
            let held = |name: &str| book.held.contains_key(name);
            book.names.change(name, key.is_some(), self.bounds.keys_max, held);
            book.retries.remove(name);
        }
        match fetched {
            Ok(Some(key)) => {
                let key = Arc::new(key);
                let held = Held { key: Arc::clone(&key), fetched: now, used: now, retry_at: now };
                book.unknown.remove(name);
                book.held.insert(name.into(), held);
                forget(&mut book.held, self.bounds.keys_max, |held| held.used);
                Found::Known(key)
            }
            Ok(None) => {
                book.held.remove(name);
                book.unknown.insert(name.into(), now + self.bounds.unknown_life);
                forget(&mut book.unknown, self.bounds.unknown_max, |until| *until);
                Found::Unknown
            }
            Err(why) => {
                let shown: String = name.chars().take(200).collect();
                tracing::warn!(name = ?shown, why, "the key of a sender cannot be fetched");
                let Some(held) = book.held.get_mut(name) else {
                    if book.names.known.contains(name) {
                        book.retries.retain(|_, at| *at > now);
                        book.retries.insert(name.into(), now + RETRY);
                    }
                    return Found::Unavailable;
                };
                held.retry_at = now + RETRY;
                self.usable(held, now)
            }
        }
    }
}

/// Takes a flight off the book, even if the fetch panicked.
struct Landing<'a, K: Send + Sync + 'static, F: Fetch<K>> {
    ring: &'a Ring<K, F>,
    name: &'a str,
}

impl<K: Send + Sync + 'static, F: Fetch<K>> Drop for Landing<'_, K, F> {
    fn drop(&mut self) {
        self.ring.book().flights.remove(self.name);
    }
}

/// Drops the least of a map that grew by one, if it is past its bound.
fn forget<V>(map: &mut BTreeMap<String, V>, max: usize, age: impl Fn(&V) -> Instant) {
    if map.len() > max {
        let oldest = map.iter().min_by_key(|(_, value)| age(value)).map(|(name, _)| name.clone());
        oldest.and_then(|name| map.remove(&name));
    }
}

#[cfg(test)]
mod tests;
