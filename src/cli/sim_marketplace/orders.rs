//! What a simulated marketplace is told while it runs, a line each.

use std::time::Duration;

use marketplace::Outage;

/// All that can be said, for whoever asks.
pub(super) const ALL: &str = "outage none|slow MS|error STATUS|limit SECONDS|timeout|drop|down; fault NAME CHANCE; \
    rate ORDERS_PER_SECOND; sell SKU UNITS; set SKU UNITS; expire; show";

/// One thing that it is told.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Order {
    /// What its API does from now on.
    Outage(Outage),
    /// The chance of a fault.
    Fault(String, f64),
    /// Customers a second.
    Rate(f64),
    /// A customer buys.
    Sell(String, u32),
    /// Somebody sets a quantity by hand.
    Set(String, i64),
    /// Access tokens are good no longer.
    Expire,
    /// Says what it shows.
    Show,
}

impl Order {
    /// Reads a line; an error says what could have been said.
    pub(super) fn parse(line: &str) -> Result<Self, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let wrong = || format!("{line:?} is not understood; there are: {ALL}");
        let number = |text: &str| text.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
        Ok(match words.as_slice() {
            ["outage", rest @ ..] => Self::Outage(outage(rest).ok_or_else(wrong)?),
            ["fault", name, chance] => {
                let chance = number(chance).filter(|chance| *chance <= 1.0).ok_or_else(wrong)?;
                Self::Fault((*name).to_owned(), chance)
            }
            // Which names there are depends on the kind.
            ["fault", name] => Self::Fault((*name).to_owned(), f64::NAN),
            ["rate", rate] => Self::Rate(number(rate).ok_or_else(wrong)?),
            ["sell", sku, units] => {
                Self::Sell((*sku).to_owned(), units.parse().map_err(|_| wrong())?)
            }
            ["set", sku, units] => {
                Self::Set((*sku).to_owned(), units.parse().map_err(|_| wrong())?)
            }
            ["expire"] => Self::Expire,
            ["show"] => Self::Show,
            _ => return Err(wrong()),
        })
    }
}

fn outage(words: &[&str]) -> Option<Outage> {
    Some(match words {
        ["none"] => Outage::None,
        ["slow", ms] => Outage::Slow(Duration::from_millis(ms.parse().ok()?)),
        ["error", status] => {
            Outage::ServerError(status.parse().ok().filter(|status| (500..600).contains(status))?)
        }
        ["limit", seconds] => Outage::TooManyRequests { retry_after: seconds.parse().ok()? },
        ["timeout"] => Outage::TimeoutAfterApply,
        ["drop"] => Outage::DropAfterApply,
        ["down"] => Outage::Down,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A word that is taken for another one makes a test of something else.
    #[test]
    fn what_is_said_is_understood_or_refused() {
        let outage = |text: &str| Order::parse(&format!("outage {text}"));
        assert_eq!(outage("slow 250"), Ok(Order::Outage(Outage::Slow(Duration::from_millis(250)))));
        assert_eq!(
            outage("limit 3"),
            Ok(Order::Outage(Outage::TooManyRequests { retry_after: 3 }))
        );
        assert_eq!(outage("down"), Ok(Order::Outage(Outage::Down)));
        assert_eq!(
            Order::parse(" fault row-error 0.5 "),
            Ok(Order::Fault("row-error".into(), 0.5))
        );
        assert_eq!(Order::parse("sell MUG 2"), Ok(Order::Sell("MUG".into(), 2)));
        assert_eq!(Order::parse("set MUG -2"), Ok(Order::Set("MUG".into(), -2)));
        for wrong in ["", "outage", "outage error 404", "fault x 2", "sell MUG", "rate NaN", "stop"]
        {
            assert!(Order::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
