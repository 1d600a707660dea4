//! The certificate that signs for SNS: fetched from Amazon, so checked before its key is believed.

use std::time::Duration;

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::OID_PKIX_ACCESS_DESCRIPTOR_CA_ISSUERS as CA_ISSUERS;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::url::{self, Url};

/// No file of certificates is longer.
const PEM_LEN_MAX: usize = 64 << 10;

/// No chain is longer.
const CERTIFICATES_MAX: usize = 8;

/// The public key of a certificate. Only one of RSA verifies anything.
#[derive(Clone, Debug)]
pub struct SnsKey(Vec<u8>);

impl SnsKey {
    /// `RSAPublicKey` in DER.
    pub(super) fn rsa(&self) -> &[u8] {
        &self.0
    }
}

/// What a `SigningCertURL` serves: a certificate, and perhaps those above it.
#[derive(Clone, Debug)]
pub struct SnsCertificates {
    leaf: CertificateDer<'static>,
    above: Vec<CertificateDer<'static>>,
    key: SnsKey,
    issuer_url: Option<String>,
}

impl SnsCertificates {
    /// Reads the PEM file, the signing certificate first. Whether it may be believed, `check` says.
    pub fn parse(pem: &[u8]) -> Result<Self, String> {
        if pem.len() > PEM_LEN_MAX {
            return Err(format!("certificates are longer than {PEM_LEN_MAX} bytes"));
        }
        let certificates: Result<Vec<CertificateDer<'static>>, _> =
            CertificateDer::pem_slice_iter(pem).take(CERTIFICATES_MAX + 1).collect();
        let mut certificates = certificates.map_err(|error| format!("bad PEM: {error}"))?;
        if certificates.is_empty() || certificates.len() > CERTIFICATES_MAX {
            return Err(format!("1 to {CERTIFICATES_MAX} certificates are served"));
        }
        let above = certificates.split_off(1);
        let leaf = certificates.pop().ok_or("no certificate is served")?;
        let (_, parsed) = X509Certificate::from_der(&leaf)
            .map_err(|error| format!("bad certificate: {error}"))?;
        let key = SnsKey(parsed.public_key().subject_public_key.data.to_vec());
        let issuer_url = issuer_url(&parsed);
        Ok(Self { leaf, above, key, issuer_url })
    }

    /// Whether the certificate is valid at this time, is one of SNS by its alternative names, and is
    /// vouched for by a root, over what was served with it and these. The error says what fails.
    pub fn check(
        &self,
        extra_intermediates: &[CertificateDer<'_>],
        roots: &[TrustAnchor<'_>],
        now_ms: u64,
    ) -> Result<(), String> {
        let leaf = EndEntityCert::try_from(&self.leaf).map_err(|error| error.to_string())?;
        let intermediates: Vec<CertificateDer<'_>> =
            self.above.iter().chain(extra_intermediates).cloned().collect();
        let now = UnixTime::since_unix_epoch(Duration::from_millis(now_ms));
        let usage = KeyUsage::server_auth();
        leaf.verify_for_usage(ALL_VERIFICATION_ALGS, roots, &intermediates, now, usage, None, None)
            .map_err(|error| format!("the certificate cannot be believed: {error}"))?;
        let of_sns = |name: &str| {
            let name = name.to_ascii_lowercase();
            name == "sns.amazonaws.com" || url::region(&name).is_some()
        };
        if leaf.valid_dns_names().any(of_sns) {
            Ok(())
        } else {
            Err("the certificate is not of SNS: none of its names is".into())
        }
    }

    /// Where the issuer's certificate can be fetched, in DER: Amazon serves the signing certificate alone.
    /// Only a host of `amazontrust.com`, and only what the certificate itself says.
    #[must_use]
    pub fn issuer_url(&self) -> Option<&str> {
        self.issuer_url.as_deref()
    }

    /// The key, whatever `check` says.
    #[must_use]
    pub fn key(&self) -> SnsKey {
        self.key.clone()
    }
}

/// The first fit URL among the "CA issuers" of a certificate's authority information access.
fn issuer_url(certificate: &X509Certificate<'_>) -> Option<String> {
    let extensions = certificate.extensions().iter().take(64);
    let accesses = extensions.filter_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityInfoAccess(access) => Some(&access.accessdescs),
        _ => None,
    });
    accesses.flatten().filter(|access| access.access_method == CA_ISSUERS).find_map(|access| {
        let GeneralName::URI(text) = access.access_location else { return None };
        let url = Url::parse(text)?;
        let fit = ["http", "https"].contains(&url.scheme)
            && url.host.ends_with(".amazontrust.com")
            && url.query.is_none();
        fit.then(|| text.to_string())
    })
}
