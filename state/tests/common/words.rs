//! The words of scripts.

use std::collections::BTreeMap;

use state::Millis;
use state::allocation::{Mode, Policy};
use state::command::{
    Asked, Command, Confirm, Count, Fact, Hold, HoldLine, ListingSpec, Moved, MovementRequest,
    SkuSettings,
};
use state::escrow::told::{Held, What};
use state::escrow::{Holder, Size};
use state::ledger::Kind;
use state::limits::{DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS};
use state::order::{LineImage, Removal};
use state::origin::Lane;
use state::policy::{Buffer, Each, Weights};
use state::reservation::Line;

use super::{START, definition, image_of, refund, request};

pub fn option<'a>(options: &[&'a str], name: &str) -> Option<&'a str> {
    options.iter().find_map(|option| option.strip_prefix(name)?.strip_prefix('='))
}

pub fn number(word: &str) -> u64 {
    word.parse().unwrap()
}

pub fn duration(word: &str) -> Millis {
    let (count, unit) = word.split_at(word.len() - 1);
    let unit = match unit {
        "s" => SECOND_MS,
        "m" => MINUTE_MS,
        "h" => HOUR_MS,
        _ => DAY_MS,
    };
    number(count) * unit
}

/// `ebay=20-2` is a weight of 20 and a buffer of 2, which may be `5%` or `auto` as well. Weights are what is sold
/// with `velocity`; `min:3`, `max:20`, `end:1`, `floor:10%`, `cap:60%` and `low:25%` are of all channels.
pub fn policy_of(mode: &str, parts: &[&str]) -> Policy {
    let mode = if mode == "split" { Mode::Split } else { Mode::Shared };
    let mut policy = Policy { mode, sku: "*".into(), ..Policy::default() };
    let (mut weights, mut buffers) = (BTreeMap::new(), BTreeMap::new());
    let percent = |text: &str| text.strip_suffix('%').map(|n| 10_000 * n.parse::<u32>().unwrap());
    for part in parts {
        if let Some((name, value)) = part.split_once(':') {
            match name {
                "min" => policy.min = Each::All(value.parse().unwrap()),
                "max" => policy.max = Each::All(value.parse().unwrap()),
                "end" => policy.end_at = Each::All(value.parse().unwrap()),
                "floor" => policy.floor = percent(value),
                "cap" => policy.cap = percent(value),
                "low" => policy.low_share = percent(value),
                _ => panic!("{part}"),
            }
            continue;
        }
        let Some((name, numbers)) = part.split_once('=') else {
            policy.weights = Weights::Velocity;
            continue;
        };
        let (weight, buffer) = numbers.split_once('-').unwrap_or((numbers, "0"));
        weights.insert(name.to_string(), weight.parse().unwrap_or(0));
        let buffer = match (buffer, percent(buffer)) {
            ("auto", _) => Buffer::Auto,
            (_, Some(part)) => Buffer::Part(part),
            (units, None) => Buffer::Units(units.parse().unwrap()),
        };
        buffers.insert(name.to_string(), buffer);
    }
    if policy.weights != Weights::Velocity {
        policy.weights = Weights::Fixed(weights);
    }
    Policy { buffers: Each::Named(buffers), ..policy }
}

/// `L1=MUG*2`: the line, the SKU or `?`, the units.
pub fn line(word: &str) -> (&str, Option<&str>, i64) {
    let (line, rest) = word.split_once('=').unwrap();
    let (sku, quantity) = rest.split_once('*').unwrap();
    (line, Some(sku).filter(|sku| *sku != "?"), quantity.parse().unwrap())
}

/// `L1=?variant-1*2+shipped:1+returned:1`: a line of an image; after `?` the listing that it names instead
/// of a SKU.
pub fn image_line(word: &str) -> LineImage {
    let mut parts = word.split('+');
    let (id, sku, quantity) = line(parts.next().unwrap());
    let listing = sku.and_then(|sku| sku.strip_prefix('?')).map(String::from);
    let sku = sku.filter(|sku| !sku.starts_with('?')).map(String::from);
    let mut line = LineImage { id: id.into(), listing, sku, quantity, ..LineImage::default() };
    for part in parts {
        let (what, units) = part.split_once(':').unwrap();
        let place = if what == "shipped" { &mut line.fulfilled } else { &mut line.returned };
        *place = units.parse().unwrap();
    }
    line
}

/// A listing with its settings: `variant_id=v-1`.
pub fn spec(id: &str, settings: &[&str]) -> ListingSpec {
    let setting = |word: &&str| word.split_once('=').map(|(key, value)| (key.into(), value.into()));
    ListingSpec { id: id.into(), settings: settings.iter().filter_map(setting).collect() }
}

pub fn fact(text: &str) -> Fact {
    let version = |word: &str| START + number(word.trim_start_matches('v'));
    match text.split_whitespace().collect::<Vec<_>>()[..] {
        ["order", order, v, ref lines @ ..] => {
            let lines = lines.iter().map(|word| image_line(word)).collect();
            image_of(order, version(v), false, lines)
        }
        ["whole", order, v, ref lines @ ..] => {
            let lines = lines.iter().map(|word| image_line(word)).collect();
            image_of(order, version(v), true, lines)
        }
        ["refund", order, v, id, part, how] => {
            let removal = match how {
                "cancelled" => Removal::Cancelled,
                "returned" => Removal::Returned,
                "shipped" => Removal::Fulfilled,
                _ => Removal::NoRestock,
            };
            let (line, sku, quantity) = line(part);
            refund(order, version(v), (id, line, sku), quantity, removal)
        }
        ["listed", listing, sku, v] => {
            Fact::Listed { listing: listing.into(), sku: sku.into(), version: version(v) }
        }
        ["shown", listing, quantity, v, ref location @ ..] => Fact::Shown {
            listing: listing.into(),
            sku: None,
            location: location.first().map(|place| place.trim_start_matches('@').into()),
            quantity: quantity.parse().unwrap(),
            version: version(v),
        },
        ["moved", id, kind, listing, quantity, v] => Fact::Moved(Moved {
            id: id.into(),
            kind: Kind::NAMES.iter().find(|(name, _)| *name == kind).unwrap().1,
            listing: Some(listing.into()),
            sku: None,
            quantity: quantity.parse().unwrap(),
            location: None,
            to_location: None,
            reference: None,
            version: version(v),
        }),
        ["reload", order, v] => Fact::Reload { order: order.into(), version: version(v) },
        ["fetched", order, asked] => Fact::Fetched { order: order.into(), asked: number(asked) },
        ["polled", v] => Fact::Polled { cursor: version(v) },
        ["unreadable", ref why @ ..] => Fact::Dead { reason: why.join(" "), body: b"{".to_vec() },
        _ => panic!("{text}"),
    }
}

pub fn movement(
    (kind, sku, quantity): (&str, &str, &str),
    options: &[&str],
    serial: u64,
) -> MovementRequest {
    let (_, kind): (_, Kind) = *Kind::NAMES.iter().find(|(name, _)| *name == kind).unwrap();
    let id = option(options, "id").map_or_else(|| format!("movement {serial}"), String::from);
    let place = options.iter().find_map(|option| option.strip_prefix('@')).unwrap_or("main");
    // `=7` is what was counted.
    let counted = quantity.strip_prefix('=').map(|units| units.parse().unwrap());
    let index = option(options, "as-of").map_or(0, number);
    let quantity = if counted.is_some() { 0 } else { quantity.parse().unwrap() };
    MovementRequest {
        count: counted.map(|units| Count { units, index }),
        location: place.into(),
        to_location: option(options, "to").map(Into::into),
        channel: option(options, "channel").map(Into::into),
        reference: option(options, "ref").map(Into::into),
        ..request(&id, kind, sku, quantity)
    }
}

/// `MUG*2`.
pub fn units_of(word: &str) -> (String, i64) {
    let (sku, units) = word.split_once('*').unwrap();
    (sku.into(), units.parse().unwrap())
}

/// `MUG*2@main`.
pub fn place_of(word: &str) -> (String, String, i64) {
    let (units, location) = word.split_once('@').unwrap_or((word, "main"));
    let (sku, units) = units_of(units);
    (sku, location.into(), units)
}

/// `1.7`: node 1, whose disk calls its book 7.
pub fn holder(word: &str) -> Holder {
    let (node, book) = word.split_once('.').unwrap();
    Holder { node: number(node), book: number(book) }
}

/// `opened`, `held R1 MUG*2@main for=10m`, `sold R1 1 0`, `released R1`, `expired R1`, `extended R1 20m`,
/// `returned MUG*2@main`.
pub fn what(words: &[&str]) -> What {
    let id = || words[1].to_string();
    match words[0] {
        "opened" => What::Opened,
        "held" => {
            let lines = words[2..].iter().filter(|word| word.contains('*')).map(|word| {
                let (sku, location, held) = place_of(word);
                Line { sku, location, parts: Vec::new(), held, confirmed: 0 }
            });
            What::Held(Held {
                id: id(),
                lines: lines.collect(),
                channel: option(words, "channel").map(Into::into),
                ttl_ms: duration(option(words, "for").unwrap_or("10m")),
                reference: None,
            })
        }
        "sold" => {
            let sold = words[2..].iter().filter_map(|word| word.parse().ok()).collect();
            What::Confirmed { id: id(), sold, reference: None }
        }
        "released" => What::Released(id()),
        "expired" => What::Expired(id()),
        "extended" => What::Extended(id(), duration(words[2])),
        "returned" => {
            let (sku, location, units) = place_of(words[1]);
            What::Returned { sku, location, units }
        }
        other => panic!("{other}"),
    }
}

/// `max=10`, `percent=20`.
pub fn size(words: &[&str]) -> Size {
    let units = option(words, "max").map(|units| Size::Units(units.parse().unwrap()));
    let percent = || Size::Percent(option(words, "percent").unwrap().parse().unwrap());
    units.unwrap_or_else(percent)
}

/// `reserve R1 MUG*2 CUP*1@outlet for=10m`, `sell R1`, `sell R1 MUG*1`, `release R1`, `extend R1 10m`.
pub fn reservation(what: &str, rest: &[&str]) -> Asked {
    let id: String = rest[0].into();
    let parts = || rest[1..].iter().filter(|word| word.contains('*'));
    match what {
        "reserve" => {
            let lines = parts().map(|word| {
                let (units, location) =
                    word.split_once('@').map_or((*word, None), |(u, l)| (u, Some(l)));
                let (sku, quantity) = units_of(units);
                HoldLine { sku, quantity, location: location.map(Into::into) }
            });
            let ttl_ms = duration(option(rest, "for").unwrap_or("10m"));
            let reference = option(rest, "ref").map(Into::into);
            let channel = option(rest, "channel").map(Into::into);
            Asked::Hold(Hold { id, lines: lines.collect(), channel, ttl_ms, reference })
        }
        "sell" => {
            let lines: Vec<_> = parts().map(|word| units_of(word)).collect();
            let lines = (!lines.is_empty()).then_some(lines);
            Asked::Confirm(Confirm { id, lines, reference: option(rest, "ref").map(Into::into) })
        }
        "release" => Asked::Release(id),
        _ => Asked::Extend(id, duration(rest[1])),
    }
}

/// `ebay shop=another-id abandon`: a SKU's listings, all of them.
pub fn mapping(sku: &str, words: &[&str]) -> Command {
    let listed = words.iter().filter(|word| **word != "abandon").map(|word| {
        let (channel, id) = word.split_once('=').unwrap_or((word, ""));
        let id = if id.is_empty() { format!("{channel}/{sku}") } else { id.into() };
        (channel.into(), ListingSpec { id, ..ListingSpec::default() })
    });
    let listings = Some(listed.collect());
    let abandon = words.contains(&"abandon");
    let settings = SkuSettings { listings, abandon, ..SkuSettings::default() };
    Command::Map { sku: sku.into(), settings }
}

pub fn defined(location: &str, more: &[&str]) -> state::channel::Definition {
    let pushes = !more.contains(&"silent");
    state::channel::Definition {
        pushes,
        fetches: pushes,
        compares: !more.contains(&"plain"),
        shadow: more.contains(&"shadow"),
        home: option(more, "home").map(number),
        ..definition(location)
    }
}

pub fn lane_of(options: &[&str]) -> Lane {
    if option(options, "lane") == Some("normal") { Lane::Normal } else { Lane::Urgent }
}
