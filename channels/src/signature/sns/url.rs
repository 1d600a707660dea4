//! URLs that Amazon names and somebody is to fetch: taken apart without any leniency.

/// A URL of one host: no user, no port, no fragment, nothing that two parsers read differently.
pub(super) struct Url<'a> {
    pub(super) scheme: &'a str,
    pub(super) host: String,
    /// From its `/` on.
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
}

impl<'a> Url<'a> {
    /// Takes it apart, if it is of at most 2048 printable ASCII characters. The host comes in lower case.
    pub(super) fn parse(url: &'a str) -> Option<Self> {
        let plain = |c: u8| c.is_ascii_graphic() && !b"#\\\"<>^`{|}".contains(&c);
        let (scheme, rest) = url.split_once("://")?;
        let slash = rest.find('/')?;
        let (host, target) = rest.split_at_checked(slash)?;
        let (path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q)));
        let named = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'.';
        let fit = url.len() <= 2048 && url.bytes().all(plain) && host.bytes().all(named);
        fit.then(|| Self { scheme, host: host.to_ascii_lowercase(), path, query })
    }

    /// The region, if this is HTTPS to SNS: `sns.<region>.amazonaws.com`, or `.com.cn`.
    pub(super) fn sns_region(&self) -> Option<&str> {
        if self.scheme == "https" { region(&self.host) } else { None }
    }
}

/// The region in a host of SNS.
pub(super) fn region(host: &str) -> Option<&str> {
    let rest = host.strip_prefix("sns.")?;
    let rest = rest.strip_suffix(".cn").unwrap_or(rest);
    let region = rest.strip_suffix(".amazonaws.com")?;
    let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
    (region.len() >= 3 && region.bytes().all(plain)).then_some(region)
}

/// The URL to fetch a signing certificate from, its host in lower case, if the rule allows it: HTTPS to
/// SNS in this region, a path that ends in `.pem`, no query. The region closes hosts of other services
/// whose names have the same shape.
pub(super) fn signing_certificate(url: &str, region: &str) -> Option<String> {
    let url = Url::parse(url)?;
    let of_region = url.sns_region()?.eq_ignore_ascii_case(region);
    let pem = url.path.rsplit_once('.').is_some_and(|(_, extension)| extension == "pem");
    let allowed = of_region && pem && url.query.is_none();
    allowed.then(|| format!("https://{}{}", url.host, url.path))
}

/// Whether a visit of this URL confirms a subscription of this region and does nothing else.
pub(super) fn confirms(url: &str, region: &str) -> bool {
    Url::parse(url).is_some_and(|url| {
        let pairs = url.query.unwrap_or_default().split('&');
        let mut actions = pairs.filter(|pair| pair.starts_with("Action="));
        let confirms = actions.next() == Some("Action=ConfirmSubscription");
        let of_region = url.sns_region().is_some_and(|of| of.eq_ignore_ascii_case(region));
        of_region && url.path == "/" && confirms && actions.next().is_none()
    })
}
