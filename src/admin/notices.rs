//! `/v1/notices`: what a person wants to hear of.

use axum::extract::State;
use serde::Serialize;
use state::notices::{self, Event};
use utoipa::ToSchema;

use super::extract::{Json, Query};
use super::view::{self, Page, Paging};
use super::{Admin, Problem};
use crate::clock::rfc3339;

/// Something began or ended.
#[derive(Serialize, ToSchema)]
pub(super) struct Notice {
    /// Its place in the log: the newest is the greatest.
    id: String,
    time: String,
    /// `shortfall`: more was sold from a location than is there. `covered`: no longer. `low`: what is
    /// available, over all locations, fell to the SKU's mark.
    event: &'static str,
    sku: String,
    /// Of a shortfall and its end.
    location: Option<String>,
    /// Of a shortfall: units that were missing when it began.
    units: Option<i64>,
    /// Of low stock.
    available: Option<i64>,
    /// Of low stock: the mark.
    low_at: Option<i64>,
}

impl Notice {
    fn new(id: String, notice: &notices::Notice) -> Self {
        let (time, sku) = (rfc3339(notice.time), notice.sku.clone());
        let empty = Self {
            id,
            time,
            event: "covered",
            sku,
            location: None,
            units: None,
            available: None,
            low_at: None,
        };
        match &notice.event {
            Event::Covered { location } => Self { location: Some(location.clone()), ..empty },
            Event::Shortfall { location, units } => Self {
                event: "shortfall",
                location: Some(location.clone()),
                units: Some(*units),
                ..empty
            },
            Event::Low { available, low_at } => {
                Self { event: "low", available: Some(*available), low_at: Some(*low_at), ..empty }
            }
        }
    }
}

/// A notice as a message.
pub(super) fn as_json(notice: &notices::Notice) -> serde_json::Value {
    let mut shown = serde_json::to_value(Notice::new(String::new(), notice)).unwrap_or_default();
    // A message has an id of its own.
    if let Some(members) = shown.as_object_mut() {
        members.remove("id");
    }
    shown
}

/// Notices of the last seven days, in the order of the log. The id of the last one that was read is a
/// `cursor` to those after it.
#[utoipa::path(get, path = "/v1/notices", operation_id = "list_notices",
    tag = "stock", params(Paging),
    responses((status = 200, body = Page<Notice>)))]
pub(super) async fn list(
    State(admin): State<Admin>,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<Notice>>, Problem> {
    let after: Option<(u64, u32)> = paging.cursor.as_deref().map(view::place).transpose()?;
    let page = admin.look(move |frozen, _| {
        let known = frozen.data.notices.entries();
        let places = known.iter().map(|(place, _)| place);
        let (places, more) = view::first(places, after.as_ref(), paging.limit());
        let id = |(index, n): &(u64, u32)| format!("{index}.{n}");
        let next = places.last().filter(|_| more).map(|place| id(place));
        let items =
            places.iter().filter_map(|place| Some(Notice::new(id(place), known.get(*place)?)));
        Ok(Page { items: items.collect(), next })
    });
    page.await.map(Json)
}
