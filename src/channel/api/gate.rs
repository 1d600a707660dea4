//! Who is asked before each call. It is one place, so that no client can forget it, however many calls it makes
//! of one push.

use std::sync::Arc;
#[cfg(test)]
use std::time::Duration;

use futures::future::BoxFuture;

#[cfg(test)]
use tokio::time::Instant;

use super::Broken;

/// Whoever lets calls through, one by one.
pub trait Gate: Send + Sync {
    /// Returns when a call may be made, with the epoch of the owner in whose name, where it is a push; an error says
    /// why it must not be made at all.
    fn pass(&self) -> BoxFuture<'_, Result<Option<u64>, String>>;
}

tokio::task_local! {
    static GATE: Arc<dyn Gate>;
}

/// Lets all calls that are made meanwhile go through a gate.
pub async fn through<F: Future>(gate: Arc<dyn Gate>, calls: F) -> F::Output {
    GATE.scope(gate, calls).await
}

/// Waits until a call may be made, where there is a gate.
pub(crate) async fn pass() -> Result<Option<u64>, Broken> {
    match GATE.try_with(Arc::clone) {
        Ok(gate) => gate.pass().await.map_err(Broken::Unsent),
        Err(_) => Ok(None),
    }
}

/// Panics where more calls came within some time than a bucket of this rate lets through. On a busy machine calls
/// come as much later than they were let through as `slack` says.
#[cfg(test)]
pub(crate) fn check(
    whose: &str,
    calls: &[Instant],
    (per_second, burst): (f64, f64),
    slack: Duration,
) {
    for (n, first) in calls.iter().enumerate() {
        for (count, last) in (1_u32..).zip(&calls[n..]) {
            let time = last.duration_since(*first) + slack;
            let most = time.as_secs_f64().mul_add(per_second, burst) + 0.01;
            assert!(
                f64::from(count) <= most,
                "{whose}: {count} calls in {time:?}, the first is number {n}"
            );
        }
    }
}
