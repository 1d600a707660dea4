//! A seller's account where each call carries a token, and whatever else the channel wants to see in it.

use super::PushError;
use super::api::{Answer, Api, ApiError, Call};
use super::token::{self, Token};

/// The account, as far as calls of all kinds have it in common.
pub struct Account {
    api: Api,
    token: Token,
    dress: fn(Call, &str) -> Call,
}

impl Account {
    /// Nobody is asked yet. `dress` puts the token into a call, and what else is wanted. The error says what is wrong
    /// with a URL.
    pub fn new(
        base_url: &str,
        token: token::Settings,
        dress: fn(Call, &str) -> Call,
    ) -> Result<Self, String> {
        Ok(Self { api: Api::new(base_url)?, token: Token::new(token)?, dress })
    }

    /// Makes a call.
    pub async fn send(&self, call: impl Fn() -> Call + Send + Sync) -> Result<Answer, ApiError> {
        self.token.call(&self.api, |token| (self.dress)(call(), token)).await
    }

    /// The same of a call that changes something.
    pub async fn change(&self, call: impl Fn() -> Call + Send + Sync) -> Result<Answer, PushError> {
        self.token.change(&self.api, |token| (self.dress)(call(), token)).await
    }

    /// See [`Api::next_query`].
    pub fn next_query<'a>(&self, path: &str, next: &'a str) -> Result<&'a str, ApiError> {
        self.api.next_query(path, next)
    }
}
