//! OAuth 2 access tokens, kept fresh: grants of client credentials and of refresh tokens (RFC 6749).
//!
//! A refresh token that comes with an access token is not taken over: neither Amazon nor eBay changes it
//! when it is used.

use std::time::Duration;

use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::PushError;
use super::api::{Answer, Api, ApiError, Broken, Call, Credential};

/// How long a token lives whose life is not said.
const LIFE_S: u64 = 300;
/// No token is believed to live longer.
const LIFE_S_MAX: u64 = 86_400;
/// A token as young as that, if it is refused, is not at fault: another would be refused too.
const YOUNG: Duration = Duration::from_secs(60);
/// How long after a failure nobody is asked again.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a token is given for.
#[derive(Clone, Debug)]
pub enum Grant {
    /// To the application itself.
    ClientCredentials {
        /// What it may be used for, where that must be said.
        scope: Option<String>,
    },
    /// To the application in the name of whoever gave it this refresh token.
    RefreshToken {
        /// The refresh token.
        token: Credential,
        /// What it may be used for, where that must be said.
        scope: Option<String>,
    },
}

/// Where the application's own id and secret stand in the request.
#[derive(Clone, Copy, Debug)]
pub enum ClientIn {
    /// In the `Authorization` header: eBay, Walmart.
    Basic,
    /// In the form: Login with Amazon.
    Form,
}

/// How tokens are got.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where they are given out, as a whole URL.
    pub url: String,
    /// The application's id.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Credential,
    /// Where both of these stand.
    pub client_in: ClientIn,
    /// What they are given for.
    pub grant: Grant,
    /// Adds what else this issuer wants to see in a request: [`std::convert::identity`] for nothing.
    pub dress: fn(Call) -> Call,
}

/// A token that is got when it is first needed, and again when four fifths of its life are over.
pub struct Token {
    api: Api,
    settings: Settings,
    /// Locked while it is renewed: the others wait for that one and share its outcome.
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    held: Option<Held>,
    failed: Option<Failed>,
}

struct Held {
    token: Credential,
    since: Instant,
    renew_at: Instant,
    ends_at: Instant,
}

struct Failed {
    error: ApiError,
    until: Instant,
}

enum Step {
    Use(Credential),
    Fail(ApiError),
    Renew,
}

#[derive(Deserialize)]
struct Given {
    access_token: String,
    expires_in: Option<u64>,
}

impl Token {
    /// A token; nobody is asked yet. The error says what is wrong with the URL.
    pub fn new(settings: Settings) -> Result<Self, String> {
        let api = Api::new(&settings.url)?;
        Ok(Self { api, settings, kept: Mutex::default() })
    }

    /// Makes a call with the token; if it is refused (401, and 403, which Amazon answers to a token that
    /// has expired), makes it once more with a new one. `make` writes the call with a token.
    pub async fn call(
        &self,
        api: &Api,
        make: impl Fn(&str) -> Call + Send + Sync,
    ) -> Result<Answer, ApiError> {
        self.send(api, make).await
    }

    /// The same of a call that changes something: a token that cannot be had changed nothing.
    pub async fn change(
        &self,
        api: &Api,
        make: impl Fn(&str) -> Call + Send + Sync,
    ) -> Result<Answer, PushError> {
        self.send(api, make).await
    }

    async fn send<E: From<ApiError> + From<Broken>>(
        &self,
        api: &Api,
        make: impl Fn(&str) -> Call + Send + Sync,
    ) -> Result<Answer, E> {
        let token = self.current(None).await?;
        let answer = api.send(make(token.expose())).await?;
        if !matches!(answer.status.as_u16(), 401 | 403) {
            return Ok(answer);
        }
        match self.current(Some(&token)).await {
            Ok(token) => Ok(api.send(make(token.expose())).await?),
            // What the channel said is nearer to the cause.
            Err(ApiError::Unauthorised(_)) => Ok(answer),
            Err(error) => Err(error.into()),
        }
    }

    /// A token that is not the one that was refused.
    async fn current(&self, refused: Option<&Credential>) -> Result<Credential, ApiError> {
        let mut kept = self.kept.lock().await;
        let asked = Instant::now();
        match kept.step(asked, refused) {
            Step::Use(token) => return Ok(token),
            Step::Fail(error) => return Err(error),
            Step::Renew => {}
        }
        match self.ask().await {
            Ok(given) => {
                kept.failed = None;
                Ok(kept.held.insert(Held::new(given, asked)).token.clone())
            }
            Err(error) => kept.failed(error, Instant::now()),
        }
    }

    async fn ask(&self) -> Result<Given, ApiError> {
        let of = &self.settings;
        let (kind, scope, refresh) = match &of.grant {
            Grant::ClientCredentials { scope } => ("client_credentials", scope, None),
            Grant::RefreshToken { token, scope } => ("refresh_token", scope, Some(token)),
        };
        let mut form = vec![("grant_type", kind)];
        form.extend(refresh.map(|token| ("refresh_token", token.expose())));
        form.extend(scope.as_deref().map(|scope| ("scope", scope)));
        let call = (of.dress)(Call::post("").header("Accept", "application/json"));
        let call = match of.client_in {
            ClientIn::Basic => call.basic(&of.client_id, of.client_secret.expose()),
            ClientIn::Form => {
                form.push(("client_id", &of.client_id));
                form.push(("client_secret", of.client_secret.expose()));
                call
            }
        };
        let body =
            self.api.send(call.form(&form)).await?.success().map_err(|error| match error {
                // RFC 6749 answers 400 to a grant or a client that is not valid.
                ApiError::Refused(why) => ApiError::Unauthorised(format!("no token: {why}")),
                error => error,
            })?;
        // What serde says of it could repeat the token.
        serde_json::from_slice(&body)
            .map_err(|_| ApiError::Unreadable("no access token is in it".into()))
    }
}

impl Held {
    fn new(given: Given, asked: Instant) -> Self {
        let life = given.expires_in.unwrap_or(LIFE_S).clamp(1, LIFE_S_MAX);
        let life = Duration::from_secs(life);
        Self {
            token: given.access_token.into(),
            since: asked,
            renew_at: asked + life * 4 / 5,
            ends_at: asked + life,
        }
    }
}

impl Kept {
    /// What to do for one who wants a token. One that was refused is given up, if it is still held.
    fn step(&mut self, now: Instant, refused: Option<&Credential>) -> Step {
        let waits = self.failed.as_ref().filter(|failed| now < failed.until);
        if let Some(held) = &self.held {
            if Some(&held.token) != refused {
                if now < held.renew_at || (now < held.ends_at && waits.is_some()) {
                    return Step::Use(held.token.clone());
                }
            } else if now < held.since + YOUNG {
                return Step::Fail(ApiError::Unauthorised("a new token is refused too".into()));
            }
        }
        if let Some(failed) = waits {
            return Step::Fail(failed.error.clone());
        }
        self.held.take_if(|held| Some(&held.token) == refused || now >= held.ends_at);
        Step::Renew
    }

    /// A renewal failed: the token is good until its end, and nobody asks again at once.
    fn failed(&mut self, error: ApiError, now: Instant) -> Result<Credential, ApiError> {
        let wait = match &error {
            ApiError::Limited { wait_ms } => Duration::from_millis(*wait_ms),
            _ => PATIENCE,
        };
        self.failed = Some(Failed { error: error.clone(), until: now + wait });
        self.held.as_ref().map(|held| held.token.clone()).ok_or(error)
    }
}

#[cfg(test)]
mod tests;
