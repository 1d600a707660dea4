//! The search syntax of the argument `query`, as far as orders need it: terms that must all hold.

use jiff::Timestamp;

use crate::{clock::Millis, shop::Placed};

/// What orders must be to be found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Search(Vec<Term>);

#[derive(Debug, PartialEq, Eq)]
enum Term {
    Created(Comparison, Millis),
    Updated(Comparison, Millis),
    /// None for any.
    Cancelled(Option<bool>),
    Test(bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
}

impl Search {
    /// Reads a query. The error is a sentence for the caller.
    pub(super) fn read(query: &str) -> Result<Self, String> {
        let terms = terms(query)?;
        let terms = terms.iter().filter(|term| *term != "AND");
        terms.map(|term| Term::read(term)).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn finds(&self, placed: &Placed) -> bool {
        self.0.iter().all(|term| match *term {
            Term::Created(comparison, at) => comparison.holds(placed.created_ms, at),
            Term::Updated(comparison, at) => comparison.holds(placed.updated_ms, at),
            Term::Cancelled(wanted) => {
                wanted.is_none_or(|wanted| wanted == placed.image.cancelled_at.is_some())
            }
            Term::Test(wanted) => wanted == placed.image.test,
        })
    }
}

impl Term {
    fn read(term: &str) -> Result<Self, String> {
        let unknown = || format!("the search term {term:?} is not understood");
        let (field, value) = term.split_once(':').ok_or_else(unknown)?;
        match (field, value) {
            ("created_at", _) => timed(value).map(|(how, at)| Self::Created(how, at)),
            ("updated_at", _) => timed(value).map(|(how, at)| Self::Updated(how, at)),
            ("status", "any") => Some(Self::Cancelled(None)),
            ("status", "open" | "not_closed") => Some(Self::Cancelled(Some(false))),
            ("status", "cancelled") => Some(Self::Cancelled(Some(true))),
            ("test", "true" | "false") => Some(Self::Test(value == "true")),
            _ => None,
        }
        .ok_or_else(unknown)
    }
}

impl Comparison {
    fn holds(self, found: Millis, asked: Millis) -> bool {
        match self {
            Self::Less => found < asked,
            Self::LessOrEqual => found <= asked,
            Self::Equal => found == asked,
            Self::GreaterOrEqual => found >= asked,
            Self::Greater => found > asked,
        }
    }
}

fn timed(value: &str) -> Option<(Comparison, Millis)> {
    let signs = [
        (">=", Comparison::GreaterOrEqual),
        ("<=", Comparison::LessOrEqual),
        (">", Comparison::Greater),
        ("<", Comparison::Less),
        ("", Comparison::Equal),
    ];
    let (sign, time) =
        signs.into_iter().find_map(|(text, sign)| Some((sign, value.strip_prefix(text)?)))?;
    Some((sign, time.parse::<Timestamp>().ok()?.as_millisecond()))
}

/// The words of a query without their quotes. A space within quotes belongs to its word.
fn terms(query: &str) -> Result<Vec<String>, String> {
    let mut terms = Vec::new();
    let mut term = String::new();
    let mut quote = None;
    for c in query.chars() {
        match (quote, c) {
            (Some(open), _) if open == c => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, c) if c.is_whitespace() => terms.push(std::mem::take(&mut term)),
            (None, '(' | ')') => return Err("parentheses are not understood".to_owned()),
            _ => term.push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote without an end".to_owned());
    }
    terms.push(term);
    terms.retain(|term| !term.is_empty());
    Ok(terms)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A term that is read as another, or dropped, would let a reader miss orders and not notice.
    #[test]
    fn terms_mean_what_they_say() {
        let at = 1_795_186_800_000;
        for query in [
            "updated_at:>='2026-11-20T15:00:00Z' AND status:any",
            "updated_at:>=\"2026-11-20T10:00:00-05:00\"  status:any",
            "updated_at:>=2026-11-20T15:00:00.000Z status:any",
        ] {
            let wanted = [Term::Updated(Comparison::GreaterOrEqual, at), Term::Cancelled(None)];
            assert_eq!(Search::read(query).unwrap(), Search(wanted.into()), "{query}");
        }
        let read = |query| Search::read(query).unwrap().0.remove(0);
        assert_eq!(read("created_at:<'2026-11-20T15:00:00Z'"), Term::Created(Comparison::Less, at));
        assert_eq!(read("test:false"), Term::Test(false));
        assert_eq!(Search::read("").unwrap(), Search(Vec::new()));
        for query in
            ["mug", "updated_at:yesterday", "a:b", "status:any OR test:true", "updated_at:'"]
        {
            assert!(Search::read(query).is_err(), "{query}");
        }
    }
}
