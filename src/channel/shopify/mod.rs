//! Shopify.

pub mod client;
pub mod parse;

/// A lookup of headers by lower-case name.
pub type Header<'h> = dyn Fn(&'static str) -> Option<&'h str> + 'h;

/// The topic, in either spelling of the header. It is not signed, so `parse` checks it against the body.
#[must_use]
pub fn topic<'h>(header: &Header<'h>) -> Option<&'h str> {
    header("shopify-topic").or_else(|| header("x-shopify-topic"))
}

/// The id of the delivery, equal on retries. The event id is no such thing: one action of a merchant
/// makes several deliveries with one event id.
#[must_use]
pub fn delivery_id<'h>(header: &Header<'h>) -> Option<&'h str> {
    let id = header("shopify-webhook-id").or_else(|| header("x-shopify-webhook-id"))?;
    let plain = |c: char| c.is_ascii_graphic();
    (!id.is_empty() && id.len() <= 128 && id.chars().all(plain)).then_some(id)
}
