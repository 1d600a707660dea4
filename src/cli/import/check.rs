//! What a row must be, before any row of its file is sent.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::num::IntErrorKind;

use serde_json::{Map, Value, json};
use state::ledger::{Kind as Movement, is_quantity};
use state::limits::QUANTITY_MAX;

use crate::admin::export::{LEVEL_COLUMNS, MOVEMENT_COLUMNS};
use crate::admin::movements::Asked;
use crate::cli::rows::Row;
use crate::config::nearest;

const LEVEL_TAKEN: [&str; 3] = ["sku", "location", "on_hand"];
const MOVEMENT_TAKEN: [&str; 10] = [
    "id",
    "kind",
    "sku",
    "quantity",
    "location",
    "to_location",
    "channel",
    "reference",
    "reason",
    "occurred_at",
];

/// What a file is of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// What is there.
    Levels,
    /// What moved.
    Movements,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Levels => "levels",
            Self::Movements => "movements",
        }
    }

    /// The columns that count; the others that an export has are passed over.
    fn taken(self) -> &'static [&'static str] {
        match self {
            Self::Levels => &LEVEL_TAKEN,
            Self::Movements => &MOVEMENT_TAKEN,
        }
    }

    fn exported(self) -> &'static [&'static str] {
        match self {
            Self::Levels => &LEVEL_COLUMNS,
            Self::Movements => &MOVEMENT_COLUMNS,
        }
    }

    fn required(self) -> &'static [&'static str] {
        match self {
            Self::Levels => &["sku", "on_hand"],
            Self::Movements => &["kind", "sku", "quantity"],
        }
    }

    fn unknown(self, column: &str) -> Option<String> {
        let known = || self.taken().iter().chain(self.exported()).copied();
        if column.is_empty() || known().any(|name| name == column) {
            return None;
        }
        let near = nearest(column, known()).map(|name| format!("; is {name:?} meant?"));
        Some(format!("{} have no column {column:?}{}", self.name(), near.unwrap_or_default()))
    }
}

/// What a row that is right means.
pub(super) enum Checked {
    /// A movement to be booked, without `as_of` and perhaps without `id`.
    Row(Value),
    /// Units that were held or let go: a reservation cannot be imported.
    Nothing,
}

/// Checks rows, one after the other.
pub(super) struct Checker {
    kind: Kind,
    /// Where a level is that names no location.
    main: String,
    /// Hashes of what may be there once only. Eight bytes a row: of a hundred million rows, one in four
    /// thousand files would be refused for two that are not the same.
    seen: HashSet<u64>,
    hasher: RandomState,
}

impl Checker {
    /// A checker of the rows of a file with these columns.
    pub(super) fn new(columns: &[&str], main: &str) -> Result<Self, String> {
        let has = |name: &str| columns.contains(&name);
        let kind = match (has("kind"), has("on_hand")) {
            (true, _) => Kind::Movements,
            (false, true) => Kind::Levels,
            _ => {
                let why =
                    "levels need the columns sku and on_hand, movements kind, sku and quantity";
                return Err(format!("{why}; these are {}", columns.join(", ")));
            }
        };
        if let Some(unknown) = columns.iter().find_map(|column| kind.unknown(column)) {
            return Err(unknown);
        }
        if let Some(missing) = kind.required().iter().find(|name| !has(name)) {
            return Err(format!("{} need a column {missing}", kind.name()));
        }
        let (seen, hasher) = (HashSet::new(), RandomState::new());
        Ok(Self { kind, main: main.into(), seen, hasher })
    }

    pub(super) const fn kind(&self) -> Kind {
        self.kind
    }

    /// What a row means, or why it cannot be imported.
    pub(super) fn check(&mut self, row: &Row) -> Result<Checked, String> {
        if let Some(unknown) = row.cells.iter().find_map(|(name, _)| self.kind.unknown(name)) {
            return Err(unknown);
        }
        if let Some(empty) = self.kind.required().iter().find(|name| row.get(name).is_none()) {
            return Err(format!("{empty}: nothing stands here"));
        }
        let movement = match self.kind {
            Kind::Levels => level(row)?,
            Kind::Movements
                if matches!(row.get("kind"), Some("hold" | "release" | "grant" | "surrender")) =>
            {
                return Ok(Checked::Nothing);
            }
            Kind::Movements => movement(row)?,
        };
        // What the node would refuse for its shape is told here, with its line.
        let mut whole = movement.clone();
        whole.entry("id").or_insert(json!("import"));
        if self.kind == Kind::Levels {
            whole.insert("as_of".into(), json!(0));
        }
        let asked: Asked = serde_json::from_value(whole.into()).map_err(|why| why.to_string())?;
        asked.check(&self.main)?;
        self.once(row)?;
        Ok(Checked::Row(movement.into()))
    }

    fn once(&mut self, row: &Row) -> Result<(), String> {
        let (what, hash) = match (self.kind, row.get("id")) {
            (Kind::Levels, _) => {
                let location = row.get("location").unwrap_or(&self.main);
                let hash = self.hasher.hash_one((row.get("sku"), location));
                ("this SKU at this location", hash)
            }
            (Kind::Movements, Some(id)) => ("this id", self.hasher.hash_one(id)),
            (Kind::Movements, None) => return Ok(()),
        };
        if self.seen.insert(hash) {
            return Ok(());
        }
        Err(format!("{what} stands in an earlier row too"))
    }
}

/// A level as a count of what is there.
fn level(row: &Row) -> Result<Map<String, Value>, String> {
    let on_hand = whole(row, "on_hand")?;
    if on_hand < 0 {
        return Err("on_hand: nothing below zero can be counted; import 0, or an adjustment".into());
    }
    if on_hand > QUANTITY_MAX {
        return Err(format!("on_hand: {QUANTITY_MAX} at the most"));
    }
    let mut fields = texts(row, &["sku", "location"]);
    fields.insert("kind".into(), json!(Movement::Adjustment.name()));
    fields.insert("count".into(), json!(on_hand));
    fields.insert("reason".into(), json!("import"));
    Ok(fields)
}

fn movement(row: &Row) -> Result<Map<String, Value>, String> {
    let quantity = whole(row, "quantity")?;
    let kind = Movement::NAMES.iter().find(|(name, _)| row.get("kind") == Some(*name));
    if let Some((name, kind)) = kind.filter(|(_, kind)| !is_quantity(*kind, quantity)) {
        return Err(match quantity {
            0 => "quantity: zero moves nothing; leave the row out".into(),
            n if n < 0 && *kind != Movement::Adjustment => {
                format!(
                    "quantity: negative; a {name} is positive, only an adjustment may be negative"
                )
            }
            _ => format!("quantity: {QUANTITY_MAX} at the most"),
        });
    }
    let to = row.get("to_location");
    if row.get("kind") == Some("transfer") && (to.is_none() || to == row.get("location")) {
        return Err("to_location: a transfer needs one that differs from location".into());
    }
    let names: Vec<&str> = MOVEMENT_TAKEN.into_iter().filter(|name| *name != "quantity").collect();
    let mut fields = texts(row, &names);
    fields.insert("quantity".into(), json!(quantity));
    // An exported line says when it was agreed on, where it does not say when it happened.
    if let (Some(time), false) = (row.get("time"), fields.contains_key("occurred_at")) {
        fields.insert("occurred_at".into(), json!(time));
    }
    Ok(fields)
}

fn texts(row: &Row, names: &[&str]) -> Map<String, Value> {
    let texts = names.iter().filter_map(|name| Some(((*name).to_string(), json!(row.get(name)?))));
    texts.collect()
}

/// A whole number, as people and spreadsheets write them without separators.
fn whole(row: &Row, column: &str) -> Result<i64, String> {
    let text = row.get(column).unwrap_or_default();
    text.parse::<i64>().map_err(|error| match error.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => {
            format!("{column}: {text} is too large")
        }
        _ => format!("{column}: {text:?} is not a whole number; write 1234, not 1,234 or 1234.0"),
    })
}
