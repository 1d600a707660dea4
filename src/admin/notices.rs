//! `/v1/notices`: what a person wants to hear of.

use axum::extract::State;

use super::extract::{Json, Query};
use super::view::{self, Page, Paging};
use super::{Admin, Problem};
use crate::notice::Notice;

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
