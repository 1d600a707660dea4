//! Times and numbers as strangers write them.

use channels::json::Scalar;
use channels::time;
use state::limits::{NAME_LEN_MAX, QUANTITY_MAX, TIME_MAX};

pub(crate) fn any(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    for read in [time::rfc3339, time::utc] {
        let Ok(ms) = read(text) else { continue };
        assert!(ms <= TIME_MAX, "{text:?} is {ms}");
        // Written anew it is the same moment.
        let again = i64::try_from(ms).map(jiff::Timestamp::from_millisecond);
        let again = again.expect("it fits").expect("it is in the calendar").to_string();
        assert_eq!(time::rfc3339(&again), Ok(ms), "{text:?}");
    }
    number(&Scalar::Text(text.into()));
    if let Ok(scalar) = serde_json::from_str::<Scalar>(text) {
        number(&scalar);
    }
}

fn number(scalar: &Scalar) {
    if let Ok(units) = scalar.units() {
        assert!((0..=QUANTITY_MAX).contains(&units));
        assert_eq!(scalar.whole(), Ok(units));
    }
    if let Ok(whole) = scalar.whole()
        && let Ok(float) = scalar.text().trim().parse::<f64>()
        && whole.unsigned_abs() < 1 << 53
    {
        let written = whole.to_string().parse::<f64>();
        assert_eq!(written, Ok(float), "{scalar:?} is not {whole}");
    }
    if let Ok(id) = scalar.id("an id") {
        assert!(!id.is_empty() && id.len() <= NAME_LEN_MAX && id == id.trim());
    }
}
