//! The public keys that some channels sign with: fetched from whoever gives them out, and kept a while.
//!
//! A stranger chooses which key a request names, so fetching is bounded: by name, by rate, and in what is
//! remembered. Nothing is fetched but what `channels::signature::wanted` allowed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use channels::signature::{EbayKey, Key, SnsCertificates, Wanted};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, StatusCode};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::channel::source::Source;
use crate::client::{Https, https};
use crate::clock;
use crate::config::Channel;

/// Keys that are remembered, unknown ones included.
const KEYS_MAX: usize = 128;
/// How long a key is taken without asking again.
const FRESH: Duration = Duration::from_secs(3600);
/// How long it is taken when its issuer cannot be reached.
const STALE: Duration = Duration::from_secs(24 * 3600);
/// How long a name that stands for no key is not asked for again.
const UNKNOWN: Duration = Duration::from_secs(300);
/// Fetches at once after a pause, and how long one takes to be earned back.
const FETCHES: u32 = 10;
const FETCH_EVERY: Duration = Duration::from_secs(1);
/// How long a certificate or a confirmation may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a certificate.
const CERTIFICATE_BYTES_MAX: usize = 64 << 10;

/// Who gives out keys. Its answers are kept.
pub struct Issuers {
    http: Option<Https>,
    /// eBay's channels, by name: their APIs give out the keys.
    ebay: BTreeMap<String, Source>,
    known: StdMutex<BTreeMap<(String, String), Kept>>,
    /// One fetch at a time; what is left of the allowance, and since when.
    fetching: Mutex<(u32, Instant)>,
}

/// What is known of a name.
#[derive(Clone)]
struct Kept {
    key: Option<Arc<Key>>,
    since: Instant,
}

/// What became of a question for a key.
pub enum Found {
    /// Here it is.
    Key(Arc<Key>),
    /// There is no such key.
    Unknown,
    /// Nobody can tell now.
    Unavailable,
}

impl Issuers {
    /// The issuers that these channels need.
    #[must_use]
    pub fn new(channels: &[Channel]) -> Self {
        let ebay = channels.iter().filter(|channel| channel.kind == "ebay");
        let sources = ebay.filter_map(|c| Some((c.name.clone(), Source::new(c)?)));
        Self {
            http: https().ok(),
            ebay: sources.collect(),
            known: StdMutex::default(),
            fetching: Mutex::new((FETCHES, Instant::now())),
        }
    }

    /// The key of this name, fetched if it is not known or too old.
    pub async fn find(&self, channel: &Channel, wanted: &Wanted) -> Found {
        let name = match wanted {
            Wanted::Ebay(id) => (channel.name.clone(), id.clone()),
            Wanted::Sns(url) => (String::new(), url.clone()),
        };
        if let Some(found) = self.remembered(&name, FRESH) {
            return found;
        }
        let mut allowance = self.fetching.lock().await;
        // Somebody else may have fetched it while this one waited.
        if let Some(found) = self.remembered(&name, FRESH) {
            return found;
        }
        let stale = || self.remembered(&name, STALE).unwrap_or(Found::Unavailable);
        if !allowed(&mut allowance) {
            return stale();
        }
        let fetched = match wanted {
            Wanted::Ebay(id) => self.ebay_key(&channel.name, id).await,
            Wanted::Sns(url) => self.sns_key(url).await,
        };
        match fetched {
            Ok(key) => {
                let key = key.map(Arc::new);
                self.remember(name, key.clone());
                key.map_or(Found::Unknown, Found::Key)
            }
            Err(why) => {
                tracing::warn!(channel = channel.name, why, "a signer's key cannot be fetched");
                stale()
            }
        }
    }

    fn remembered(&self, name: &(String, String), fresh: Duration) -> Option<Found> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = known.get(name)?;
        let age = kept.since.elapsed();
        match &kept.key {
            Some(key) if age < fresh => Some(Found::Key(Arc::clone(key))),
            None if age < UNKNOWN => Some(Found::Unknown),
            _ => None,
        }
    }

    fn remember(&self, name: (String, String), key: Option<Arc<Key>>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KEYS_MAX {
            // Names that stand for nothing go first, then the oldest.
            let oldest = known.iter().min_by_key(|(_, kept)| (kept.key.is_some(), kept.since));
            let oldest = oldest.map(|(name, _)| name.clone());
            oldest.and_then(|oldest| known.remove(&oldest));
        }
        known.insert(name, Kept { key, since: Instant::now() });
    }

    async fn ebay_key(&self, channel: &str, id: &str) -> Result<Option<Key>, String> {
        let source = self.ebay.get(channel).ok_or("the channel has no api")?;
        let record = source.ebay_key(id).await.map_err(|error| error.to_string())?;
        record.map(|record| EbayKey::parse(&record).map(Key::Ebay)).transpose()
    }

    /// A certificate that leads to a root that browsers trust. AWS serves the leaf alone, so the one above
    /// it may have to be fetched too, from Amazon's own authority.
    async fn sns_key(&self, url: &str) -> Result<Option<Key>, String> {
        let Some(pem) = self.get(url).await? else { return Ok(None) };
        let certificates = SnsCertificates::parse(&pem)?;
        let roots = webpki_roots::TLS_SERVER_ROOTS;
        let now = clock::now_ms();
        if certificates.check(&[], roots, now).is_err() {
            let above = certificates.issuer_url().ok_or("the certificate names no issuer")?;
            let above = self.get(above).await?.ok_or("the issuer's certificate is gone")?;
            certificates.check(&[above.to_vec().into()], roots, now)?;
        }
        Ok(Some(Key::Sns(certificates.key())))
    }

    /// Visits the URL by which a topic asks to be confirmed; it was checked to be one of SNS.
    pub async fn confirm(&self, url: &str) -> Result<(), String> {
        match self.get(url).await? {
            Some(_) => Ok(()),
            None => Err("SNS does not know the subscription any more".into()),
        }
    }

    /// What is at a URL; `None` if there is nothing. Redirects are not followed.
    async fn get(&self, url: &str) -> Result<Option<Bytes>, String> {
        let http = self.http.as_ref().ok_or("there is no TLS on this machine")?;
        let request = Request::get(url).body(Full::default()).map_err(|error| error.to_string())?;
        let exchange = async {
            let response = http.request(request).await.map_err(|error| error.to_string())?;
            let status = response.status();
            let body = Limited::new(response.into_body(), CERTIFICATE_BYTES_MAX);
            let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
            match status {
                status if status.is_success() => Ok(Some(body)),
                StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::GONE => Ok(None),
                status => Err(status.to_string()),
            }
        };
        let timed_out = |_| format!("no answer in {} s", TIMEOUT.as_secs());
        tokio::time::timeout(TIMEOUT, exchange).await.map_err(timed_out)?
    }
}

/// Takes one fetch off what is allowed, if any is left.
fn allowed((left, since): &mut (u32, Instant)) -> bool {
    let earned = since.elapsed().as_secs() / FETCH_EVERY.as_secs().max(1);
    let earned = u32::try_from(earned).unwrap_or(FETCHES);
    if earned > 0 {
        (*left, *since) = (left.saturating_add(earned).min(FETCHES), Instant::now());
    }
    let may = *left > 0;
    *left = left.saturating_sub(1);
    may
}
