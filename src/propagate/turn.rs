//! The calls that one push or one reading makes, each as the channel's rate allows and as the lease does.
//!
//! A push may take several calls, some of them minutes apart: what is shown is read before it is set, a document is
//! uploaded before a feed is made of it. So whether this node may still push is asked again before each.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::own::Owned;
use super::pace::{Pace, Urgency};
use crate::channel::api::gate::{Gate, through};

/// Whose calls they are.
pub(super) struct Turn {
    pace: Arc<Pace>,
    urgency: Urgency,
    /// Whose lease they need; a reading needs none.
    own: Option<Arc<Owned>>,
    /// Whether the next call is taken from the pace already.
    paid: AtomicBool,
}

impl Turn {
    /// A reading whose first call is taken from the pace.
    pub(super) fn reading(pace: &Arc<Pace>, urgency: Urgency) -> Self {
        Self { pace: Arc::clone(pace), urgency, own: None, paid: AtomicBool::new(true) }
    }

    /// A push whose first call is taken from the pace.
    pub(super) fn setting(pace: &Arc<Pace>, urgency: Urgency, own: &Arc<Owned>) -> Self {
        Self { own: Some(Arc::clone(own)), ..Self::reading(pace, urgency) }
    }

    /// Makes the calls.
    pub(super) async fn take<F: Future>(self, calls: F) -> F::Output {
        through(Arc::new(self), calls).await
    }
}

impl Gate for Turn {
    fn pass(&self) -> BoxFuture<'_, Result<Option<u64>, String>> {
        let pass = async {
            if !self.paid.swap(false, Ordering::Relaxed) {
                self.pace.more(self.urgency).await;
            }
            match &self.own {
                Some(own) if own.is_held() => Ok(Some(own.epoch)),
                Some(_) => Err("the lease is over: another node may push to the channel".into()),
                None => Ok(None),
            }
        };
        pass.boxed()
    }
}
