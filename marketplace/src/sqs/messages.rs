//! The messages of one queue: who may see which, and until when. It reads no clock and waits for
//! nothing; whoever asks brings the time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use tokio::time::Instant;

use super::{error::Error, md5::md5_hex};
use crate::{
    clock::{Millis, Now},
    random::Random,
};

/// Three bytes that make every handle begin as the real ones do, with `AQEB`.
const HANDLE_MARK: [u8; 3] = [1, 1, 1];
/// How often the receipt is repeated in its handle, to make it about as long as a real one.
const RECEIPT_REPEATS: usize = 16;

/// Where a message is, with its key there.
#[derive(Clone, Copy, Debug)]
enum Place {
    Visible { rank: u64 },
    Delayed { until: Instant },
    InFlight { until: Instant },
}

#[derive(Debug)]
struct Message {
    id: String,
    body: Arc<str>,
    md5: String,
    sent: Now,
    first_received_ms: Option<Millis>,
    received: Option<Instant>,
    receives: u32,
    /// What the newest handle carries. Nothing before the first receive.
    receipt: Option<u64>,
    /// A copy will survive the first delete.
    twice: bool,
    place: Place,
}

/// What is decided about a message when it is sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fate {
    pub(crate) delay: Duration,
    pub(crate) twice: bool,
    /// How many of the messages sent after it may be received before it.
    pub(crate) shuffle: u64,
}

/// A message as a consumer gets it.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) id: String,
    pub(crate) handle: String,
    pub(crate) body: Arc<str>,
    pub(crate) md5: String,
    pub(crate) sent_ms: Millis,
    pub(crate) first_received_ms: Millis,
    pub(crate) receives: u32,
}

/// What a delete did, with the message's id if there is such a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Deletion {
    Gone(String),
    /// A copy is left, and will be received again.
    Survived(String),
    /// The handle is not the newest: answered as a success, as the real queue does.
    Ignored(Option<String>),
}

#[derive(Debug)]
pub(crate) struct Messages {
    /// By number, which is the order of sending, so that what is too old is a prefix.
    held: BTreeMap<u64, Message>,
    visible: BTreeSet<(u64, u64)>,
    delayed: BTreeSet<(Instant, u64)>,
    in_flight: BTreeSet<(Instant, u64)>,
    retention: Duration,
    number_last: u64,
    expired: u64,
    random: Random,
}

impl Messages {
    pub(crate) fn new(retention: Duration, random: Random) -> Self {
        Self {
            held: BTreeMap::new(),
            visible: BTreeSet::new(),
            delayed: BTreeSet::new(),
            in_flight: BTreeSet::new(),
            retention,
            number_last: 0,
            expired: 0,
            random,
        }
    }

    /// Takes a message; returns its id and the MD5 of its body.
    pub(crate) fn send(&mut self, body: &str, fate: Fate, now: Now) -> (String, String) {
        self.number_last += 1;
        let number = self.number_last;
        let rank = number.saturating_add(self.random.below(fate.shuffle.saturating_add(1)));
        let place = if fate.delay.is_zero() {
            Place::Visible { rank }
        } else {
            Place::Delayed { until: now.instant + fate.delay }
        };
        let message = Message {
            id: self.random.uuid(),
            body: body.into(),
            md5: md5_hex(body.as_bytes()),
            sent: now,
            first_received_ms: None,
            received: None,
            receives: 0,
            receipt: None,
            twice: fate.twice,
            place,
        };
        let sent = (message.id.clone(), message.md5.clone());
        self.held.insert(number, message);
        self.put(number, place);
        sent
    }

    /// Hands out up to `max` visible messages and hides them for `hide`.
    pub(crate) fn receive(
        &mut self,
        max: usize,
        hide: Duration,
        in_flight_max: usize,
        now: Now,
    ) -> Result<Vec<Received>, Error> {
        self.turn(now.instant);
        if self.in_flight.len() >= in_flight_max {
            return Err(Error::OverLimit);
        }
        let max = max.min(in_flight_max - self.in_flight.len());
        let picked: Vec<u64> = self.visible.iter().take(max).map(|(_, number)| *number).collect();
        Ok(picked.into_iter().filter_map(|number| self.hand_out(number, hide, now)).collect())
    }

    fn hand_out(&mut self, number: u64, hide: Duration, now: Now) -> Option<Received> {
        let receipt = self.random.next_u64();
        self.shift(number, Place::InFlight { until: now.instant + hide });
        let message = self.held.get_mut(&number)?;
        message.receives += 1;
        message.receipt = Some(receipt);
        message.received = Some(now.instant);
        Some(Received {
            id: message.id.clone(),
            handle: handle(number, receipt),
            body: Arc::clone(&message.body),
            md5: message.md5.clone(),
            sent_ms: message.sent.ms,
            first_received_ms: *message.first_received_ms.get_or_insert(now.ms),
            receives: message.receives,
        })
    }

    /// Deletes the message whose newest handle this is, in flight or visible again.
    pub(crate) fn delete(&mut self, handle: &str, now: Now) -> Result<Deletion, Error> {
        let (number, receipt) = read_handle(handle)?;
        self.turn(now.instant);
        let Some(message) = self.held.get_mut(&number) else { return Ok(Deletion::Ignored(None)) };
        let id = message.id.clone();
        if message.receipt != Some(receipt) {
            return Ok(Deletion::Ignored(Some(id)));
        }
        if std::mem::take(&mut message.twice) {
            self.shift(number, Place::Visible { rank: number });
            return Ok(Deletion::Survived(id));
        }
        self.forget(number);
        Ok(Deletion::Gone(id))
    }

    /// Hides a message that is in flight for `hide` from now on, though not longer than `hide_max` from
    /// its receive. Returns its id.
    pub(crate) fn change_visibility(
        &mut self,
        handle: &str,
        hide: Duration,
        hide_max: Duration,
        now: Now,
    ) -> Result<String, Error> {
        let (number, receipt) = read_handle(handle)?;
        self.turn(now.instant);
        let message = self.held.get(&number).filter(|message| message.receipt == Some(receipt));
        let Some((message, received)) =
            message.and_then(|message| Some((message, message.received?)))
        else {
            return Err(Error::MessageNotInflight);
        };
        if !matches!(message.place, Place::InFlight { .. }) {
            return Err(Error::MessageNotInflight);
        }
        if now.instant + hide > received + hide_max {
            return Err(Error::VisibilityBeyondLimit);
        }
        let id = message.id.clone();
        self.shift(number, Place::InFlight { until: now.instant + hide });
        Ok(id)
    }

    /// Lets time pass: what was hidden long enough is visible, what is too old is gone.
    pub(crate) fn turn(&mut self, now: Instant) {
        let due =
            |set: &BTreeSet<(Instant, u64)>| set.first().copied().filter(|(at, _)| *at <= now);
        while let Some((_, number)) = due(&self.delayed).or_else(|| due(&self.in_flight)) {
            self.shift(number, Place::Visible { rank: number });
        }
        while let Some((number, message)) = self.held.first_key_value() {
            if now.saturating_duration_since(message.sent.instant) < self.retention {
                break;
            }
            let number = *number;
            self.forget(number);
            self.expired += 1;
        }
    }

    /// When a hidden message becomes visible next.
    pub(crate) fn next_visible(&self) -> Option<Instant> {
        [self.delayed.first(), self.in_flight.first()].into_iter().flatten().map(|h| h.0).min()
    }

    pub(crate) fn visible(&self) -> usize {
        self.visible.len()
    }

    pub(crate) fn delayed(&self) -> usize {
        self.delayed.len()
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    pub(crate) fn expired(&self) -> u64 {
        self.expired
    }

    fn forget(&mut self, number: u64) {
        if let Some(message) = self.held.remove(&number) {
            self.take(number, message.place);
        }
    }

    fn shift(&mut self, number: u64, to: Place) {
        if let Some(message) = self.held.get_mut(&number) {
            let from = std::mem::replace(&mut message.place, to);
            self.take(number, from);
            self.put(number, to);
        }
    }

    fn put(&mut self, number: u64, place: Place) {
        match place {
            Place::Visible { rank } => self.visible.insert((rank, number)),
            Place::Delayed { until } => self.delayed.insert((until, number)),
            Place::InFlight { until } => self.in_flight.insert((until, number)),
        };
    }

    fn take(&mut self, number: u64, place: Place) {
        match place {
            Place::Visible { rank } => self.visible.remove(&(rank, number)),
            Place::Delayed { until } => self.delayed.remove(&(until, number)),
            Place::InFlight { until } => self.in_flight.remove(&(until, number)),
        };
    }
}

/// An opaque handle: which message, and which receive of it.
fn handle(number: u64, receipt: u64) -> String {
    let bytes = [
        HANDLE_MARK.as_slice(),
        &number.to_be_bytes(),
        &[receipt.to_be_bytes(); RECEIPT_REPEATS].concat(),
    ];
    STANDARD.encode(bytes.concat())
}

fn read_handle(text: &str) -> Result<(u64, u64), Error> {
    let read = || {
        let bytes = STANDARD.decode(text).ok()?;
        let (number, rest) = bytes.strip_prefix(&HANDLE_MARK)?.split_first_chunk()?;
        let (receipt, _) = rest.split_first_chunk()?;
        let (number, receipt) = (u64::from_be_bytes(*number), u64::from_be_bytes(*receipt));
        (handle(number, receipt) == text).then_some((number, receipt))
    };
    read().ok_or_else(|| Error::ReceiptHandleIsInvalid(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HIDE: Duration = Duration::from_secs(30);
    const HIDE_MAX: Duration = Duration::from_secs(43_200);

    fn queue() -> (Messages, Now) {
        (Messages::new(4 * HIDE_MAX, Random::new(1)), Now::read())
    }

    fn after(now: Now, seconds: u64) -> Now {
        Now { instant: now.instant + Duration::from_secs(seconds), ms: now.ms }
    }

    fn receive(messages: &mut Messages, now: Now) -> Vec<Received> {
        messages.receive(10, HIDE, 2, now).unwrap()
    }

    /// A message that comes back a second early is handled twice; one a second late delays a sale.
    #[test]
    fn a_message_is_hidden_exactly_so_long() {
        let (mut messages, now) = queue();
        messages.send("a", Fate { delay: HIDE, ..Fate::default() }, now);
        assert!(receive(&mut messages, after(now, 29)).is_empty());
        let first = receive(&mut messages, after(now, 30)).remove(0);
        assert_eq!(messages.next_visible(), Some(after(now, 60).instant));
        assert!(receive(&mut messages, after(now, 59)).is_empty());
        let handle = &first.handle;
        messages.change_visibility(handle, 2 * HIDE, HIDE_MAX, after(now, 59)).unwrap();
        assert!(receive(&mut messages, after(now, 118)).is_empty());
        let second = receive(&mut messages, after(now, 119)).remove(0);
        assert_eq!((second.receives, second.id == first.id), (2, true));
        let late = messages.change_visibility(handle, HIDE, HIDE_MAX, after(now, 120));
        assert_eq!(late, Err(Error::MessageNotInflight));
    }

    /// A consumer that only ever asks for more time must run into the limit, or a message that nobody
    /// can handle is hidden for ever.
    #[test]
    fn visibility_ends_twelve_hours_after_the_receive() {
        let (mut messages, now) = queue();
        messages.send("a", Fate::default(), now);
        let handle = receive(&mut messages, now).remove(0).handle;
        messages.change_visibility(&handle, HIDE_MAX, HIDE_MAX, now).unwrap();
        let more = messages.change_visibility(&handle, HIDE_MAX, HIDE_MAX, after(now, 1));
        assert_eq!(more, Err(Error::VisibilityBeyondLimit));
    }

    /// More in flight than allowed would hide from a test that its consumer never deletes.
    #[test]
    fn no_more_are_in_flight_than_allowed() {
        let (mut messages, now) = queue();
        for body in ["a", "b", "c"] {
            messages.send(body, Fate::default(), now);
        }
        assert_eq!(receive(&mut messages, now).len(), 2);
        assert_eq!(messages.receive(10, HIDE, 2, now).err(), Some(Error::OverLimit));
        assert_eq!((messages.in_flight(), messages.visible()), (2, 1));
        assert_eq!(receive(&mut messages, after(now, 30)).len(), 2);
    }
}
