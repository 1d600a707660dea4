//! Readers of what an API answers: any bytes, twice; and what a page tells of an order, the order alone
//! must tell too.

use channels::poll::{Page, Told};
use channels::{Understood, amazon, ebay, odoo, shopify, walmart, woocommerce};

use crate::parse::odoo_settings;
use crate::sent::stretched;
use crate::sound;

/// A page and one order of one API; `alone` is how its answer wraps an order that is asked for by its id.
fn orders(
    input: &[u8],
    orders: impl Fn(&[u8]) -> Result<Page, String>,
    order: impl Fn(&[u8]) -> Result<Told, String>,
    alone: (&str, &str),
) {
    let body = stretched(input);
    if let Some(page) = twice(&body, orders, sound::page) {
        for told in page.told {
            let answer = [alone.0.as_bytes(), &told.raw, alone.1.as_bytes()].concat();
            let Ok(alone) = order(&answer) else { continue };
            // The reason may quote a number, whose last digit can change when it is written anew.
            if let (Understood::Dead(_), Understood::Dead(_)) =
                (&alone.understood, &told.understood)
            {
                continue;
            }
            assert_eq!(alone.understood, told.understood, "an order is another one by itself");
        }
    }
    twice(&body, order, sound::told);
}

/// The same twice, and sound. An answer that is none is an error with a reason.
fn twice<T: PartialEq + std::fmt::Debug>(
    body: &[u8],
    read: impl Fn(&[u8]) -> Result<T, String>,
    sound: impl Fn(&T, usize),
) -> Option<T> {
    let answer = read(body);
    assert_eq!(answer, read(body), "the same bytes were read in two ways");
    match answer {
        Ok(answer) => {
            sound(&answer, body.len());
            Some(answer)
        }
        Err(why) => {
            assert!(!why.is_empty());
            None
        }
    }
}

pub(crate) fn amazon(input: &[u8]) {
    orders(input, amazon::poll::orders, amazon::poll::order, ("{\"order\":", "}"));
}

pub(crate) fn ebay(input: &[u8]) {
    orders(input, ebay::poll::orders, ebay::poll::order, ("", ""));
    if let Ok(Page { next: Some(next), .. }) = ebay::poll::orders(input) {
        assert!(next.starts_with('/') && !next.starts_with("//"), "{next:?} names a host");
    }
}

pub(crate) fn walmart(input: &[u8]) {
    orders(input, walmart::poll::orders, walmart::poll::order, ("{\"order\":", "}"));
}

pub(crate) fn woocommerce(input: &[u8]) {
    orders(input, woocommerce::poll::orders, woocommerce::poll::order, ("", ""));
}

/// An order alone may be larger than on a page, and is not compared with it.
pub(crate) fn shopify(input: &[u8]) {
    let body = stretched(input);
    twice(&body, shopify::poll::orders, sound::page);
    twice(&body, shopify::poll::order, sound::order);
}

/// A list of moves, of quants, or of an order and, after an empty line, one of its lines.
pub(crate) fn odoo(input: &[u8]) {
    let settings = odoo_settings();
    let body = stretched(input);
    twice(&body, |body| odoo::poll::moves(body, &settings), sound::page);
    twice(&body, |body| odoo::poll::quants(body, &settings), sound::page);
    let Some(at) = body.windows(2).position(|pair| pair == b"\n\n") else { return };
    let (order, lines) = body.split_at(at);
    let sale = |_: &[u8]| odoo::poll::sale(order, lines);
    twice(&body, sale, sound::order);
}
