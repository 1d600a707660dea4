//! `stockraft plan`: what a buffer costs, and what it saves.
//!
//! * A buffer is the least that is too small with no more than the risk, if sales come by chance (Poisson): shared, for
//!   what the other channels sell during the lag; split, for what the channel sells itself.
//! * Oversells a year, shared: each time that the stock is sold out (v · 8760 / stock times a year) the last unit goes
//!   at channel i, with the chance `v_i / v`, and the others go on for one lag. Beyond the buffer b that is
//!   `E[(X − b)⁺]` with X ~ `Poisson((v − v_i) · lag)`: see [`poisson`].
//! * Split, no channel sells of another's share, and no raise is sent that could: none.
//! * Stranded: shared, the smallest buffer, which nobody shows; split, all of them. Without any rebalance `√(S p (1 −
//!   p) / 2π)` units are asked for at channel i while they lie in other shares, when S units are sold: the normal
//!   approximation of the binomial, whose loss at its mean is `σ / √2π`.

use std::time::Duration;

use clap::Args;
use hyper::Method;
use serde_json::{Value, json};

use super::ask::{ask, ask_all, encode, show};
use super::{Failure, Target};
use crate::config::{Part, in_percent};
use crate::poisson::{self, float};

const HOURS_A_YEAR: f64 = 8_760.0;

#[derive(Args)]
pub(super) struct Plan {
    /// The SKU: what is not given is asked of the node.
    #[arg(long, required_unless_present = "velocity")]
    sku: Option<String>,
    /// Units sold an hour, on all channels together.
    #[arg(long)]
    velocity: Option<f64>,
    /// How long until a channel has heard of a sale elsewhere; the longest that was measured if not given.
    #[arg(long)]
    lag: Option<humantime::Duration>,
    /// How likely a buffer may be too small, each time.
    #[arg(long, default_value = "0.1%")]
    risk: String,
    /// Channels that sell, each as much as the others, with --velocity.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=256))]
    channels: u32,
    /// Units that are sold until the stock comes in again; what is available now if not given.
    #[arg(long, value_parser = clap::value_parser!(i64).range(1..))]
    stock: Option<i64>,
    #[command(flatten)]
    target: Target,
}

/// What is planned for.
struct Given {
    /// Units an hour, by channel.
    channels: Vec<(String, f64)>,
    lag: Duration,
    risk: f64,
    stock: f64,
}

pub(super) async fn run(plan: Plan) -> Result<(), Failure> {
    let risk = Part::parse(&plan.risk).map_err(|why| Failure::Usage(format!("--risk: {why}")))?;
    if risk.0 == 0 {
        return Err(Failure::Usage("--risk: above 0%; no buffer is large enough for none".into()));
    }
    if plan.velocity.is_some_and(|velocity| !(velocity.is_finite() && velocity >= 0.0)) {
        return Err(Failure::Usage("--velocity: units an hour, 0 or more".into()));
    }
    let mut lag = plan.lag.map(Into::into);
    let mut stock = plan.stock;
    let channels = match (plan.velocity, &plan.sku) {
        (Some(velocity), _) => {
            let each = velocity / f64::from(plan.channels);
            (1..=plan.channels).map(|n| (format!("channel {n}"), each)).collect()
        }
        (None, Some(sku)) => {
            let known = known(&plan.target, sku).await?;
            lag = lag.or(known.lag);
            stock = stock.or(Some(known.available.max(1)));
            known.channels
        }
        (None, None) => Vec::new(),
    };
    let promised = Duration::from_millis(state::limits::WINDOW_SALE_MS);
    let given = Given {
        channels,
        lag: lag.unwrap_or(promised),
        risk: f64::from(risk.0) / f64::from(state::policy::WHOLE_PPM),
        stock: float(stock.unwrap_or(100).unsigned_abs()),
    };
    let mut answer = given.answer();
    if let Some(answer) = answer.as_object_mut() {
        answer.insert("sku".into(), json!(plan.sku));
        answer.insert("risk".into(), json!(in_percent(risk.0)));
    }
    show(&plan.target, &answer, table);
    Ok(())
}

/// What a node knows of a SKU.
struct Known {
    channels: Vec<(String, f64)>,
    available: i64,
    lag: Option<Duration>,
}

async fn known(target: &Target, sku: &str) -> Result<Known, Failure> {
    let stock = ask(target, Method::GET, &format!("/v1/stock/{}", encode(sku)), None).await?;
    let listings = stock.get("channels").and_then(Value::as_object).cloned().unwrap_or_default();
    let velocity = |listing: &Value| listing.get("velocity_per_hour")?.as_f64();
    let channels: Vec<(String, f64)> = listings
        .iter()
        .map(|(name, listing)| (name.clone(), velocity(listing).unwrap_or(0.0)))
        .collect();
    if channels.is_empty() {
        let why = format!("{sku:?} is listed on no channel: give --velocity and --channels");
        return Err(Failure::Operation(why));
    }
    let answer = ask_all(target, "/v1/channels", u64::MAX).await?;
    let items = answer.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    let here = |channel: &&Value| {
        let name = channel.get("name").and_then(Value::as_str);
        name.is_some_and(|name| listings.contains_key(name))
    };
    let lags = items.iter().filter(here).filter_map(|channel| channel.get("lag_ms")?.as_u64());
    let available = stock.get("available").and_then(Value::as_i64).unwrap_or(0);
    Ok(Known { channels, available, lag: lags.max().map(Duration::from_millis) })
}

impl Given {
    fn answer(&self) -> Value {
        let hours = self.lag.as_secs_f64() / 3_600.0;
        let all: f64 = self.channels.iter().map(|(_, velocity)| velocity).sum();
        let part = |velocity: f64| if all > 0.0 { velocity / all } else { 0.0 };
        let shared = |velocity: f64| poisson::buffer((all - velocity).max(0.0) * hours, self.risk);
        let split = |velocity: f64| poisson::buffer(velocity * hours, self.risk);
        let least = self.channels.iter().map(|(_, v)| shared(*v)).min().unwrap_or(0);
        let of_split: i64 = self.channels.iter().map(|(_, v)| split(*v)).sum();
        let sold_out = all * HOURS_A_YEAR / self.stock;
        let oversold = |buffer: i64| -> f64 {
            let each = self.channels.iter().map(|(_, velocity)| {
                let others = (all - velocity).max(0.0) * hours;
                part(*velocity) * poisson::beyond(others, buffer)
            });
            sold_out * each.sum::<f64>()
        };
        let elsewhere = |(_, velocity): &(String, f64)| {
            let p = part(*velocity);
            (self.stock * p * (1.0 - p) / std::f64::consts::TAU).sqrt()
        };
        let elsewhere: f64 = self.channels.iter().map(elsewhere).sum();
        let channels = self.channels.iter().map(|(name, velocity)| {
            json!({
                "channel": name, "velocity_per_hour": velocity,
                "buffer_shared": shared(*velocity), "buffer_split": split(*velocity),
            })
        });
        json!({
            "lag_ms": u64::try_from(self.lag.as_millis()).unwrap_or(u64::MAX),
            "velocity_per_hour": all,
            "stock": self.stock,
            "sold_out_a_year": sold_out,
            "channels": channels.collect::<Vec<_>>(),
            "shared": {
                "oversells_a_year_without_buffer": oversold(0),
                "oversells_a_year": oversold(least),
                "stranded": least,
            },
            "split": {
                "oversells_a_year_without_buffer": 0.0,
                "oversells_a_year": 0.0,
                "stranded": of_split,
                "in_other_shares_without_rebalance": elsewhere,
            },
        })
    }
}

fn table(answer: &Value) -> Vec<Vec<String>> {
    let number = |at: &str| {
        let value = answer.pointer(at).and_then(Value::as_f64).unwrap_or(0.0);
        let text = format!("{value:.3}");
        text.trim_end_matches('0').trim_end_matches('.').to_string()
    };
    let text = |at: &str| answer.pointer(at).and_then(Value::as_str).unwrap_or("-").to_string();
    let row = |cells: [&str; 4]| cells.map(Into::into).to_vec();
    let mut rows = vec![
        vec!["sku".into(), text("/sku")],
        vec!["sold an hour".into(), number("/velocity_per_hour")],
        vec!["lag".into(), format!("{} ms", number("/lag_ms"))],
        vec!["risk".into(), text("/risk")],
        vec!["stock".into(), number("/stock")],
        vec!["sold out a year".into(), number("/sold_out_a_year")],
        Vec::new(),
        row(["channel", "sold an hour", "buffer shared", "buffer split"]),
    ];
    let count = answer.get("channels").and_then(Value::as_array).map_or(0, Vec::len);
    rows.extend((0..count).map(|n| {
        let of = |name: &str| format!("/channels/{n}/{name}");
        let numbers = ["velocity_per_hour", "buffer_shared", "buffer_split"];
        let numbers = numbers.map(|name| number(&of(name)));
        std::iter::once(text(&of("channel"))).chain(numbers).collect()
    }));
    rows.push(Vec::new());
    rows.push(row(["", "oversells a year", "without buffers", "stranded"]));
    for mode in ["shared", "split"] {
        let names = ["oversells_a_year", "oversells_a_year_without_buffer", "stranded"];
        let numbers = names.map(|name| number(&format!("/{mode}/{name}")));
        rows.push(std::iter::once(mode.to_string()).chain(numbers).collect());
    }
    let elsewhere = number("/split/in_other_shares_without_rebalance");
    rows.push(Vec::new());
    rows.push(vec![format!(
        "without rebalancing {elsewhere} more lie in other shares, on average"
    )]);
    rows
}

#[cfg(test)]
mod tests {

    use super::*;

    // A plan that promises less than comes, or asks for more than is needed, is worse than none.
    #[test]
    fn a_plan_adds_up() {
        let given = |channels: &[f64], lag: u64| Given {
            channels: channels.iter().map(|v| (v.to_string(), *v)).collect(),
            lag: Duration::from_secs(lag),
            risk: 0.001,
            stock: 100.0,
        };
        // Each of two hears late of the other's four an hour: the table's 5.
        let answer = given(&[4.0, 4.0], 900).answer();
        assert_eq!(answer["channels"][0]["buffer_shared"], 5);
        assert_eq!(
            (&answer["shared"]["stranded"], &answer["split"]["stranded"]),
            (&5.into(), &10.into())
        );
        // Sold out 700.8 times a year; the other sells one more each time.
        let bare = answer["shared"]["oversells_a_year_without_buffer"].as_f64().unwrap();
        assert!((bare - 700.8).abs() < 1e-6, "{answer}");
        let left = answer["shared"]["oversells_a_year"].as_f64().unwrap();
        assert!(left > 0.0 && left < 0.001 * bare, "{answer}");
        // One channel alone cannot oversell, nor one that hears at once, nor one that sells nothing.
        for alone in [given(&[8.0], 900), given(&[4.0, 4.0], 0), given(&[0.0, 0.0], 900)] {
            let answer = alone.answer();
            assert_eq!(answer["shared"]["oversells_a_year_without_buffer"], 0.0, "{answer}");
            assert_eq!(answer["shared"]["stranded"], 0, "{answer}");
        }
        assert!(table(&answer).iter().flatten().any(|cell| cell == "700.8"));
    }
}
