//! Public keys that were fetched: eBay's record, and certificates of SNS.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use channels::signature::{EbayKey, SnsCertificates};
use rustls_pki_types::CertificateDer;

/// A root whose private key is gone.
const ROOT: &[u8] = include_bytes!("../root.der");

/// The one certificate that it vouched for.
const LEAF: &[u8] = include_bytes!("../leaf.pem");

/// When that is valid: January 2027.
const NOW_MS: u64 = 1_800_000_000_000;

pub(crate) fn any(input: &[u8]) {
    if let Err(why) = EbayKey::parse(input) {
        assert!(!why.is_empty());
    }
    certificates(input);
    // Most changes of a PEM spoil its base64: so the input is a certificate's own bytes too.
    let (head, foot) = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----");
    certificates(format!("{head}\n{}\n{foot}\n", STANDARD.encode(input)).as_bytes());
}

fn certificates(pem: &[u8]) {
    let Ok(read) = SnsCertificates::parse(pem) else { return };
    if let Some(url) = read.issuer_url() {
        let uri: http::Uri = url.parse().expect("it is a URL");
        let host = uri.host().unwrap_or_default();
        assert!(host.to_ascii_lowercase().ends_with(".amazontrust.com"), "{url:?} is fetched");
        assert_eq!(uri.authority().map(http::uri::Authority::as_str), Some(host));
    }
    let root = CertificateDer::from(ROOT);
    let root = webpki::anchor_from_trusted_cert(&root).expect("it is a root");
    assert!(read.check(&[], &[], NOW_MS).is_err(), "believed without a root");
    if read.check(&[], &[root], NOW_MS).is_ok() {
        let known = SnsCertificates::parse(LEAF).expect("it was made with the root");
        let key = |certificates: &SnsCertificates| format!("{:?}", certificates.key());
        assert_eq!(key(&read), key(&known), "believed, and the root did not sign it");
    }
}
