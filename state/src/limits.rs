//! Every bound of this room, and the relations between them.

use crate::Millis;

/// One second.
pub const SECOND_MS: Millis = 1_000;
/// One minute.
pub const MINUTE_MS: Millis = 60 * SECOND_MS;
/// One hour.
pub const HOUR_MS: Millis = 60 * MINUTE_MS;
/// One day.
pub const DAY_MS: Millis = 24 * HOUR_MS;

/// The latest time that is agreed on: the end of the year 9999. A stamp beyond it counts as this, so
/// that no sum of a time and a window can overflow and stop every node.
pub const TIME_MAX: Millis = 253_402_300_799_999;
/// The largest quantity that one movement or order line may name. A quantity beyond it is a mistake
/// (Shopify refuses the same: `INVALID_QUANTITY_TOO_HIGH` above 1,000,000,000).
pub const QUANTITY_MAX: i64 = 1_000_000_000;
/// The most that a level may hold in either direction; reaching it is an error, never a wrap.
pub const LEVEL_MAX: i64 = 1 << 53;
/// Characters of a SKU, a location, a channel's name, a reference, an order's or a line's id.
pub const NAME_LEN_MAX: usize = 256;
/// Lines of one order.
pub const ORDER_LINES_MAX: usize = 1_000;
/// Removals (refund lines) kept for one order line.
pub const LINE_REMOVALS_MAX: usize = 100;
/// Movements in one request.
pub const REQUEST_MOVEMENTS_MAX: usize = 1_000;
/// Shipments on their way to one SKU at one location, by reference.
pub const INCOMING_REFERENCES_MAX: usize = 1_000;
/// SKUs in one intent.
pub const INTENT_SKUS_MAX: usize = 250;
/// Channels of a cluster.
pub const CHANNELS_MAX: usize = 256;
/// Allocation policies.
pub const POLICIES_MAX: usize = 100;
/// SKUs whose shares are looked at by one command of a walk over all of them, or of a request that names them.
pub const WALKED_SKUS_MAX: usize = 1_000;
/// Listings in one command that says what was measured of them.
pub const MEASURED_MAX: usize = 500;
/// SKUs that one unit of a kit takes out of stock.
pub const KIT_COMPONENTS_MAX: usize = 100;
/// Kits that take one SKU out of stock: each of its movements looks at all of them.
pub const KITS_OF_SKU_MAX: usize = 100;
/// Kits within kits.
pub const KIT_DEPTH_MAX: usize = 5;
/// Units of one SKU in one unit of a kit: the largest quantity of it stays within the bounds of a level.
pub const KIT_UNITS_MAX: i64 = 10_000;
/// Lines of one reservation.
pub const RESERVATION_LINES_MAX: usize = 100;
/// Reservations that hold something at once; beyond it no more are granted.
pub const RESERVATIONS_MAX: usize = 1_000_000;
/// The shortest and the longest time to hold something for.
pub const RESERVATION_TTL_MIN_MS: Millis = SECOND_MS;
/// See [`RESERVATION_TTL_MIN_MS`].
pub const RESERVATION_TTL_MAX_MS: Millis = 30 * DAY_MS;
/// How long what became of a reservation is known after its end.
pub const RESERVATION_KEEP_MS: Millis = DAY_MS;
/// SKUs with escrow: what is due of them is looked for in all of them.
pub const ESCROW_SKUS_MAX: usize = 10_000;
/// Quotas granted with one command.
pub const GRANTS_MAX: usize = 1_000;
/// Of what a holder had whose disk is destroyed, so much comes back with one command; the rest with the ticks after it.
pub const RETURNED_PER_COMMAND_MAX: usize = 256;
/// Books of nodes that are known: beyond it the oldest is forgotten, one that is closed first.
pub const BOOKS_MAX: usize = 256;
/// What a node spent counts half as much for its share after so long.
pub const DEMAND_HALF_LIFE_MS: Millis = HOUR_MS;
/// Locations with a place in the order in which they are drawn from.
pub const LOCATIONS_MAX: usize = 1_000;
/// Checkpoints whose reports are kept.
pub const CHECKPOINTS_MAX: usize = 4;
/// Nodes that may report on one.
pub const REPORTS_MAX: usize = 64;
/// How long notices are kept.
pub const NOTICE_KEEP_MS: Millis = 7 * DAY_MS;
/// Notices kept at the most; beyond it the oldest go.
pub const NOTICES_MAX: usize = 100_000;
/// Components of a listing's settings.
pub const LISTING_SETTINGS_MAX: usize = 16;

/// Topics of the queue.
pub const TOPICS_MAX: usize = 1_000;
/// Groups of one topic.
pub const GROUPS_MAX: usize = 32;
/// Schedules of one topic.
pub const SCHEDULES_MAX: usize = 100;
/// Keys of one topic that are paused.
pub const PAUSED_KEYS_MAX: usize = 10_000;
/// Messages of all topics together.
pub const QUEUE_MESSAGES_MAX: u64 = 10_000_000;
/// Dedup ids of all topics together; beyond it the oldest goes early.
pub const DEDUP_IDS_MAX: usize = 2_000_000;
/// Messages in one request to publish, to redrive, to forget or to remove.
pub const REQUEST_MESSAGES_MAX: usize = 1_000;
/// Bytes of one message's body.
pub const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// Messages in one lease.
pub const LEASE_MESSAGES_MAX: u32 = 1_000;
/// Runs of messages in one lease under an `Idempotency-Key`, each of which is kept with the answer.
pub const GRANTED_RUNS_MAX: usize = 32;
/// The shortest and the longest lease.
pub const LEASE_MIN_MS: Millis = SECOND_MS;
/// See [`LEASE_MIN_MS`].
pub const LEASE_MAX_MS: Millis = 12 * HOUR_MS;
/// The longest delay of a message or of another attempt.
pub const DELAY_MAX_MS: Millis = 90 * DAY_MS;
/// Messages that one group may have begun and not finished, those that wait behind others of their key
/// too. It begins no more then.
pub const HELD_MAX: usize = 5_000_000;
/// Messages that one lease looks at that are not ready.
pub const LOOKED_AT_MAX: u32 = 4_096;
/// Messages that one group may have given up; beyond it the oldest is forgotten, and is counted.
pub const GIVEN_UP_MAX: usize = 100_000;
/// Keys of one group whose rate is used up; beyond it nothing is leased until one of them is open again.
pub const CLOSED_KEYS_MAX: usize = 100_000;
/// How long what was given up is kept.
pub const DEAD_KEEP_MS: Millis = 30 * DAY_MS;
/// Messages dropped by one command because they are old, or because their topic or group was deleted.
pub const WALKED_PER_COMMAND_MAX: usize = 256;
/// Of what groups held that were deleted or told to begin elsewhere, and of keys whose bounds were changed, so
/// much is worked off by one command: as much as one lease looks at.
pub const SWEPT_PER_COMMAND_MAX: usize = 4_096;
/// So much of it at once with what was asked; the rest with the ticks after it.
pub const SWEPT_AT_ONCE_MAX: usize = 256;

/// How long a delivery's key is kept unless its channel says otherwise.
pub const DEDUP_WINDOW_DEFAULT_MS: Millis = 7 * DAY_MS;
/// The longest that a channel may ask for; more counts as this.
pub const DEDUP_WINDOW_MAX_MS: Millis = 90 * DAY_MS;
/// The longest that a sender is known to repeat a delivery by itself: Shopify, 8 tries in 4 hours.
pub const SENDER_RETRY_MAX_MS: Millis = 4 * HOUR_MS;
/// Delivery keys kept at the most. Evicting early shortens the window, and is counted.
pub const DELIVERY_KEYS_MAX: usize = 4_000_000;
/// How long the first answer to an `Idempotency-Key` is replayed.
pub const ANSWER_KEEP_MS: Millis = DAY_MS;
/// Answers kept at the most.
pub const ANSWERS_MAX: usize = 100_000;
/// An order that nothing was heard of for so long is forgotten; an older fact becomes a dead letter.
pub const ORDER_KEEP_MS: Millis = 180 * DAY_MS;
/// Orders kept at the most. Beyond it the one that was heard of first is forgotten, and is counted.
pub const ORDERS_MAX: usize = 4_000_000;
/// How long the id of a movement asked for is kept: a second one with the same id changes nothing.
pub const MOVEMENT_ID_KEEP_MS: Millis = 90 * DAY_MS;
/// Movement ids kept at the most, apart from the keys of deliveries, which are many more.
pub const MOVEMENT_IDS_MAX: usize = 2_000_000;
/// Dead letters listed at the most; beyond it the oldest leaves the list, and is counted.
pub const DEAD_LETTERS_MAX: usize = 100_000;
/// Listings in one request.
pub const LISTING_ROWS_MAX: usize = 1_000;
/// Listing ids whose SKU is known at the most; beyond it no more are learned from payloads.
pub const NAMES_MAX: usize = 4_000_000;
/// Order lines and movements that wait for a mapping at the most; beyond it they are only listed as dead
/// letters, and move with the next fact about them.
pub const WAITING_MAX: usize = 100_000;
/// Of what waits for one mapping, so much moves with one command; the rest with the ticks after it.
pub const WAITERS_PER_COMMAND_MAX: usize = 256;
/// Orders that wait to be fetched at the most; beyond it what asks for one becomes a dead letter.
pub const RELOADS_MAX: usize = 100_000;
/// Movements told by a channel whose ids are kept at the most.
pub const MOVED_MAX: usize = 2_000_000;
/// Dead letters remembered by one order, to be taken off the list when its last line has moved.
pub const ORDER_LETTERS_MAX: usize = 16;
/// Process starts of one node whose sequences are remembered.
pub const INCARNATIONS_MAX: usize = 8;
/// Keys, orders or answers dropped by one command at the most, so that no command is slow.
pub const EXPIRED_PER_COMMAND_MAX: usize = 256;
/// For so long units missing on a channel count as sales on their way, and a push without a known
/// outcome as one that may still be taken. Webhooks and requests take seconds; after this the
/// difference is left to reconciliation, or a channel would undersell for good.
pub const UNCERTAIN_KEEP_MS: Millis = 15 * MINUTE_MS;
/// The same of a push that went by feed, which a channel may work through as late. Whoever sent it waits for
/// its end for less.
pub const FEED_KEEP_MS: Millis = 30 * MINUTE_MS;

/// A sale must be on every other channel within this time.
pub const WINDOW_SALE_MS: Millis = 5 * SECOND_MS;
/// A return or cancellation must be.
pub const WINDOW_RETURN_MS: Millis = MINUTE_MS;
/// A receipt or an adjustment must be.
pub const WINDOW_ADJUSTMENT_MS: Millis = 5 * MINUTE_MS;

/// How long the owner of a channel may send after it last showed that it lives, on its own clock and from
/// before it proposed that.
pub const LEASE_MS: Millis = 10 * SECOND_MS;
/// How far agreed time may run ahead of an owner's clock within a lease: two leaders may be apart so far,
/// each being within 5 s of the others' median.
pub const AGREED_AHEAD_MS: Millis = 10 * SECOND_MS;
/// How long after that another node may claim the channel, by agreed time.
pub const CLAIM_AFTER_MS: Millis = LEASE_MS + AGREED_AHEAD_MS + 5 * SECOND_MS;
/// How old a belief may be when something is raised on a channel that does not compare, where shares are
/// kept apart.
pub const BELIEF_KEEP_MS: Millis = 15 * MINUTE_MS;
/// How long a channel may take until it lists an order to whoever asks for what changed.
pub const LISTED_WITHIN_MS: Millis = 3 * MINUTE_MS;
/// The longest that a channel rests by itself before it is tried again.
pub const PAUSE_MS_MAX: Millis = DAY_MS;
/// Listings of a channel that are looked at when all of its sales are heard of.
pub const LOOKED_AT_ONCE_MAX: usize = 4_096;
/// Bytes of the reason of a pause or of a failure.
pub const REASON_LEN_MAX: usize = 1024;

const _: () = assert!(
    CLAIM_AFTER_MS > LEASE_MS + AGREED_AHEAD_MS,
    "two owners of a channel would send at once"
);
const _: () = assert!(UNCERTAIN_KEEP_MS <= FEED_KEEP_MS, "a feed takes longer than a call");
const _: () = assert!(
    LISTED_WITHIN_MS < UNCERTAIN_KEEP_MS,
    "a poll would never be what tells that sales are in"
);
const _: () = assert!(
    DEDUP_WINDOW_DEFAULT_MS > SENDER_RETRY_MAX_MS,
    "a sender's last retry would count as a new delivery"
);
const _: () = assert!(
    ORDER_KEEP_MS > DEDUP_WINDOW_MAX_MS && DEDUP_WINDOW_MAX_MS >= DEDUP_WINDOW_DEFAULT_MS,
    "an order must outlive the keys of the deliveries about it"
);
const _: () = assert!(
    QUANTITY_MAX < LEVEL_MAX / KIT_UNITS_MAX,
    "the largest quantity of a kit must fit the levels of its components"
);
const _: () = assert!(
    QUANTITY_MAX < LEVEL_MAX / 1_000_000,
    "a million of the largest movements must fit a level"
);
