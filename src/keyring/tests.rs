#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use super::*;

/// What the issuer of the tests answers next, and whom it was asked for.
#[derive(Clone, Default)]
struct Issuer(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    down: bool,
    panics: bool,
    takes: Duration,
    known: BTreeMap<String, u32>,
    asked: Vec<String>,
}

impl Issuer {
    fn with(names: &[&str]) -> Self {
        let issuer = Self::default();
        let known = names.iter().map(|name| ((*name).to_string(), 1));
        issuer.state().known = known.collect();
        issuer
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asked(&self) -> usize {
        self.state().asked.len()
    }

    fn ring(&self) -> Keyring<u32, Self> {
        Keyring::new(self.clone(), Bounds::living(HOUR), Names::default())
    }
}

impl Fetch<u32> for Issuer {
    async fn fetch(&self, name: &str) -> Result<Option<u32>, String> {
        let (takes, panics) = {
            let mut state = self.state();
            state.asked.push(name.into());
            (state.takes, state.panics)
        };
        tokio::time::sleep(takes).await;
        assert!(!panics, "as the test wants it");
        let state = self.state();
        if state.down { Err("down".into()) } else { Ok(state.known.get(name).copied()) }
    }
}

const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

fn known() -> Found<u32> {
    Found::Known(Arc::new(1))
}

/// A fetch for each message uses up an issuer's quota within the day; a key that is kept for ever is
/// trusted after it was withdrawn.
#[tokio::test(start_paused = true)]
async fn a_key_is_fetched_once_in_its_life() {
    let issuer = Issuer::with(&["a"]);
    let ring = issuer.ring();
    for _ in 0..100 {
        assert_eq!(ring.get("a").await, known());
    }
    tokio::time::advance(3599 * SECOND).await;
    ring.get("a").await;
    assert_eq!(issuer.asked(), 1);
    issuer.state().known.clear();
    tokio::time::advance(SECOND).await;
    assert_eq!(ring.get("a").await, Found::Unknown);
    assert_eq!(issuer.asked(), 2);
}

/// A hundred messages that come at once with a new key would fetch it a hundred times.
#[tokio::test(start_paused = true)]
async fn those_who_want_one_key_share_one_fetch() {
    let issuer = Issuer::with(&["a"]);
    issuer.state().takes = SECOND;
    let ring = issuer.ring();
    let all = futures::future::join_all((0..100).map(|_| ring.get("a"))).await;
    assert!(all.iter().all(|found| *found == known()));
    assert_eq!(issuer.asked(), 1);
}

/// If a sender gives up sooner than the issuer answers, and its fetch with it, no key is ever known.
#[tokio::test(start_paused = true)]
async fn a_fetch_goes_on_when_the_caller_gives_up() {
    let issuer = Issuer::with(&["a"]);
    issuer.state().takes = 4 * SECOND;
    let ring = issuer.ring();
    assert!(tokio::time::timeout(3 * SECOND, ring.get("a")).await.is_err());
    assert_eq!(ring.get("a").await, known());
    assert_eq!(issuer.asked(), 1);
}

/// A forged name that is asked for at each repetition makes a stranger's quota of ours.
#[tokio::test(start_paused = true)]
async fn a_name_that_stands_for_nothing_is_not_asked_for_again() {
    let issuer = Issuer::default();
    let ring = issuer.ring();
    for _ in 0..100 {
        assert_eq!(ring.get("forged").await, Found::Unknown);
    }
    assert_eq!(issuer.asked(), 1);
    issuer.state().known.insert("forged".into(), 1);
    tokio::time::advance(300 * SECOND).await;
    assert_eq!(ring.get("forged").await, known());
    assert_eq!(ring.get(&"x".repeat(NAME_LEN_MAX + 1)).await, Found::Unknown);
    assert_eq!(issuer.asked(), 2);
}

/// An issuer that is down for an hour must not stop messages whose key is known; one that is down for
/// days must not have a withdrawn key trusted for ever, nor be asked with each message.
#[tokio::test(start_paused = true)]
async fn an_old_key_serves_for_a_while_when_it_cannot_be_fetched() {
    let issuer = Issuer::with(&["a"]);
    let ring = issuer.ring();
    ring.get("a").await;
    issuer.state().down = true;
    tokio::time::advance(HOUR).await;
    for _ in 0..100 {
        assert_eq!(ring.get("a").await, known());
    }
    assert_eq!(issuer.asked(), 2);
    tokio::time::advance(RETRY).await;
    assert_eq!(ring.get("a").await, known());
    assert_eq!(issuer.asked(), 3);
    tokio::time::advance(24 * HOUR).await;
    assert_eq!(ring.get("a").await, Found::Unavailable);
    assert_eq!(ring.get("a").await, Found::Unavailable);
    assert_eq!(issuer.asked(), 4);
    issuer.state().down = false;
    tokio::time::advance(RETRY).await;
    assert_eq!(ring.get("a").await, known());
}

/// A flood of names that nobody issued would use up the quota, fill the memory, or keep a key that is
/// held from being renewed.
#[tokio::test(start_paused = true)]
async fn a_flood_of_forged_names_is_bounded() {
    let issuer = Issuer::with(&["a"]);
    let ring = issuer.ring();
    ring.get("a").await;
    tokio::time::advance(HOUR).await;
    let mut unavailable = 0;
    for number in 0..1000 {
        let found = ring.get(&format!("forged {number}")).await;
        unavailable += usize::from(found == Found::Unavailable);
    }
    assert_eq!((issuer.asked(), unavailable), (11, 990));
    assert_eq!(ring.get("a").await, known());
    assert_eq!(issuer.asked(), 12);
    tokio::time::advance(SECOND).await;
    assert_eq!(ring.get("forged again").await, Found::Unknown);
    assert_eq!(ring.get("forged once more").await, Found::Unavailable);
    for number in 0..3000 {
        tokio::time::advance(SECOND).await;
        ring.get(&format!("slow flood {number}")).await;
    }
    assert_eq!(ring.0.book().unknown.len(), 1024);
    assert!(ring.0.book().flights.is_empty());
}

/// More keys than are kept must cost the one that nobody uses.
#[tokio::test(start_paused = true)]
async fn the_key_least_recently_used_goes() {
    let names: Vec<String> = (0..65).map(|number| format!("key {number}")).collect();
    let issuer = Issuer::with(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let ring = issuer.ring();
    for name in &names {
        tokio::time::advance(SECOND).await;
        assert_eq!(ring.get(name).await, known());
        ring.get(&names[0]).await;
    }
    assert_eq!(issuer.asked(), 65);
    assert_eq!(ring.0.book().held.len(), 64);
    tokio::time::advance(SECOND).await;
    ring.get(&names[0]).await;
    assert_eq!(issuer.asked(), 65);
    ring.get(&names[1]).await;
    assert_eq!(issuer.asked(), 66);
}

/// Every message that comes while an expired key is renewed would be held up for as long as a slow issuer
/// takes, longer than its sender waits.
#[tokio::test(start_paused = true)]
async fn a_slow_renewal_holds_nobody_up() {
    let issuer = Issuer::with(&["a"]);
    let ring = issuer.ring();
    ring.get("a").await;
    tokio::time::advance(HOUR).await;
    issuer.state().takes = 8 * SECOND;
    let began = Instant::now();
    assert_eq!(ring.get("a").await, known());
    assert!(began.elapsed() <= 2 * SECOND, "{:?}", began.elapsed());
    // The renewal goes on: what it finds counts.
    issuer.state().known.clear();
    tokio::time::sleep(8 * SECOND).await;
    assert_eq!(ring.get("a").await, Found::Unknown);
    assert_eq!(issuer.asked(), 2);
}

/// A node that was just restarted holds no key: strangers who name keys that nobody issued would use up the
/// fetches that the real one needs, and its channel's messages would be sent back for as long as they like.
#[tokio::test(start_paused = true)]
async fn a_flood_after_a_restart_does_not_keep_a_known_key_away() {
    let dir = tempfile::tempdir().unwrap();
    let issuer = Issuer::with(&["a", "b"]);
    let start = || {
        let names = Names::open(dir.path().join("keys"));
        Keyring::new(issuer.clone(), Bounds::living(HOUR), names)
    };
    let before = start();
    for name in ["a", "b", "forged"] {
        before.get(name).await;
    }
    for _ in 0..2 {
        let ring = start();
        let asked = issuer.asked();
        for number in 0..100 {
            ring.get(&format!("forged {number}")).await;
        }
        assert_eq!(ring.get("forged").await, Found::Unavailable);
        assert_eq!(ring.get("a").await, known());
        assert_eq!(issuer.asked() - asked, 11);
    }
    // Who names a known key while its issuer is down makes no more of it than others do.
    let ring = start();
    issuer.state().down = true;
    let asked = issuer.asked();
    for _ in 0..100 {
        assert_eq!(ring.get("b").await, Found::Unavailable);
    }
    assert_eq!(issuer.asked() - asked, 1);
    issuer.state().down = false;
    tokio::time::advance(RETRY).await;
    assert_eq!(ring.get("b").await, known());
    // A key that was withdrawn is as unknown as any.
    issuer.state().known.clear();
    tokio::time::advance(HOUR).await;
    assert_eq!(ring.get("b").await, Found::Unknown);
    assert_eq!(Names::open(dir.path().join("keys")).known, ["a".to_string()].into());
}

/// What lies there instead of the names of keys would keep a node from starting, or fill its memory.
#[test]
fn names_that_cannot_be_read_are_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys");
    for (bytes, found) in [
        (b"\xff\xfe".to_vec(), 0),
        (vec![b'a'; 10 << 20], 0),
        (b"a\n\nb\na\n".to_vec(), 2),
        ("x\n".repeat(100_000).into_bytes(), 1),
    ] {
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(Names::open(path.clone()).known.len(), found);
    }
    assert!(Names::open(dir.path().to_path_buf()).known.is_empty());
}

/// A fetch that never ends, or breaks, would leave all who want that key waiting for ever.
#[tokio::test(start_paused = true)]
async fn a_fetch_that_hangs_or_breaks_is_over() {
    let issuer = Issuer::with(&["a"]);
    let ring = issuer.ring();
    issuer.state().takes = 100 * HOUR;
    assert_eq!(ring.get("a").await, Found::Unavailable);
    issuer.state().takes = Duration::ZERO;
    issuer.state().panics = true;
    assert_eq!(ring.get("a").await, Found::Unavailable);
    issuer.state().panics = false;
    assert_eq!(ring.get("a").await, known());
}
