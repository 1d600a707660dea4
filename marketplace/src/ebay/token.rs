//! Who may call: the application for itself, or for the seller.

use serde_json::{Value, json};

use super::Seller;
use crate::{
    clock::Millis,
    sender::{
        Options,
        call::{self, Answer, Call},
    },
};

/// Before each token, as real ones begin.
const PREFIX: &str = "v^1.1#i^1#";

/// Whom a token speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grant {
    /// The application alone: public keys.
    Application,
    /// The application for the seller: orders.
    Seller,
}

/// Changes credentials for a token.
pub(super) fn issue(seller: &mut Seller, call: &Call, now: Millis) -> Answer {
    let Options { api_id, api_secret, refresh_token, .. } = &seller.options;
    if call.basic().as_ref() != Some(&(api_id.clone(), api_secret.clone())) {
        return refusal(401, "invalid_client", "client authentication failed");
    }
    let (grant, kind) = match call.form("grant_type").as_deref() {
        Some("client_credentials") => (Grant::Application, "Application Access Token"),
        Some("refresh_token") if call.form("refresh_token").as_ref() == Some(refresh_token) => {
            (Grant::Seller, "User Access Token")
        }
        Some("refresh_token") => {
            let text = "the provided authorization refresh token is invalid";
            return refusal(400, "invalid_grant", text);
        }
        _ => return refusal(400, "unsupported_grant_type", "grant type is not supported"),
    };
    let (token, seconds) = seller.tokens.issue(grant, now);
    let token = format!("{PREFIX}{token}");
    let body = json!({"access_token": token, "expires_in": seconds, "token_type": kind});
    call::json(200, &body)
}

/// What a call is answered that may not do what needs this grant.
pub(super) fn refused(seller: &Seller, wanted: Grant, call: &Call, now: Millis) -> Option<Answer> {
    let token = call.bearer().and_then(|token| token.strip_prefix(PREFIX));
    match token.and_then(|token| seller.tokens.grant(token, now)) {
        None => Some(error(401, 1001, "OAuth", "Invalid access token")),
        Some(grant) if grant != wanted => {
            let message = "Insufficient permissions to fulfill the request.";
            Some(error(403, 1100, "ACCESS", message))
        }
        Some(_) => None,
    }
}

/// An error as eBay's REST APIs write it.
pub(super) fn error(status: u16, id: u32, domain: &str, message: &str) -> Answer {
    let error: Value = json!({
        "errorId": id, "domain": domain, "category": "REQUEST",
        "message": message, "longMessage": message,
    });
    call::json(status, &json!({"errors": [error]}))
}

fn refusal(status: u16, code: &str, text: &str) -> Answer {
    call::json(status, &json!({"error": code, "error_description": text}))
}
