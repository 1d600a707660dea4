//! `stockraft cert …`: the cluster's private authority and the nodes' certificates.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::{Failure, say};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Makes the authority: ca.pem for every node, ca.key for nobody but you.
    #[command(after_help = "Example:\n  stockraft cert ca --dir certs")]
    Ca {
        /// Where to write.
        #[arg(long, default_value = ".")]
        dir: PathBuf,
    },
    /// Makes one node's certificate and key, signed by the authority in the same directory.
    #[command(
        after_help = "Example:\n  stockraft cert node --dir certs --id 1 --host eu.example.net"
    )]
    Node {
        /// Where the authority is, and where to write.
        #[arg(long, default_value = ".")]
        dir: PathBuf,
        /// The node's id.
        #[arg(long)]
        id: u64,
        /// Names or addresses under which it is reached; for people, the id is what counts.
        #[arg(long = "host")]
        hosts: Vec<String>,
    },
}

pub(super) fn run(command: Command) -> Result<(), Failure> {
    let failed = |error: rcgen::Error| Failure::Operation(error.to_string());
    match command {
        Command::Ca { dir } => {
            let key = KeyPair::generate().map_err(failed)?;
            let cert = authority().self_signed(&key).map_err(failed)?;
            write(&dir.join("ca.key"), &key.serialize_pem(), 0o600)?;
            write(&dir.join("ca.pem"), &cert.pem(), 0o644)
        }
        Command::Node { dir, id, hosts } => {
            let read = |name: &str| {
                let path = dir.join(name);
                std::fs::read_to_string(&path).map_err(|error| {
                    let hint = "make the authority first: stockraft cert ca";
                    Failure::Operation(format!("{}: {error}; {hint}", path.display()))
                })
            };
            let authority_key = KeyPair::from_pem(&read("ca.key")?).map_err(failed)?;
            let authority = Issuer::new(authority(), authority_key);
            let key = KeyPair::generate().map_err(failed)?;
            // The id in the name is what peers check; see `cluster`.
            let names = std::iter::once(format!("node-{id}.stockraft")).chain(hosts);
            let mut params = CertificateParams::new(names.collect::<Vec<_>>()).map_err(failed)?;
            params.distinguished_name.push(DnType::CommonName, format!("stockraft node {id}"));
            params.use_authority_key_identifier_extension = true;
            params.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            let cert = params.signed_by(&key, &authority).map_err(failed)?;
            write(&dir.join(format!("node-{id}.key")), &key.serialize_pem(), 0o600)?;
            write(&dir.join(format!("node-{id}.pem")), &cert.pem(), 0o644)
        }
    }
}

/// The authority's certificate but for its key: the same each time, so that its name and its key are
/// enough to sign with.
fn authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "stockraft cluster authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// Writes a new file; one that is there already is never overwritten, since keys cannot be made again.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::Operation(format!("{}: {error}", path.display()));
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(mode).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    say(&format!("wrote {}", path.display()));
    Ok(())
}
