//! Has the target prove that it belongs to the seller, before anything is sent to it.

use std::sync::Arc;

use hyper::{StatusCode, Uri};
use tokio::time::sleep;

use super::{
    Subscription,
    courier::exchange,
    dialect::Handshake,
    state::{Inner, State},
};
use crate::history::Outcome;

/// Shakes hands whenever a subscription is pending, until the sender closes.
pub(super) async fn keep(inner: Arc<Inner>) {
    tokio::select! {
        biased;
        () = inner.stop.cancelled() => {}
        () = forever(&inner) => {}
    }
}

async fn forever(inner: &Inner) {
    let pending = |s: &State| s.subscription == Subscription::Pending && !s.targets.is_empty();
    let mut tried = 0;
    loop {
        inner.wait_until(pending).await;
        if !shake(inner, tried).await {
            sleep(inner.options.handshake_retry).await;
        }
        tried += 1;
    }
}

/// One try, of one target after the other. True if there is nothing to wait for.
async fn shake(inner: &Inner, tried: usize) -> bool {
    let (targets, handshake, answer_max) = {
        let state = inner.lock();
        let targets = Arc::clone(&state.targets);
        let Some(target) = tried.checked_rem(targets.len()).and_then(|at| targets.get(at)) else {
            return true;
        };
        let nonce = state.fate(&format!("challenge {tried}")).uuid();
        let handshake = state.dialect.handshake(target, &nonce);
        (Arc::clone(&state.targets), handshake, state.dialect.manner().answer_max)
    };
    let Some(Handshake { request, proves }) = handshake else {
        inner.act(|state| state.subscription = Subscription::Active);
        return true;
    };
    let outcome = exchange(inner, request, answer_max).await;
    let proven = match &outcome {
        Outcome::Answered { status, body } => {
            StatusCode::from_u16(*status).is_ok_and(|status| proves(status, body))
        }
        _ => false,
    };
    inner.act(|state| {
        let stale = !same(&state.targets, &targets);
        if proven {
            state.stats.handshakes += 1;
        } else {
            state.stats.handshakes_failed += 1;
        }
        if proven && !stale && state.subscription == Subscription::Pending {
            state.subscription = Subscription::Active;
        }
        proven || stale
    })
}

fn same(one: &Arc<[Uri]>, other: &Arc<[Uri]>) -> bool {
    Arc::ptr_eq(one, other)
}
