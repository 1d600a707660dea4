//! Orders as a merchant knows them: what may become of one, step by step, and what a ledger must then say.

use std::collections::BTreeMap;

/// What is sold. The last one's listings name no SKU.
pub(crate) const SKUS: [&str; 3] = ["MUG", "TEE", "CUP"];
/// When everything begins; each step takes a minute.
pub(crate) const START_MS: u64 = 1_795_186_800_000;
pub(crate) const STEP_MS: u64 = 60_000;

/// What a kind of channel lets happen to an order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// Parts of an order can be cancelled.
    pub(crate) cancel: Part,
    /// Parts of an order can be shipped.
    pub(crate) ship: Part,
    /// Units can be taken out of a line without a refund.
    pub(crate) edits: bool,
    /// What was shipped can come back.
    pub(crate) returns: Returns,
    /// What is left can be cancelled when something was shipped.
    pub(crate) late_cancel: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Nothing,
    Units,
    Lines,
    Order,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Returns {
    Never,
    /// What comes back is put on the shelf.
    Restocked,
    /// It may also stay off the shelf.
    Either,
}

/// What somebody wants to happen. It happens as far as it can.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Cancel { line: usize, units: i64 },
    Edit { line: usize, units: i64 },
    Ship { line: usize, units: i64 },
    Return { line: usize, units: i64, restock: bool },
    CancelRest,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    Placed,
    Edited,
    Refunded,
    Shipped,
    Void,
}

#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) id: u64,
    /// Its place in [`SKUS`].
    pub(crate) item: usize,
    pub(crate) ordered: i64,
    pub(crate) edited: i64,
    pub(crate) cancelled: i64,
    pub(crate) shipped: i64,
    pub(crate) returned: i64,
    /// Refunded after it was shipped, and not put back.
    pub(crate) kept: i64,
    /// When something last happened to it.
    pub(crate) at_ms: u64,
}

impl Line {
    /// Still owed to the customer.
    pub(crate) fn open(&self) -> i64 {
        self.ordered - self.edited - self.cancelled - self.shipped
    }

    fn count(&mut self, done: Done, fate: Option<Fate>) -> &mut i64 {
        match fate {
            Some(Fate::Cancelled) => &mut self.cancelled,
            Some(Fate::Returned) => &mut self.returned,
            Some(Fate::Kept) => &mut self.kept,
            None if done == Done::Edited => &mut self.edited,
            None => &mut self.shipped,
        }
    }

    pub(crate) fn sku(&self) -> &'static str {
        SKUS[self.item]
    }

    /// The SKU as payloads name it.
    pub(crate) fn named_sku(&self) -> Option<&'static str> {
        (self.item < 2).then(|| self.sku())
    }
}

/// What becomes of refunded units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Cancelled,
    Returned,
    Kept,
}

/// Units of lines, by their place, that were refunded or shipped together.
#[derive(Clone, Debug)]
pub(crate) struct Parcel {
    pub(crate) id: u64,
    pub(crate) at_ms: u64,
    /// Nothing of a shipment.
    pub(crate) fate: Option<Fate>,
    pub(crate) rows: Vec<(usize, i64)>,
}

/// An order at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) id: u64,
    pub(crate) at_ms: u64,
    pub(crate) done: Done,
    pub(crate) void: bool,
    pub(crate) lines: Vec<Line>,
    /// Refunds and shipments, oldest first.
    pub(crate) parcels: Vec<Parcel>,
}

/// What happens, what becomes of refunded units, and how many of which lines are wanted at the most.
type Wanted = (Done, Option<Fate>, Vec<(usize, i64)>);

impl Order {
    pub(crate) fn place(id: u64, lines: &[(usize, i64)]) -> Self {
        let line = |(n, (item, ordered)): (u64, &(usize, i64))| Line {
            id: id * 10 + n,
            item: *item,
            ordered: *ordered,
            edited: 0,
            cancelled: 0,
            shipped: 0,
            returned: 0,
            kept: 0,
            at_ms: START_MS,
        };
        let lines = (1..).zip(lines).map(line).collect();
        let (done, parcels) = (Done::Placed, Vec::new());
        Self { id, at_ms: START_MS, done, void: false, lines, parcels }
    }

    pub(crate) fn any_shipped(&self) -> bool {
        self.lines.iter().any(|line| line.shipped > 0)
    }

    /// The order after a step; nothing if it is none of this kind, or comes too late.
    pub(crate) fn after(&self, step: Step, manner: Manner) -> Option<Self> {
        let (done, fate, wanted) = self.wanted(step, manner)?;
        let mut next = self.clone();
        next.at_ms += STEP_MS;
        (next.done, next.void) = (done, self.void || done == Done::Void);
        let mut rows = Vec::new();
        for (place, wanted) in wanted {
            let line = &mut next.lines[place];
            let came = line.shipped - line.returned - line.kept;
            let back = matches!(fate, Some(Fate::Returned | Fate::Kept));
            let units = wanted.min(if back { came } else { line.open() });
            if units > 0 {
                *line.count(done, fate) += units;
                line.at_ms = next.at_ms;
                rows.push((place, units));
            }
        }
        if rows.is_empty() {
            return None;
        }
        if done != Done::Edited {
            let n = u64::try_from(next.parcels.len()).unwrap();
            next.parcels.push(Parcel { id: self.id * 100 + n, at_ms: next.at_ms, fate, rows });
        }
        Some(next)
    }

    /// What a step comes to.
    fn wanted(&self, step: Step, manner: Manner) -> Option<Wanted> {
        const ALL: i64 = i64::MAX;
        let count = self.lines.len();
        let whole = || (0..count).map(|line| (line, ALL)).collect();
        // A kind that ships whole orders has nothing left to change then but what comes back.
        let closed = self.void || manner.ship == Part::Order && self.any_shipped();
        let fate = |restock: bool| match manner.returns {
            Returns::Never => None,
            Returns::Either if !restock => Some(Fate::Kept),
            _ => Some(Fate::Returned),
        };
        match step {
            Step::Return { line, units, restock } => {
                Some((Done::Refunded, Some(fate(restock)?), vec![(line % count, units)]))
            }
            _ if closed => None,
            Step::Cancel { line, units } => {
                let untouched = |line: &Line| line.open() == line.ordered;
                let units = match manner.cancel {
                    Part::Units => units,
                    Part::Lines if untouched(&self.lines[line % count]) => ALL,
                    _ => return None,
                };
                Some((Done::Refunded, Some(Fate::Cancelled), vec![(line % count, units)]))
            }
            Step::Edit { line, units } => {
                manner.edits.then(|| (Done::Edited, None, vec![(line % count, units)]))
            }
            Step::Ship { line, units } => {
                let parcel = match manner.ship {
                    Part::Units => vec![(line % count, units)],
                    Part::Lines => vec![(line % count, ALL)],
                    Part::Order | Part::Nothing => whole(),
                };
                Some((Done::Shipped, None, parcel))
            }
            Step::CancelRest => {
                let may = manner.late_cancel || !self.any_shipped();
                may.then(|| (Done::Void, Some(Fate::Cancelled), whole()))
            }
        }
    }

    /// Refunds, oldest first.
    pub(crate) fn refunds(&self) -> impl Iterator<Item = (&Parcel, Fate)> {
        self.parcels.iter().filter_map(|parcel| Some((parcel, parcel.fate?)))
    }

    /// Shipments, oldest first.
    pub(crate) fn shipments(&self) -> impl Iterator<Item = &Parcel> {
        self.parcels.iter().filter(|parcel| parcel.fate.is_none())
    }
}

/// Committed and on hand by SKU, once everything is known.
pub(crate) fn truth<'a>(
    orders: impl IntoIterator<Item = &'a Order>,
) -> BTreeMap<String, (i64, i64)> {
    let mut levels: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for line in orders.into_iter().flat_map(|order| &order.lines) {
        let level = levels.entry(line.sku().into()).or_default();
        level.0 += line.open();
        level.1 += line.returned - line.shipped;
    }
    levels.retain(|_, level| *level != (0, 0));
    levels
}
