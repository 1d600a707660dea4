//! AWS Signature Version 4, the side that verifies: the signature is computed again from the request
//! as it arrived, by AWS's published steps and without AWS's code.

use std::collections::BTreeSet;

use hmac::{Hmac, KeyInit, Mac};
use hyper::{HeaderMap, Uri};
use jiff::{civil::DateTime, tz::TimeZone};
use sha2::{Digest, Sha256};

use super::{error::Error, options::Credentials};
use crate::{
    clock::{self, Millis},
    store::courier::hex,
};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const TERMINATOR: &str = "aws4_request";
/// How far a request's time may be from the verifier's.
const SKEW_MAX_MS: Millis = 15 * 60 * 1000;

/// A request as its signature covers it.
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) uri: &'a Uri,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
}

/// Who may call, and for what a call must be signed.
pub(crate) struct Verifier<'a> {
    pub(crate) credentials: &'a Credentials,
    pub(crate) region: &'a str,
    pub(crate) service: &'a str,
}

impl Verifier<'_> {
    /// Refuses a request that these credentials did not sign, for this service, just now.
    pub(crate) fn verify(&self, request: &Request<'_>, now: Millis) -> Result<(), Error> {
        let text = header(request.headers, "authorization");
        let text = text.ok_or(Error::MissingAuthenticationToken)?;
        let authorization = Authorization::parse(&text)?;
        if authorization.access_key_id != self.credentials.access_key_id {
            return Err(Error::UnrecognizedClient);
        }
        self.check_scope(&authorization)?;
        self.check_token(request.headers)?;
        let date = header(request.headers, "x-amz-date").ok_or_else(|| {
            incomplete("Authorization header requires existence of a 'X-Amz-Date' header.")
        })?;
        check_time(&date, authorization.date, now)?;
        check_signed(request.headers, &authorization.signed)?;
        let payload = hex(&Sha256::digest(request.body));
        if header(request.headers, "x-amz-content-sha256").is_some_and(|told| told != payload) {
            return Err(mismatch("the payload is not what x-amz-content-sha256 says"));
        }
        let canonical = canonical(request, &authorization.signed, &payload);
        let expected = self.signature(&canonical, &date, authorization.date);
        if expected == authorization.signature {
            return Ok(());
        }
        Err(mismatch(&format!(
            "The canonical string for this request should have been\n'{canonical}'"
        )))
    }

    fn check_scope(&self, authorization: &Authorization<'_>) -> Result<(), Error> {
        let Authorization { region, service, .. } = *authorization;
        let wrong = |text: String| Err(Error::InvalidSignature(text));
        if region != self.region {
            return wrong(format!(
                "Credential should be scoped to a valid region, not '{region}'."
            ));
        }
        if service != self.service {
            let right = self.service;
            return wrong(format!("Credential should be scoped to correct service: '{right}'."));
        }
        Ok(())
    }

    /// Temporary credentials come with a token, and lasting ones without.
    fn check_token(&self, headers: &HeaderMap) -> Result<(), Error> {
        let token = header(headers, "x-amz-security-token");
        if token == self.credentials.session_token {
            return Ok(());
        }
        Err(Error::UnrecognizedClient)
    }

    fn signature(&self, canonical: &str, date_time: &str, date: &str) -> String {
        let scope = format!("{date}/{}/{}/{TERMINATOR}", self.region, self.service);
        let digest = hex(&Sha256::digest(canonical));
        let to_sign = format!("{ALGORITHM}\n{date_time}\n{scope}\n{digest}");
        let first = format!("AWS4{}", self.credentials.secret_access_key).into_bytes();
        let key = [date, self.region, self.service, TERMINATOR]
            .iter()
            .fold(first, |key, part| hmac(&key, part));
        hex(&hmac(&key, &to_sign))
    }
}

/// The parts of the `Authorization` header.
struct Authorization<'a> {
    access_key_id: &'a str,
    date: &'a str,
    region: &'a str,
    service: &'a str,
    /// Lower-case names, sorted.
    signed: BTreeSet<&'a str>,
    signature: &'a str,
}

impl<'a> Authorization<'a> {
    fn parse(text: &'a str) -> Result<Self, Error> {
        let parts = text.strip_prefix(ALGORITHM).ok_or_else(|| {
            incomplete("Authorization header requires the algorithm AWS4-HMAC-SHA256.")
        })?;
        let part = |name: &str| {
            parts
                .split(',')
                .find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='))
                .ok_or_else(|| {
                    incomplete(&format!("Authorization header requires '{name}' parameter."))
                })
        };
        let (credential, signed) = (part("Credential")?, part("SignedHeaders")?);
        let scope: Vec<&str> = credential.split('/').collect();
        let [access_key_id, date, region, service, TERMINATOR] = *scope else {
            return Err(incomplete(&format!(
                "Credential must have exactly 5 slash-delimited elements, and end with \
                 '{TERMINATOR}', got '{credential}'."
            )));
        };
        let signed = signed.split(';').collect();
        Ok(Self { access_key_id, date, region, service, signed, signature: part("Signature")? })
    }
}

fn check_time(date_time: &str, scope_date: &str, now: Millis) -> Result<(), Error> {
    let at = DateTime::strptime("%Y%m%dT%H%M%SZ", date_time)
        .and_then(|at| at.to_zoned(TimeZone::UTC))
        .map_err(|_| {
            incomplete(&format!("Date must be in ISO-8601 'basic format'. Got '{date_time}'."))
        })?
        .timestamp()
        .as_millisecond();
    let wrong = |text: String| Err(Error::InvalidSignature(text));
    if !date_time.starts_with(scope_date) || scope_date.len() != 8 {
        return wrong(format!(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from \
             HTTP: '{scope_date}' != '{date_time}'."
        ));
    }
    let (now_text, skew) = (clock::basic_time(now), "15 min.");
    if at < now - SKEW_MAX_MS {
        let limit = clock::basic_time(now - SKEW_MAX_MS);
        return wrong(format!(
            "Signature expired: {date_time} is now earlier than {limit} ({now_text} - {skew})"
        ));
    }
    if at > now + SKEW_MAX_MS {
        let limit = clock::basic_time(now + SKEW_MAX_MS);
        return wrong(format!(
            "Signature not yet current: {date_time} is still later than {limit} ({now_text} + {skew})"
        ));
    }
    Ok(())
}

/// The host and everything of AWS's own must be signed, or whoever is between could change it.
fn check_signed(headers: &HeaderMap, signed: &BTreeSet<&str>) -> Result<(), Error> {
    let must = headers.keys().map(hyper::header::HeaderName::as_str);
    for name in must.filter(|name| *name == "host" || name.starts_with("x-amz-")) {
        if !signed.contains(name) {
            return Err(Error::InvalidSignature(format!(
                "'{name}' must be a 'SignedHeader' in the AWS Authorization."
            )));
        }
    }
    if signed.contains("host") {
        return Ok(());
    }
    Err(Error::InvalidSignature(
        "'Host' must be a 'SignedHeader' in the AWS Authorization.".to_owned(),
    ))
}

fn canonical(request: &Request<'_>, signed: &BTreeSet<&str>, payload: &str) -> String {
    let path = encode_path(request.uri.path());
    let mut query: Vec<String> = request
        .uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| if pair.contains('=') { pair.to_owned() } else { format!("{pair}=") })
        .collect();
    query.sort_unstable();
    let headers: Vec<String> = signed
        .iter()
        .map(|name| format!("{name}:{}", header(request.headers, name).unwrap_or_default()))
        .collect();
    let (query, headers) = (query.join("&"), headers.join("\n"));
    let names = signed.iter().copied().collect::<Vec<_>>().join(";");
    format!("{}\n{path}\n{query}\n{headers}\n\n{names}\n{payload}", request.method)
}

/// A path is encoded once more than it came: only S3 takes it as it is.
fn encode_path(path: &str) -> String {
    path.bytes().fold(String::with_capacity(path.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push_str(&hex(&[byte]).to_ascii_uppercase());
        }
        encoded
    })
}

/// All values of a header, with runs of spaces made one, as they are signed.
fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    let values: Vec<String> = headers
        .get_all(name)
        .iter()
        .map(|value| {
            String::from_utf8_lossy(value.as_bytes())
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    (!values.is_empty()).then(|| values.join(","))
}

fn hmac(key: &[u8], message: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(message.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn incomplete(text: &str) -> Error {
    Error::IncompleteSignature(text.to_owned())
}

fn mismatch(detail: &str) -> Error {
    Error::InvalidSignature(format!(
        "The request signature we calculated does not match the signature you provided. Check your \
         AWS Secret Access Key and signing method. Consult the service documentation for details.\n\n\
         {detail}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Millis = 1_440_938_160_000;

    fn vector(
        method: &str,
        extra: &[(&'static str, &'static str)],
        sent: &str,
    ) -> Result<(), Error> {
        let credentials = Credentials {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
            session_token: None,
        };
        let mut headers = HeaderMap::new();
        let signed: Vec<&str> =
            ["host", "x-amz-date"].into_iter().chain(extra.iter().map(|e| e.0)).collect();
        for (name, value) in [("host", "example.amazonaws.com"), ("x-amz-date", "20150830T123600Z")]
            .iter()
            .chain(extra)
        {
            headers.append(*name, value.parse().unwrap());
        }
        let mut names: Vec<&str> = signed;
        names.sort_unstable();
        names.dedup();
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders={}, Signature={sent}",
            names.join(";")
        );
        headers.insert("authorization", authorization.parse().unwrap());
        let verifier =
            Verifier { credentials: &credentials, region: "us-east-1", service: "service" };
        let uri = Uri::from_static("/");
        verifier.verify(&Request { method, uri: &uri, headers: &headers, body: b"" }, AT)
    }

    /// A verifier that is wrong in the same way as the signer would pass everything; these signatures
    /// are those of AWS's own published test suite (get-vanilla, post-vanilla, post-header-key-sort).
    #[test]
    fn published_signatures_verify() {
        let get = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
        let post = "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b";
        let sorted = "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c";
        assert_eq!(vector("GET", &[], get), Ok(()));
        assert_eq!(vector("POST", &[], post), Ok(()));
        assert_eq!(vector("POST", &[("my-header1", "value1")], sorted), Ok(()));
        assert!(matches!(vector("GET", &[], post), Err(Error::InvalidSignature(_))));
    }
}
