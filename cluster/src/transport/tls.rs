//! Mutual TLS 1.3 with the cluster's own authority.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::dns_name;
use crate::config::PeerTls;
use crate::error::Error;

/// Both ends of it, for one node.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) acceptor: TlsAcceptor,
    pub(crate) connector: TlsConnector,
}

impl Tls {
    /// Reads the PEM files and refuses what could not work: no certificate, a key that is not its,
    /// a certificate that is not for node `id`.
    pub(crate) fn new(pem: &PeerTls, id: u64) -> Result<Self, Error> {
        let wrong = |what: &dyn std::fmt::Display| Error::Tls(what.to_string());
        let mut roots = RootCertStore::empty();
        for ca in CertificateDer::pem_slice_iter(&pem.ca) {
            roots.add(ca.map_err(|e| wrong(&e))?).map_err(|e| wrong(&e))?;
        }
        if roots.is_empty() {
            return Err(Error::Tls("there is no authority in the CA file".to_owned()));
        }
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem.cert)
            .collect::<Result<_, _>>()
            .map_err(|e| wrong(&e))?;
        let own = chain.first().ok_or_else(|| Error::Tls("there is no certificate".to_owned()))?;
        if !is_of(own, id) {
            let name = dns_name(id);
            return Err(Error::Tls(format!("the certificate does not carry the name {name}")));
        }
        let key = PrivateKeyDer::from_pem_slice(&pem.key).map_err(|e| wrong(&e))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = Arc::new(roots);
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build()
                .map_err(|e| wrong(&e))?;
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| wrong(&e))?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(|e| wrong(&e))?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| wrong(&e))?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(|e| wrong(&e))?;
        Ok(Self { acceptor: Arc::new(server).into(), connector: Arc::new(client).into() })
    }
}

/// Whether a certificate, already verified, is that of node `id`.
pub(crate) fn is_of(certificate: &CertificateDer<'_>, id: u64) -> bool {
    let Ok(name) = ServerName::try_from(dns_name(id)) else { return false };
    ParsedCertificate::try_from(certificate)
        .is_ok_and(|parsed| rustls::client::verify_server_name(&parsed, &name).is_ok())
}
