//! The part of the Admin API's schema that the store knows: which fields there are, what they take, and
//! what asking for them costs. What it does not know it refuses, as the real one does.

use serde_json::{Value, json};

use super::graphql::{Field, Operation};

/// The most elements that one connection gives.
const FIRST_MAX: u64 = 250;
/// What a list without `first` is taken to hold, when its cost is asked for.
const LIST_USUAL: u64 = 10;

/// Types and their fields: `name(arguments):Type`. A field without a type is a scalar, `[Type]` is a
/// list, and `TypeConnection` is told in pages.
const SCHEMA: [(&str, &str); 17] = [
    (
        "QueryRoot",
        "inventoryItem(id):InventoryItem nodes(ids):[InventoryItem] order(id):Order \
         orders(first,after,sortKey,reverse,query):OrderConnection",
    ),
    ("Mutation", "inventorySetQuantities(input):InventorySetQuantitiesPayload"),
    (
        "InventorySetQuantitiesPayload",
        "inventoryAdjustmentGroup:InventoryAdjustmentGroup userErrors:[UserError]",
    ),
    ("UserError", "code field message"),
    (
        "InventoryAdjustmentGroup",
        "id createdAt reason referenceDocumentUri changes:[InventoryChange]",
    ),
    (
        "InventoryChange",
        "name delta quantityAfterChange ledgerDocumentUri item:Reference location:Reference",
    ),
    ("Reference", "id"),
    ("InventoryItem", "id sku tracked inventoryLevel(locationId):InventoryLevel"),
    ("InventoryLevel", "id location:Reference quantities(names):[InventoryQuantity]"),
    ("InventoryQuantity", "name quantity"),
    (
        "Order",
        "id name createdAt processedAt updatedAt cancelledAt cancelReason closedAt confirmed edited \
         test currencyCode sourceName displayFinancialStatus displayFulfillmentStatus \
         lineItems(first,after):LineItemConnection refunds(first):[Refund] \
         fulfillments(first):[Fulfillment]",
    ),
    (
        "LineItem",
        "id name title sku quantity currentQuantity unfulfilledQuantity isGiftCard requiresShipping \
         variant:ProductVariant",
    ),
    ("ProductVariant", "id sku inventoryItem:InventoryItem"),
    ("Refund", "id createdAt updatedAt note refundLineItems(first,after):RefundLineItemConnection"),
    ("RefundLineItem", "id quantity restockType restocked lineItem:LineItem location:Reference"),
    (
        "Fulfillment",
        "id name createdAt updatedAt status totalQuantity location:Reference \
         fulfillmentLineItems(first,after):FulfillmentLineItemConnection",
    ),
    ("FulfillmentLineItem", "id quantity lineItem:LineItem"),
];

/// What a field is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Scalar,
    Object(&'static str),
    List(&'static str),
    /// Elements with cursors, told in pages.
    Connection(&'static str),
    Edge(&'static str),
    PageInfo,
}

impl Kind {
    fn read(text: &'static str) -> Self {
        let list = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        match (list, text.strip_suffix("Connection")) {
            (Some(of), _) => Self::List(of),
            (None, Some(of)) => Self::Connection(of),
            (None, None) => Self::Object(text),
        }
    }

    /// What the field of this name is of, and the arguments that it takes.
    pub(super) fn field(self, name: &str) -> Option<(Self, &'static str)> {
        let fields = match self {
            Self::Object(of) | Self::List(of) => {
                SCHEMA.iter().find(|entry| entry.0 == of).map_or("", |entry| entry.1)
            }
            Self::Connection(of) => match name {
                "nodes" => return Some((Self::List(of), "")),
                "edges" => return Some((Self::Edge(of), "")),
                "pageInfo" => return Some((Self::PageInfo, "")),
                _ => "",
            },
            Self::Edge(of) if name == "node" => return Some((Self::Object(of), "")),
            Self::Edge(_) => "cursor",
            Self::PageInfo => "hasNextPage hasPreviousPage startCursor endCursor",
            Self::Scalar => "",
        };
        fields.split_whitespace().find_map(|field| {
            let (field, kind) = match field.split_once(':') {
                Some((field, kind)) => (field, Self::read(kind)),
                None => (field, Self::Scalar),
            };
            let (found, arguments) = field.split_once('(').unwrap_or((field, ""));
            (found == name).then_some((kind, arguments.trim_end_matches(')')))
        })
    }

    /// Its name, as `__typename` says it.
    pub(super) fn name(self) -> String {
        match self {
            Self::Scalar => String::new(),
            Self::Object(of) | Self::List(of) => of.to_owned(),
            Self::Connection(of) => format!("{of}Connection"),
            Self::Edge(of) => format!("{of}Edge"),
            Self::PageInfo => "PageInfo".to_owned(),
        }
    }
}

/// The type that an operation's own fields belong to.
pub(super) fn root(operation: &Operation) -> Kind {
    Kind::Object(if operation.mutation { "Mutation" } else { "QueryRoot" })
}

/// Refuses what the schema does not know. The error is an entry of the answer's `errors`.
pub(super) fn validate(operation: &Operation) -> Result<(), Value> {
    let root = root(operation);
    operation.fields.iter().try_for_each(|field| check(root, field))
}

fn check(parent: Kind, field: &Field) -> Result<(), Value> {
    if field.name == "__typename" {
        return Ok(());
    }
    let Some((kind, arguments)) = parent.field(&field.name) else {
        return Err(undefined(&field.name, &parent.name()));
    };
    let known = |name: &String| arguments.split(',').any(|argument| argument == name);
    if let Some(name) = field.arguments.keys().find(|name| !known(name)) {
        let message = format!("Field '{}' doesn't accept argument '{name}'", field.name);
        return Err(refusal("argumentNotAccepted", &message, field));
    }
    if (kind == Kind::Scalar) != field.fields.is_empty() {
        let message = format!(
            "Selections and type do not match (field '{}' returns '{}')",
            field.name,
            kind.name()
        );
        return Err(refusal("selectionMismatch", &message, field));
    }
    if let Kind::Connection(_) = kind {
        match field.arguments.get("first").and_then(Value::as_u64) {
            None => {
                let message = "you must provide one of first or last";
                return Err(refusal("BAD_REQUEST", message, field));
            }
            Some(first) if first > FIRST_MAX => {
                let message = format!("first cannot exceed {FIRST_MAX}");
                return Err(refusal("BAD_REQUEST", &message, field));
            }
            Some(_) => {}
        }
    }
    field.fields.iter().try_for_each(|inner| check(kind, inner))
}

fn undefined(field: &str, kind: &str) -> Value {
    json!({
        "message": format!("Field '{field}' doesn't exist on type '{kind}'"),
        "extensions": {"code": "undefinedField", "typeName": kind, "fieldName": field},
    })
}

/// An entry of the answer's `errors` about one field.
pub(super) fn refusal(code: &str, message: &str, field: &Field) -> Value {
    json!({"message": message, "path": [field.key], "extensions": {"code": code}})
}

/// How many elements a field asks for.
pub(super) fn size(field: &Field) -> u64 {
    field.arguments.get("first").and_then(Value::as_u64).unwrap_or(LIST_USUAL)
}

/// What a list costs beside its elements.
pub(super) fn list_cost(field: &Field) -> u64 {
    if field.arguments.contains_key("first") { 2 } else { 0 }
}

/// What asking for a field of this kind may cost: an object is one point, a scalar nothing, a
/// connection two points and its elements, and so is a list that is asked for in part.
pub(super) fn cost(kind: Kind, field: &Field) -> u64 {
    let below = |kind: Kind, field: &Field| -> u64 {
        let costs = field.fields.iter().filter_map(|inner| {
            let (kind, _) = kind.field(&inner.name)?;
            Some(cost(kind, inner))
        });
        costs.fold(0, u64::saturating_add)
    };
    match kind {
        Kind::Scalar | Kind::PageInfo => 0,
        Kind::Object(_) => below(kind, field).saturating_add(1),
        Kind::List(_) => size(field)
            .saturating_mul(below(kind, field).saturating_add(1))
            .saturating_add(list_cost(field)),
        Kind::Edge(_) => below(kind, field),
        Kind::Connection(of) => {
            let element = field.fields.iter().map(|inner| match inner.name.as_str() {
                "nodes" => cost(Kind::Object(of), inner),
                "edges" => cost(Kind::Edge(of), inner),
                _ => 0,
            });
            let element = element.fold(0, u64::saturating_add);
            size(field).saturating_mul(element).saturating_add(2)
        }
    }
}
