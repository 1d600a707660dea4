//! Allocation policies as people write them: in a config file, and in the API.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use state::policy::{self, Buffer, Ppm};
use utoipa::ToSchema;

use super::values::Millis;

/// How a SKU is allocated; the first policy whose glob matches counts.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Which SKUs: `*` stands for any characters, `?` for one.
    pub sku: String,
    /// How.
    pub mode: Mode,
    /// What shares are in proportion to, of `split`: numbers by channel, or `velocity` for what each sells. A channel
    /// that is not named gets nothing; if none is named, all weigh the same.
    #[serde(default)]
    #[schema(value_type = Value, example = json!({"amazon-us": 40, "shopify-eu": 30}))]
    pub weights: Weights,
    /// How long until a sale weighs half as much, where sales are measured: 7 days if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "7d")]
    pub half_life: Option<Millis>,
    /// The least part of all that a share by `velocity` may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "5%")]
    pub floor: Option<Part>,
    /// The most part of all that a share by `velocity` may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "60%")]
    pub cap: Option<Part>,
    /// What is held back, by channel or for all: units, a part of the share (`5%`), or `auto`.
    #[serde(default)]
    #[schema(value_type = Value, example = json!({"amazon-us": 2, "shopify-eu": "5%", "ebay": "auto"}))]
    pub buffers: Buffers,
    /// How likely an `auto` buffer may be too small, each time: 0.1 % if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "0.1%")]
    pub risk: Option<Part>,
    /// So much is shown at least, as long as there is as much: the buffer gives way. By channel or for all.
    #[serde(default, skip_serializing_if = "Units::is_nothing")]
    #[schema(value_type = Value, example = json!(1))]
    pub min: Units,
    /// So much is shown at the most.
    #[serde(default, skip_serializing_if = "Units::is_nothing")]
    #[schema(value_type = Value, example = json!({"ebay": 20}))]
    pub max: Units,
    /// The listing ends at so much or less: 0 is shown then.
    #[serde(default, skip_serializing_if = "Units::is_nothing")]
    #[schema(value_type = Value, example = json!(1))]
    pub end_at: Units,
    /// Below this part of its target a share is low, and others give it what they have too much: 25 % if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "25%")]
    pub low_share: Option<Part>,
}

/// `shared`: every channel shows all that is available. `split`: each shows its share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Every channel shows all that is available.
    Shared,
    /// Each shows its share.
    Split,
}

/// A part of something, as a text in percent or as a fraction; millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part(pub Ppm);

/// What shares are in proportion to.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Weights(pub policy::Weights);

/// What is held back, by channel or for all.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Buffers(pub policy::Each<Buffer>);

/// Units by channel, or for all.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Units(pub policy::Each<i64>);

impl Units {
    fn is_nothing(&self) -> bool {
        self.0.entries().next().is_none()
    }
}

/// A value that may be written in several ways.
#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Said {
    Number(i64),
    Fraction(f64),
    Text(String),
    Named(BTreeMap<String, Said>),
}

impl Said {
    fn in_words(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Fraction(fraction) => fraction.to_string(),
            Self::Text(text) => format!("{text:?}"),
            Self::Named(_) => "a table".into(),
        }
    }
}

/// Reads what is said, in words that help if it is nothing of what may be said.
fn said<'de, D: Deserializer<'de>, T>(
    from: D,
    may_be: &str,
    read: impl FnOnce(Said) -> Result<T, String>,
) -> Result<T, D::Error> {
    let said = Said::deserialize(from).map_err(|_| de::Error::custom(may_be))?;
    read(said).map_err(|found| de::Error::custom(format!("{may_be}; {found} is none")))
}

const PART: &str = "a part of the whole is a text like \"0.1%\", or a fraction like 0.001";
const WEIGHTS: &str = "weights are \"velocity\", or whole numbers from 0 up by channel";
const BUFFER: &str = "a buffer is units (2), a part of the share (\"5%\") or \"auto\"";
const UNITS: &str = "this is units from 0 up, for all channels or by channel";

/// Percent with up to four digits behind the point, exactly.
fn percent(text: &str) -> Option<Ppm> {
    let number = text.trim().strip_suffix('%')?.trim_end();
    let (whole, rest) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || rest.len() > 4 || !digits(whole) || !digits(rest) {
        return None;
    }
    let ppm: Ppm = format!("{whole}{rest:0<4}").parse().ok()?;
    (ppm <= policy::WHOLE_PPM).then_some(ppm)
}

/// Millionths in percent.
pub(crate) fn in_percent(ppm: Ppm) -> String {
    let text = format!("{}.{:04}", ppm / 10_000, ppm % 10_000);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

impl Part {
    /// Reads a text in percent.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        percent(text).map(Self).ok_or_else(|| format!("{PART}; {text:?} is none"))
    }

    fn of_fraction(fraction: f64) -> Option<Self> {
        let ppm = (fraction * f64::from(policy::WHOLE_PPM)).round();
        #[expect(
            clippy::as_conversions,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked to be in range"
        )]
        (0.0..=f64::from(policy::WHOLE_PPM)).contains(&ppm).then_some(Self(ppm as Ppm))
    }
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        said(from, PART, |said| {
            let part = match &said {
                Said::Text(text) => percent(text).map(Self),
                Said::Fraction(fraction) => Self::of_fraction(*fraction),
                Said::Number(_) | Said::Named(_) => None,
            };
            part.ok_or_else(|| said.in_words())
        })
    }
}

impl Serialize for Part {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&in_percent(self.0))
    }
}

impl<'de> Deserialize<'de> for Weights {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        said(from, WEIGHTS, |said| match said {
            Said::Text(text) if text == "velocity" => Ok(Self(policy::Weights::Velocity)),
            Said::Named(named) => {
                let weight = |(channel, said): (String, Said)| match said {
                    Said::Number(n) if u32::try_from(n).is_ok() => {
                        Ok((channel, u32::try_from(n).unwrap_or_default()))
                    }
                    other => Err(format!("{} of {channel}", other.in_words())),
                };
                let weights = named.into_iter().map(weight).collect::<Result<_, _>>()?;
                Ok(Self(policy::Weights::Fixed(weights)))
            }
            other => Err(other.in_words()),
        })
    }
}

impl Serialize for Weights {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            policy::Weights::Fixed(weights) => weights.serialize(to),
            policy::Weights::Velocity => to.serialize_str("velocity"),
        }
    }
}

/// Something for all channels, or by channel.
fn each<T>(said: Said, read: impl Fn(&Said) -> Option<T>) -> Result<policy::Each<T>, String> {
    let Said::Named(named) = said else {
        return read(&said).map(policy::Each::All).ok_or_else(|| said.in_words());
    };
    let named = named.into_iter().map(|(channel, said)| match read(&said) {
        Some(value) => Ok((channel, value)),
        None => Err(format!("{} of {channel}", said.in_words())),
    });
    named.collect::<Result<_, _>>().map(policy::Each::Named)
}

fn shown<T: Copy>(each: &policy::Each<T>, write: impl Fn(T) -> Said) -> Said {
    match each {
        policy::Each::All(value) => write(*value),
        policy::Each::Named(named) => {
            Said::Named(named.iter().map(|(name, value)| (name.clone(), write(*value))).collect())
        }
    }
}

fn units(said: &Said) -> Option<i64> {
    match said {
        Said::Number(n) => u32::try_from(*n).ok().map(i64::from),
        _ => None,
    }
}

impl<'de> Deserialize<'de> for Buffers {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let buffer = |said: &Said| match said {
            Said::Text(text) if text == "auto" => Some(Buffer::Auto),
            Said::Text(text) => percent(text).map(Buffer::Part),
            said => units(said).map(Buffer::Units),
        };
        said(from, BUFFER, |said| each(said, buffer).map(Self))
    }
}

impl Serialize for Buffers {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let buffer = |buffer| match buffer {
            Buffer::Units(units) => Said::Number(units),
            Buffer::Part(part) => Said::Text(in_percent(part)),
            Buffer::Auto => Said::Text("auto".into()),
        };
        shown(&self.0, buffer).serialize(to)
    }
}

impl<'de> Deserialize<'de> for Units {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        said(from, UNITS, |said| each(said, units).map(Self))
    }
}

impl Serialize for Units {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        shown(&self.0, Said::Number).serialize(to)
    }
}

impl From<&Policy> for policy::Policy {
    fn from(said: &Policy) -> Self {
        let part = |part: Option<Part>| part.map(|part| part.0);
        Self {
            sku: said.sku.clone(),
            mode: match said.mode {
                Mode::Shared => policy::Mode::Shared,
                Mode::Split => policy::Mode::Split,
            },
            weights: said.weights.0.clone(),
            half_life_ms: said.half_life.map(|half_life| half_life.0),
            floor: part(said.floor),
            cap: part(said.cap),
            buffers: said.buffers.0.clone(),
            risk: part(said.risk),
            min: said.min.0.clone(),
            max: said.max.0.clone(),
            end_at: said.end_at.0.clone(),
            low_share: part(said.low_share),
        }
    }
}

impl From<&policy::Policy> for Policy {
    fn from(known: &policy::Policy) -> Self {
        Self {
            sku: known.sku.clone(),
            mode: match known.mode {
                policy::Mode::Shared => Mode::Shared,
                policy::Mode::Split => Mode::Split,
            },
            weights: Weights(known.weights.clone()),
            half_life: known.half_life_ms.map(Millis),
            floor: known.floor.map(Part),
            cap: known.cap.map(Part),
            buffers: Buffers(known.buffers.clone()),
            risk: known.risk.map(Part),
            min: Units(known.min.clone()),
            max: Units(known.max.clone()),
            end_at: Units(known.end_at.clone()),
            low_share: known.low_share.map(Part),
        }
    }
}

/// What is wrong with the policies of a file whose channels are these, and what to look for to find its line.
pub(super) fn check(policies: &[Policy], channels: &[&str]) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    if policies.len() > state::limits::POLICIES_MAX {
        let most = state::limits::POLICIES_MAX;
        faults.push(("policy".into(), format!("policy: at most {most} of them")));
    }
    for said in policies {
        let policy = policy::Policy::from(said);
        let sku = &policy.sku;
        if let Err(why) = policy.check() {
            faults.push((format!("\"{sku}\""), format!("policy {sku:?}: {why}")));
        }
        let mut unknown: Vec<&str> =
            policy.channels().filter(|name| !channels.contains(name)).collect();
        unknown.sort_unstable();
        unknown.dedup();
        for name in unknown {
            let near = super::faults::nearest(name, channels.iter().copied());
            let hint = near.map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
            let message = format!("policy {sku:?} names {name:?}, which is no channel here{hint}");
            faults.push((name.into(), message));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    // What is read and written back must be what was said: an operator who changes one number of it would
    // change others.
    #[test]
    fn policies_come_back_as_they_were_said() {
        let all = json!({
            "sku": "TEE-*", "mode": "split", "weights": "velocity", "half_life": "7d", "floor": "5%", "cap": "62.5%",
            "buffers": {"amazon-us": 2, "ebay": "auto", "shopify-eu": "0.0001%"}, "risk": "0.1%", "min": 1,
            "max": {"ebay": 20}, "end_at": {"amazon-us": 1, "ebay": 2}, "low_share": "100%",
        });
        let few = json!({"sku": "*", "mode": "shared", "weights": {"ebay": 40}, "buffers": "auto"});
        let least = json!({"sku": "*", "mode": "shared", "weights": {}, "buffers": {}});
        for said in [all, few, least] {
            let read: Policy = serde_json::from_value(said.clone()).unwrap();
            let agreed = policy::Policy::from(&read);
            assert_eq!(serde_json::to_value(Policy::from(&agreed)).unwrap(), said);
            let toml = toml::to_string(&read).unwrap();
            assert_eq!(toml::from_str::<Policy>(&toml).unwrap(), read, "{toml}");
        }
        let fraction: Part = serde_json::from_value(json!(0.001)).unwrap();
        assert_eq!(fraction, Part(1_000));
    }

    // What cannot be meant must not be taken for something else, and whoever wrote it must find it.
    #[test]
    fn what_is_no_policy_is_named() {
        let with = |name: &str, value: Value| {
            let mut said = json!({"sku": "*", "mode": "split"});
            said[name] = value;
            serde_json::from_value::<Policy>(said)
                .map(|policy| policy::Policy::from(&policy).check())
        };
        for (name, value, expected) in [
            ("weights", json!({"ebay": -3}), "-3 of ebay"),
            ("weights", json!({"ebay": 1.5}), "1.5 of ebay"),
            ("weights", json!("speed"), "\"speed\""),
            ("buffers", json!({"ebay": "5"}), "\"5\" of ebay"),
            ("buffers", json!({"ebay": "101%"}), "\"101%\" of ebay"),
            ("buffers", json!(-1), "-1"),
            ("risk", json!("1"), "\"1\""),
            ("risk", json!(1), "0.001"),
            ("floor", json!("0.00001%"), "\"0.00001%\""),
            ("max", json!({"ebay": -1}), "-1 of ebay"),
            ("half_life", json!("a while"), "no duration"),
        ] {
            let why = with(name, value.clone()).unwrap_err().to_string();
            assert!(why.contains(expected), "{name} {value}: {why}");
        }
        let nothing = with("weights", json!({"ebay": 0, "shop": 0})).unwrap();
        assert!(nothing.unwrap_err().contains("add up to 0"));
        // 40/30/20/20 is no mistake: weights are in proportion to each other.
        assert_eq!(with("weights", json!({"a": 40, "b": 30, "c": 20, "d": 20})).unwrap(), Ok(()));
        let said: Policy =
            serde_json::from_value(json!({"sku": "*", "mode": "split", "buffers": {"ebya": 1}}))
                .unwrap();
        let faults = check(&[said], &["ebay"]);
        assert!(faults[0].1.contains("did you mean \"ebay\"?"), "{faults:?}");
    }
}
