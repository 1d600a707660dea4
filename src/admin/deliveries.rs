//! What became of deliveries: orders as the ledger believes them, and dead letters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use state::Key;
use state::command::{Asked, Letter};
use state::data::DeadLetter;
use state::order::Removal;
use state::queue::ask::Answer;
use state::reply::{Answered, Kept};
use utoipa::ToSchema;

use super::bodies::Filter;
use super::dead::{PAGE_BYTES_MAX, Redrive, Which};
use super::extract::{Json, Path};
use super::view::{self, Page, Paging};
use super::{Admin, Problem, ask};
use crate::channel::parse_again;
use crate::clock::rfc3339;
use crate::history::{Bodies, History};
use crate::replica::Frozen;

/// The topic under which webhooks that could not be applied are listed.
pub(super) const TOPIC: &str = "deliveries";

/// Dead letters applied again by one command: an order has up to a thousand lines.
const LETTERS: usize = 50;

/// An order as merged from everything heard about it.
#[derive(Serialize, ToSchema)]
pub(super) struct Order {
    channel: String,
    #[serde(rename = "order")]
    id: String,
    lines: BTreeMap<String, OrderLine>,
    /// When something was last heard of it.
    touched: String,
}

/// One line of it, in whole units.
#[derive(Serialize, ToSchema)]
pub(super) struct OrderLine {
    /// Null while no payload named one: the line waits.
    sku: Option<String>,
    location: String,
    /// The channel's own id of what was ordered, where it named one.
    listing: Option<String>,
    ordered: i64,
    cancelled: i64,
    fulfilled: i64,
    returned: i64,
    not_restocked: i64,
    /// Of it, what the ledger has committed by now.
    committed: i64,
}

/// What the ledger believes of an order, line by line.
#[utoipa::path(get, path = "/v1/orders/{channel}/{order}", operation_id = "get_order",
    tag = "deliveries",     params(("channel" = String, Path), ("order" = String, Path)),
    responses((status = 200, body = Order), (status = 404, body = Problem)))]
pub(super) async fn order(
    State(admin): State<Admin>,
    Path((channel, order)): Path<(String, String)>,
) -> Result<Json<Order>, Problem> {
    let replica = admin.read();
    let place = (channel.as_str().into(), order.as_str().into());
    let known = replica.state().data().orders.get(&place).ok_or_else(|| {
        Problem::missing(format!("nothing was heard of an order {order:?} of {channel:?}"))
    })?;
    let known = known.get();
    let lines = known.lines.iter().map(|(id, line)| {
        let implied = line.implied(known.whole);
        let not_restocked = line.removals.values().filter(|(kind, _)| *kind == Removal::NoRestock);
        let line = OrderLine {
            sku: line.sku.clone(),
            location: line.location.clone(),
            listing: line.listing.clone(),
            ordered: implied.sold,
            cancelled: implied.cancelled,
            fulfilled: implied.fulfilled,
            returned: implied.returned,
            not_restocked: not_restocked.map(|(_, quantity)| quantity).sum(),
            committed: line.moved.net().0,
        };
        (id.clone(), line)
    });
    let touched = rfc3339(known.touched);
    Ok(Json(Order { lines: lines.collect(), touched, channel, id: order }))
}

/// A delivery that could not be applied.
#[derive(Serialize, ToSchema)]
pub(super) struct Dead {
    id: String,
    reason: String,
    /// How often it could not be applied.
    attempts: u32,
    channel: String,
    topic: String,
    delivery: String,
    received: String,
    time: String,
    /// The body as it was received, if it could not be understood: text, or base64 where it is none.
    body: Option<String>,
    /// Whether `body` is base64.
    base64: bool,
    /// What was understood of it otherwise.
    understood: Option<String>,
}

/// Deliveries that could not be applied, oldest first, with their bodies.
pub(super) async fn dead(
    admin: &Admin,
    paging: Paging,
    which: Which,
    filter: Filter,
) -> Result<Json<Page<Dead>>, Problem> {
    let after = paging.cursor.as_deref().map(view::place).transpose()?;
    let takes = move |letter: &DeadLetter| takes(&which, &filter, letter);
    admin
        .look(move |frozen, history| letters(frozen, history, takes, after, paging.limit()))
        .await
        .map(Json)
}

fn takes(which: &Which, filter: &Filter, letter: &DeadLetter) -> bool {
    which.takes(&letter.reason, letter.time) && filter.takes_letter(letter)
}

/// The letters after an id, as many as were asked for, or fewer where their bodies are large.
fn letters(
    frozen: &Frozen,
    history: &History,
    takes: impl Fn(&DeadLetter) -> bool,
    after: Option<(u64, u32)>,
    limit: usize,
) -> Result<Page<Dead>, Problem> {
    let letters = frozen.data.dead.entries().iter();
    let letters = letters.filter(|(id, _)| after.is_none_or(|after| **id > after));
    let mut letters: Vec<_> = letters.filter(|(_, letter)| takes(letter)).collect();
    letters.sort_unstable_by_key(|(id, _)| *id);
    let mut bodies = history.bodies();
    let mut items = Vec::new();
    let mut bytes = 0;
    for ((index, n), letter) in &letters {
        if items.len() == limit || bytes >= PAGE_BYTES_MAX {
            break;
        }
        let (body, base64, understood) = body(&mut bodies, *index, *n)?;
        bytes += [&body, &understood].into_iter().flatten().map(String::len).sum::<usize>();
        items.push(Dead {
            id: format!("{index}.{n}"),
            reason: letter.reason.clone(),
            attempts: letter.attempts,
            channel: letter.channel.clone(),
            topic: letter.topic.clone(),
            delivery: letter.delivery.clone(),
            received: rfc3339(letter.received),
            time: rfc3339(letter.time),
            body,
            base64,
            understood,
        });
    }
    let next = items.last().filter(|_| items.len() < letters.len()).map(|last| last.id.clone());
    Ok(Page { items, next })
}

fn body(
    bodies: &mut Bodies,
    index: u64,
    n: u32,
) -> Result<(Option<String>, bool, Option<String>), Problem> {
    let kept = bodies.get(index, n).map_err(|error| Problem::internal(error.to_string()))?;
    Ok(match kept {
        None | Some(Kept::Message { .. } | Kept::Notice(_)) => (None, false, None),
        Some(Kept::Facts(facts)) => (None, false, Some(format!("{facts:?}"))),
        Some(Kept::Body(bytes)) => match String::from_utf8(bytes) {
            Ok(text) => (Some(text), false, None),
            Err(error) => (Some(STANDARD.encode(error.as_bytes())), true, None),
        },
    })
}

/// Applies dead letters again by what was understood of them, or is now, of the body as it was kept. Those of which
/// nothing is understood, or that cannot be applied now either, stay.
pub(super) async fn redrive(
    admin: &Admin,
    asked: &Redrive,
    idempotency: Option<(Key, Key)>,
) -> Result<u64, Problem> {
    let mut pieces = admin.pieces(TOPIC, idempotency).await?;
    if pieces.ended {
        return Ok(pieces.count);
    }
    for some in wanted(admin, asked).await?.chunks(LETTERS) {
        loop {
            let letters = understood(admin, some.to_vec()).await?;
            if letters.is_empty() {
                break;
            }
            match concerned(admin, pieces.take(), letters).await? {
                Became::Done(count) => {
                    pieces.count += count;
                    break;
                }
                // What another request did under this key is not what this one was about to do.
                Became::DoneBefore(count) => pieces.count += count,
                Became::Ended => return Ok(pieces.count),
            }
        }
    }
    admin.end(pieces).await
}

/// The letters that are asked for, oldest first.
async fn wanted(admin: &Admin, asked: &Redrive) -> Result<Vec<(u64, u32)>, Problem> {
    let wrong = || Problem::unprocessable("invalid", "ids: ids of dead letters");
    let ids = asked.ids.as_ref().map(|ids| ids.iter().map(|id| view::place(id)).collect());
    let ids: Option<BTreeSet<(u64, u32)>> = ids.transpose().map_err(|_: Problem| wrong())?;
    let (which, filter) = (asked.which.clone(), asked.filter.clone());
    let found = admin.look(move |frozen, _| {
        let known = frozen.data.dead.entries().iter();
        let wanted = known.filter(|(id, letter)| match &ids {
            Some(ids) => ids.contains(id),
            None => takes(&which, &filter, letter),
        });
        let mut places: Vec<_> = wanted.map(|(id, _)| *id).collect();
        places.sort_unstable();
        Ok(places)
    });
    found.await
}

/// Of some letters those that are there still and of which something is understood.
async fn understood(admin: &Admin, places: Vec<(u64, u32)>) -> Result<Vec<Letter>, Problem> {
    let config = Arc::clone(&admin.config);
    let found = admin.look(move |frozen, history| {
        let (mut letters, mut bodies) = (Vec::new(), history.bodies());
        for place in places {
            let Some(letter) = frozen.data.dead.get(&place) else { continue };
            let kept = bodies.get(place.0, place.1);
            let facts = match kept.map_err(|error| Problem::internal(error.to_string()))? {
                Some(Kept::Facts(facts)) => Some(facts),
                Some(Kept::Body(body)) => config
                    .channel(&letter.channel)
                    .and_then(|channel| parse_again(channel, &letter.topic, &body)),
                None | Some(Kept::Message { .. } | Kept::Notice(_)) => None,
            };
            letters.extend(facts.map(|facts| (place, Some(facts))));
        }
        Ok(letters)
    });
    found.await
}

/// Forgets a dead letter.
pub(super) async fn forget(admin: &Admin, id: &str) -> Result<u64, Problem> {
    let place = view::place(id);
    let place = place.map_err(|_| Problem::missing(format!("there is no dead letter {id:?}")))?;
    match concerned(admin, None, vec![(place, None)]).await? {
        Became::Done(count) | Became::DoneBefore(count) => Ok(count),
        Became::Ended => Ok(0),
    }
}

/// What became of letters that something was asked for.
enum Became {
    /// So many it concerned.
    Done(u64),
    /// Something was done under this key before, and so many that concerned.
    DoneBefore(u64),
    /// Another request under this key has come to the end.
    Ended,
}

async fn concerned(
    admin: &Admin,
    once: Option<(Key, Key)>,
    letters: Vec<Letter>,
) -> Result<Became, Problem> {
    let idempotency = once.map(|once| ask::of_topic(once, TOPIC, "redrive"));
    match admin.asked(idempotency, Asked::Letters(letters)).await? {
        ((here, first), Answered::Queue(Answer::Count(count))) if here == first => {
            Ok(Became::Done(count))
        }
        (_, Answered::Queue(Answer::Count(count))) => Ok(Became::DoneBefore(count)),
        (_, Answered::Changed(_)) => Ok(Became::Ended),
        (_, other) => Err(Problem::internal(format!("unexpected answer {other:?}"))),
    }
}
