//! Who gives out the public keys that some channels sign with: eBay's API, and the hosts of SNS. What
//! they gave out is kept in keyrings.
//!
//! Nothing is fetched but what `channels::signature::wanted` allowed, and no redirect is followed.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use channels::signature::{EbayKey, Key, SnsCertificates, Wanted};

use crate::channel::api::{Api, Call};
use crate::channel::ebay::{self, Ebay};
use crate::clock;
use crate::config::Channel;
use crate::keyring::{Bounds, Fetch, Found, Keyring, Names};

/// How long eBay's keys are used before they are fetched again: eBay asks for an hour.
const EBAY_LIFE: Duration = Duration::from_secs(3600);
/// The same of SNS's certificates.
const SNS_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Bytes of a certificate, or of a chain of some.
const FILE_BYTES_MAX: usize = 64 << 10;

/// Whoever gives out keys.
pub struct Issuers {
    /// By channel: an application asks for keys in its own name.
    ebay: BTreeMap<String, Keyring<Key, Ebay>>,
    sns: Keyring<Key, Sns>,
}

impl Issuers {
    /// The issuers that these channels need. The names of their keys are kept in this directory.
    #[must_use]
    pub fn new(channels: &[Channel], dir: &Path) -> Self {
        let names = |whose: &str| Names::open(dir.join(format!("keys-{whose}")));
        let ebay = channels.iter().filter(|channel| channel.kind == "ebay");
        let keyring = |channel: &Channel| {
            let ebay = Ebay::new(&ebay::Settings::of(channel.api.as_ref()?)?).ok()?;
            Some((
                channel.name.clone(),
                Keyring::new(
                    ebay,
                    Bounds::living(EBAY_LIFE),
                    names(&format!("ebay-{}", channel.name)),
                ),
            ))
        };
        let sns = Keyring::new(Sns, Bounds::living(SNS_LIFE), names("sns"));
        Self { ebay: ebay.filter_map(keyring).collect(), sns }
    }

    /// The key that a request to this channel names.
    pub async fn find(&self, channel: &str, wanted: &Wanted) -> Found<Key> {
        match wanted {
            Wanted::Ebay(id) => match self.ebay.get(channel) {
                Some(keyring) => keyring.get(id).await,
                None => Found::Unavailable,
            },
            Wanted::Sns(url) => self.sns.get(url).await,
        }
    }

    /// Visits the URL by which a topic asks to be confirmed; it was checked to be one of SNS.
    pub async fn confirm(&self, url: &str) -> Result<(), String> {
        let (at, query) = url.split_once('?').ok_or("the URL asks for nothing")?;
        let call = Call::get("/").ready_query(query);
        let known = file(Api::new(at)?, call).await?;
        known.map(|_| ()).ok_or_else(|| "SNS does not know the subscription any more".into())
    }
}

impl Fetch<Key> for Ebay {
    async fn fetch(&self, id: &str) -> Result<Option<Key>, String> {
        let record = self.public_key(id).await.map_err(|error| error.to_string())?;
        record.map(|record| EbayKey::parse(&record).map(Key::Ebay)).transpose()
    }
}

/// The hosts of SNS, which serve the certificates that it signs with.
struct Sns;

impl Fetch<Key> for Sns {
    /// A certificate that leads to a root that browsers trust. AWS serves the leaf alone, so the one above
    /// it may have to be fetched too, from Amazon's own authority.
    async fn fetch(&self, url: &str) -> Result<Option<Key>, String> {
        let Some(pem) = file(Api::new(url)?, Call::get("")).await? else { return Ok(None) };
        let certificates = SnsCertificates::parse(&pem)?;
        let roots = webpki_roots::TLS_SERVER_ROOTS;
        let now = clock::now_ms();
        if certificates.check(&[], roots, now).is_err() {
            let above = certificates.issuer_url().ok_or("the certificate names no issuer")?;
            // Authorities serve theirs by http, and a root vouches for it: whoever is on the way can but
            // keep it away.
            let above = file(Api::without_credentials(above)?, Call::get("")).await?;
            let above = above.ok_or("the issuer's certificate is gone")?;
            certificates.check(&[above.to_vec().into()], roots, now)?;
        }
        Ok(Some(Key::Sns(certificates.key())))
    }
}

/// A small file; `None` if its host says that there is none. The error says why nobody knows.
async fn file(api: Api, call: Call) -> Result<Option<Bytes>, String> {
    let answer = api.bounded(FILE_BYTES_MAX).send(call).await.map_err(|error| error.to_string())?;
    match answer.status.as_u16() {
        // S3 may answer 403 for what is not there, and for a fault of its own: a key that is held is not
        // thrown away for that.
        404 | 410 => Ok(None),
        _ => answer.success().map(Some).map_err(|error| error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

    use super::*;
    use crate::channel::api::fake::Fake;

    async fn small_file(fake: &Fake) -> Result<Option<Bytes>, String> {
        file(Api::new(&format!("{}/a.pem", fake.url))?, Call::get("")).await
    }

    /// An endless certificate fills the memory; one behind a redirect comes from whoever the host names.
    #[tokio::test]
    async fn a_certificate_is_small_and_where_it_was_named() {
        let there = Fake::always(200, "pem").await;
        assert_eq!(small_file(&there).await.unwrap().unwrap(), "pem");
        assert_eq!(there.asked()[0].target, "/a.pem");
        let long: &'static str = Box::leak("x".repeat(FILE_BYTES_MAX + 1).into_boxed_str());
        assert!(small_file(&Fake::always(200, long).await).await.is_err());
        assert_eq!(small_file(&Fake::always(404, "").await).await.unwrap(), None);
        assert!(small_file(&Fake::always(403, "").await).await.is_err());
        assert!(small_file(&Fake::always(302, "").await).await.is_err());
        assert!(small_file(&Fake::always(500, "").await).await.is_err());
    }

    /// A certificate over plain HTTP is whatever somebody on the way wants it to be.
    #[tokio::test]
    async fn a_signing_certificate_comes_by_https_alone() {
        let why = Sns.fetch("http://sns.eu-west-1.amazonaws.com/a.pem").await.unwrap_err();
        assert!(why.contains("https://"), "{why}");
    }

    /// A subscription whose token is lost on the way is never confirmed, and nothing is delivered.
    #[tokio::test]
    async fn a_subscription_is_confirmed_by_the_whole_url() {
        let (there, issuers) = (Fake::always(200, "<ok/>").await, Issuers::new(&[], Path::new("")));
        let url = format!("{}/?Action=ConfirmSubscription&TopicArn=arn:a&Token=2f%3D", there.url);
        issuers.confirm(&url).await.unwrap();
        assert_eq!(
            there.asked()[0].target,
            "/?Action=ConfirmSubscription&TopicArn=arn:a&Token=2f%3D"
        );
        let gone = Fake::always(404, "").await;
        assert!(issuers.confirm(&format!("{}/?Action=a", gone.url)).await.is_err());
    }
}
