//! Senders that speak the format of this project: `{"type", "id", "timestamp", "data"}`.

use http::HeaderMap;
use serde::Deserialize;
use serde_json::Value;
use state::command::{Fact, Moved};
use state::ledger::{self, Kind};
use state::limits::TIME_MAX;
use state::order::{LineImage, Removal, RemovalLine};

use crate::json::{self, Scalar, shortened};
use crate::{Parsed, Understood, Verified, plain_id, time};

/// What a channel's config says of its sender.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Types that change nothing here.
    pub ignore: Vec<String>,
    /// The header with the id of a delivery, if it is none of the usual ones.
    pub id_header: Option<String>,
}

/// Only the type is needed by all.
#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    id: Value,
    #[serde(default)]
    timestamp: Value,
    #[serde(default)]
    data: Value,
}

/// Takes a verified delivery apart.
#[must_use]
pub fn parse(headers: &HeaderMap, body: Verified<'_>, settings: &Settings) -> Parsed {
    let envelope: Envelope = match json::read(body.bytes()) {
        Ok(envelope) => envelope,
        Err(why) => {
            let id = header_id(headers, settings);
            return Parsed { id, ..Parsed::new("", json::dead(&why)) };
        }
    };
    let said = if settings.ignore.contains(&envelope.kind) {
        Ok(Understood::Ignored("the config says to ignore this type".into()))
    } else {
        envelope.said().map(|fact| Understood::Facts(vec![fact]))
    };
    let id = header_id(headers, settings).or_else(|| plain_id(envelope.id.as_str()?));
    Parsed { id, ..Parsed::new(&envelope.kind, said.unwrap_or_else(|why| json::dead(&why))) }
}

fn header_id(headers: &HeaderMap, settings: &Settings) -> Option<String> {
    let names =
        settings.id_header.as_deref().into_iter().chain(["webhook-id", "x-github-delivery"]);
    let mut values = names.filter_map(|name| headers.get(name)?.to_str().ok());
    values.find_map(plain_id)
}

impl Envelope {
    fn said(&self) -> Result<Fact, String> {
        match self.kind.as_str() {
            "stock.changed" => self.shown(),
            "stock.moved" => self.moved(),
            "listing.changed" => self.listed(),
            "order.created" | "order.updated" => self.image(true),
            "order.cancelled" => self.image(false),
            "order.fulfilled" if self.is_image() => self.image(true),
            "order.fulfilled" => self.removals(|line| match line.restock {
                None => Ok(Removal::Fulfilled),
                Some(_) => Err("restock: what is shipped is not put back".into()),
            }),
            "order.refunded" => self.removals(Removed::restocked),
            other => Err(format!("the type {:?} is unknown", shortened(other))),
        }
    }

    /// When it was sent, if it says so.
    fn sent_ms(&self) -> Result<Option<u64>, String> {
        match &self.timestamp {
            Value::Null => Ok(None),
            Value::String(text) => {
                time::rfc3339(text).map(Some).map_err(|why| format!("timestamp: {why}"))
            }
            _ => Err("timestamp is no text".into()),
        }
    }

    fn timestamp_ms(&self) -> Result<u64, String> {
        self.sent_ms()?.ok_or_else(|| "timestamp is missing".into())
    }

    fn version(&self, version: Option<&Scalar>) -> Result<u64, String> {
        version.map_or_else(|| self.timestamp_ms(), milliseconds)
    }

    fn shown(&self) -> Result<Fact, String> {
        #[derive(Deserialize)]
        struct Data {
            sku: String,
            location: Option<Scalar>,
            available: Scalar,
            revision: Option<Scalar>,
        }
        let data: Data = json::shaped(&self.data)?;
        let version = match (self.sent_ms()?, &data.revision) {
            (Some(sent), _) => sent,
            (None, Some(revision)) => count("revision", revision)?,
            (None, None) => return Err("timestamp is missing".into()),
        };
        let sku = required_sku(&data.sku)?;
        Ok(Fact::Shown {
            listing: sku.clone(),
            sku: Some(sku),
            location: named("location", data.location.as_ref())?,
            quantity: data.available.units().map_err(|why| format!("available: {why}"))?,
            version,
        })
    }

    fn moved(&self) -> Result<Fact, String> {
        #[derive(Deserialize)]
        struct Data {
            id: Scalar,
            kind: String,
            sku: String,
            quantity: Scalar,
            location: Option<Scalar>,
            to_location: Option<Scalar>,
            reference: Option<String>,
            occurred_at: Option<String>,
        }
        let data: Data = json::shaped(&self.data)?;
        let kind = kind(&data.kind)?;
        let quantity = data.quantity.whole().map_err(|why| format!("quantity: {why}"))?;
        if !ledger::is_quantity(kind, quantity) {
            return Err(format!("a quantity of {quantity} is out of range"));
        }
        if (kind == Kind::Transfer) != data.to_location.is_some() {
            return Err("a transfer has a to_location, and nothing else has".into());
        }
        let version = match &data.occurred_at {
            Some(text) => time::rfc3339(text).map_err(|why| format!("occurred_at: {why}"))?,
            None => self.timestamp_ms()?,
        };
        let reference = data.reference.as_deref().filter(|text| !text.is_empty());
        Ok(Fact::Moved(Moved {
            id: data.id.id("id")?,
            kind,
            listing: None,
            sku: Some(required_sku(&data.sku)?),
            quantity,
            location: named("location", data.location.as_ref())?,
            to_location: named("to_location", data.to_location.as_ref())?,
            reference: reference.map(|text| json::name("reference", text)).transpose()?,
            version,
        }))
    }

    fn listed(&self) -> Result<Fact, String> {
        #[derive(Deserialize)]
        struct Data {
            listing: Scalar,
            sku: String,
        }
        let data: Data = json::shaped(&self.data)?;
        let listing = data.listing.id("listing")?;
        Ok(Fact::Listed { listing, sku: required_sku(&data.sku)?, version: self.timestamp_ms()? })
    }

    /// Whether it shows lines as they are, and not what was done to them.
    fn is_image(&self) -> bool {
        let lines = self.data.get("lines").and_then(Value::as_array);
        let is_line = |line: &Value| line.get("line").is_none() && line.get("fulfilled").is_some();
        lines.is_some_and(|lines| !lines.is_empty() && lines.iter().all(is_line))
    }

    /// An order as it is. Only one that is cancelled need not name its lines.
    fn image(&self, holds: bool) -> Result<Fact, String> {
        #[derive(Deserialize)]
        struct Data {
            order: Scalar,
            version: Option<Scalar>,
            whole: Option<bool>,
            lines: Option<Vec<Line>>,
        }
        let data: Data = json::shaped(&self.data)?;
        let whole = data.whole.unwrap_or(true);
        let lines = match data.lines {
            Some(lines) => lines,
            None if !holds && whole => Vec::new(),
            None => return Err("lines are missing".into()),
        };
        json::check_lines(lines.len())?;
        Ok(Fact::Image {
            order: data.order.id("order")?,
            version: self.version(data.version.as_ref())?,
            whole,
            lines: lines.iter().map(|line| line.image(holds)).collect::<Result<_, _>>()?,
        })
    }

    fn removals(
        &self,
        removal: impl Fn(&Removed) -> Result<Removal, String>,
    ) -> Result<Fact, String> {
        #[derive(Deserialize)]
        struct Data {
            order: Scalar,
            version: Option<Scalar>,
            lines: Vec<Removed>,
        }
        let data: Data = json::shaped(&self.data)?;
        json::check_lines(data.lines.len())?;
        let lines = data.lines.iter().map(|line| line.read(removal(line)?));
        Ok(Fact::Removals {
            order: data.order.id("order")?,
            version: self.version(data.version.as_ref())?,
            lines: lines.collect::<Result<_, _>>()?,
        })
    }
}

/// A line of an order's image.
#[derive(Deserialize)]
struct Line {
    id: Scalar,
    sku: Option<String>,
    listing: Option<Scalar>,
    quantity: Scalar,
    fulfilled: Option<Scalar>,
    returned: Option<Scalar>,
}

impl Line {
    fn image(&self, holds: bool) -> Result<LineImage, String> {
        let quantity = units("quantity", Some(&self.quantity))?;
        Ok(LineImage {
            id: self.id.id("id")?,
            listing: named("listing", self.listing.as_ref())?,
            sku: json::sku(self.sku.as_deref())?,
            quantity: if holds { quantity } else { 0 },
            fulfilled: units("fulfilled", self.fulfilled.as_ref())?,
            returned: units("returned", self.returned.as_ref())?,
        })
    }
}

/// Units of a line that were refunded or shipped, under an id of their own.
#[derive(Deserialize)]
struct Removed {
    id: Scalar,
    line: Scalar,
    listing: Option<Scalar>,
    sku: Option<String>,
    quantity: Scalar,
    restock: Option<String>,
}

impl Removed {
    fn restocked(&self) -> Result<Removal, String> {
        match self.restock.as_deref() {
            Some("cancelled") => Ok(Removal::Cancelled),
            Some("returned") => Ok(Removal::Returned),
            Some("none") => Ok(Removal::NoRestock),
            Some(other) => Err(format!("restock: {:?} is unknown", shortened(other))),
            None => Err("restock is missing".into()),
        }
    }

    fn read(&self, removal: Removal) -> Result<RemovalLine, String> {
        Ok(RemovalLine {
            id: self.id.id("id")?,
            line: self.line.id("line")?,
            listing: named("listing", self.listing.as_ref())?,
            sku: json::sku(self.sku.as_deref())?,
            quantity: units("quantity", Some(&self.quantity))?,
            removal,
        })
    }
}

/// The kinds that happen outside of orders; sales and cancellations are told by orders.
fn kind(name: &str) -> Result<Kind, String> {
    match name {
        "receipt" => Ok(Kind::Receipt),
        "adjustment" => Ok(Kind::Adjustment),
        "return" => Ok(Kind::Return),
        "fulfilment" => Ok(Kind::Fulfilment),
        "transfer" => Ok(Kind::Transfer),
        "incoming" => Ok(Kind::Incoming),
        other => Err(format!("the kind {:?} is unknown", shortened(other))),
    }
}

fn required_sku(text: &str) -> Result<String, String> {
    json::sku(Some(text))?.ok_or_else(|| "sku is empty".into())
}

fn named(what: &str, name: Option<&Scalar>) -> Result<Option<String>, String> {
    name.map(|name| name.id(what)).transpose()
}

fn units(what: &str, units: Option<&Scalar>) -> Result<i64, String> {
    units.map_or(Ok(0), |units| units.units().map_err(|why| format!("{what}: {why}")))
}

fn count(what: &str, number: &Scalar) -> Result<u64, String> {
    let whole = number.whole().map_err(|why| format!("{what}: {why}"))?;
    u64::try_from(whole).map_err(|_| format!("{what} is negative"))
}

/// A version of an order: milliseconds since the Unix epoch, or a time.
fn milliseconds(version: &Scalar) -> Result<u64, String> {
    let ms = match version {
        Scalar::Number(_) => count("version", version)?,
        Scalar::Text(text) => time::rfc3339(text).map_err(|why| format!("version: {why}"))?,
    };
    if ms > TIME_MAX { Err("version is out of range".into()) } else { Ok(ms) }
}
