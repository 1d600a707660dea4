//! How many sales come while a channel does not know better: Poisson's distribution, summed term by term.
//!
//! * `P(X > b) = Σ e^−λ λ^k / k!` over k > b. The terms are exponentials of `k ln λ − λ − ln k!`, since `λ^k` and `k!`
//!   leave the range of floats long before their quotient does, and are added from the smallest on.
//! * `E[(X − b)⁺] = λ P(X ≥ b) − b P(X ≥ b + 1)`, the loss function of a Poisson demand (Zipkin, *Foundations of
//!   Inventory Management*, 2000, C.2.3).

/// The largest λ that is computed with; more counts as this.
const MEAN_MAX: f64 = 1_000_000.0;

/// The probabilities of 0, 1, 2 … sales, as far as any is worth adding.
fn terms(mean: f64) -> Vec<f64> {
    let mean = mean.clamp(0.0, MEAN_MAX);
    if mean == 0.0 {
        return vec![1.0];
    }
    // Beyond, all terms together are below 1e-20.
    let last = mean + 10.0 * mean.sqrt() + 40.0;
    let (mut k, mut log_factorial) = (0.0_f64, 0.0_f64);
    let mut found = Vec::new();
    while k <= last {
        found.push((k * mean.ln() - mean - log_factorial).exp());
        k += 1.0;
        log_factorial += k.ln();
    }
    found
}

/// The smallest buffer that is too small with no more than this probability, if so many sales come on average.
#[must_use]
pub(crate) fn buffer(mean: f64, risk: f64) -> i64 {
    let terms = terms(mean);
    let mut units = i64::try_from(terms.len()).unwrap_or(i64::MAX);
    let mut beyond = 0.0;
    for term in terms.iter().rev() {
        if beyond + term > risk {
            return units - 1;
        }
        beyond += term;
        units -= 1;
    }
    0
}

/// Sales beyond a buffer, on average.
#[must_use]
pub(crate) fn beyond(mean: f64, buffer: i64) -> f64 {
    let at_least = |units: i64| -> f64 {
        let first = usize::try_from(units.max(0)).unwrap_or(usize::MAX);
        terms(mean).iter().skip(first).rev().sum()
    };
    let (mean, units) = (mean.clamp(0.0, MEAN_MAX), float(buffer.max(0).unsigned_abs()));
    (mean * at_least(buffer) - units * at_least(buffer + 1)).max(0.0)
}

/// A count as a float; exact up to 2^53.
#[must_use]
pub(crate) fn float(count: u64) -> f64 {
    let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).map_or(0.0, f64::from);
    half(count >> 32) * 4_294_967_296.0 + half(count)
}

/// The nearest count; 0 of what is below, the most that is sensible of what is above or no number.
#[must_use]
pub(crate) fn count(float: f64) -> u64 {
    let most = 1e18;
    #[expect(
        clippy::as_conversions,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bounded"
    )]
    let count = float.clamp(0.0, most).round() as u64;
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    // A buffer of one unit less than it must be oversells ten times as often as was asked for.
    #[test]
    fn buffers_are_those_of_the_table() {
        for (an_hour, minutes, expected) in
            [(4.0, 15.0, 5), (20.0, 15.0, 13), (20.0, 5.0 / 60.0, 1), (120.0, 5.0 / 60.0, 2)]
        {
            assert_eq!(buffer(an_hour * minutes / 60.0, 0.001), expected, "{an_hour} an hour");
        }
        assert_eq!((buffer(0.0, 0.001), buffer(f64::NAN, 0.001)), (0, 0));
        // Near the mean where much is sold, by the normal approximation: λ + 3.09 √λ.
        let large = buffer(100_000.0, 0.001);
        assert!((100_970..100_985).contains(&large), "{large}");
        for (mean, risk) in [(0.3, 0.01), (7.5, 0.000_001), (2_000.0, 0.5)] {
            let found = buffer(mean, risk);
            let tail =
                |b: i64| terms(mean).iter().skip(usize::try_from(b + 1).unwrap()).sum::<f64>();
            assert!(tail(found) <= risk && tail(found - 1) > risk, "{mean} {risk}: {found}");
        }
    }

    // Oversells that are expected must be what a simulation would count.
    #[test]
    fn sales_beyond_a_buffer_are_summed() {
        for (mean, buffer) in [(1.0, 0), (1.0, 5), (5.0, 3), (40.0, 45)] {
            let terms = terms(mean);
            let summed: f64 = (0_i64..)
                .zip(&terms)
                .map(|(k, p)| float((k - buffer).max(0).unsigned_abs()) * p)
                .sum();
            assert!((beyond(mean, buffer) - summed).abs() < 1e-9, "{mean} {buffer}");
        }
        assert!((beyond(3.0, 0) - 3.0).abs() < 1e-12);
        assert_eq!([0, 7, 1 << 40].map(|n| count(float(n))), [0, 7, 1 << 40]);
        assert_eq!(count(f64::NAN), 0);
    }
}
