//! The admin listener: the API under `/v1` and `/cluster`, metrics, probes, and pages for people.

mod access;
mod allocation;
mod ask;
mod bodies;
mod channels;
mod cluster_api;
mod dead;
mod deliveries;
mod describe;
mod explain;
pub(crate) mod export;
mod extract;
mod health;
mod listings;
mod locations;
mod messages;
pub(crate) mod movements;
mod notices;
mod pages;
mod parameters;
mod passport;
mod past;
mod problem;
mod pushes;
mod reservations;
mod schedules;
mod shortfalls;
mod skus;
mod stock;
mod topics;
mod verify;
mod view;

use std::sync::{Arc, PoisonError, RwLockReadGuard};
use std::time::Duration;

use axum::Router;
use axum::middleware;
use cluster::{ProposeError, Raft, codec};
use hyper_util::service::TowerToHyperService;
use state::{Command, Reply};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::config::{Config, Scope};
use crate::escrow::Escrow;
use crate::history::History;
use crate::inbox::Inbox;
use crate::listen;
use crate::measures::Measures;
use crate::replica::{Frozen, Replica, Shared};
use crate::topics::Topics;
use problem::Problem;

/// How long a request may wait for the cluster's agreement.
const AGREEMENT: Duration = Duration::from_secs(5);
/// Connections at once; further ones wait.
const CONNECTIONS_MAX: usize = 512;
/// Who may look through the state at once. Further ones wait: readers together must not take the processors
/// from webhooks.
pub const LOOKS_MAX: usize = 4;
/// Bytes of a request's body.
const BODY_BYTES_MAX: usize = 4 << 20;
/// Items of one page of a list.
const PAGE_MAX: usize = 1000;
const PAGE_DEFAULT: usize = 100;

/// What the admin listener needs.
#[derive(Clone)]
pub struct Admin {
    /// The node's config.
    pub config: Arc<Config>,
    /// The agreed state.
    pub replica: Shared,
    /// Where changes are proposed.
    pub raft: Raft,
    /// Whether webhooks can be made durable.
    pub inbox: Inbox,
    /// What this node grants by itself.
    pub escrow: Escrow,
    /// What is measured.
    pub measures: Arc<Measures>,
    /// Where topics are asked.
    pub topics: Topics,
    /// Turns of those who look through the state.
    pub looks: Arc<Semaphore>,
}

impl Admin {
    fn read(&self) -> RwLockReadGuard<'_, Replica> {
        self.replica.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks through the state as it is now, on a thread that may take its time: whatever is applied
    /// does not wait for it.
    async fn look<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Frozen, &History) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let turn = Arc::clone(&self.looks).acquire_owned().await;
        let (frozen, history) = {
            let replica = self.read();
            (replica.freeze(), replica.history())
        };
        let done = tokio::task::spawn_blocking(move || {
            // Held to the end of the work, also when nobody waits for it any more.
            let _turn = turn;
            work(&frozen, &history)
        })
        .await;
        done.map_err(|error| Problem::internal(error.to_string()))?
    }

    /// Proposes a command and waits for the reply.
    async fn propose(&self, command: &Command) -> Result<(u64, Reply), Problem> {
        let reply = self.raft.propose(codec::encode(command), AGREEMENT).await?;
        let decoded = codec::decode(&reply.bytes)
            .map_err(|error| Problem::internal(format!("the reply cannot be read: {error}")))?;
        Ok((reply.index, decoded))
    }

    /// Proposes a change that is done or rejected, with nothing to say in the first case.
    async fn change(&self, command: &Command) -> Result<(), Problem> {
        let (index, reply) = self.propose(command).await?;
        match reply {
            Reply::Done => self.caught_up(index).await,
            Reply::Rejected(why) => Err(Problem::unprocessable("rejected", why)),
            other => Err(Problem::internal(format!("unexpected reply {other:?}"))),
        }
    }

    /// Waits until this node's replica has come to an entry, so that whoever changed something here finds
    /// it changed here.
    async fn caught_up(&self, index: u64) -> Result<(), Problem> {
        let mut applied = self.read().watch();
        let come = tokio::time::timeout(AGREEMENT, applied.wait_for(|at| *at >= index)).await;
        match come {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Problem::unavailable("the change is agreed on, not here yet".into())),
        }
    }

    /// Waits until this node's replica holds everything agreed on before now.
    async fn barrier(&self) -> Result<(), Problem> {
        self.raft.barrier(AGREEMENT).await?;
        Ok(())
    }
}

/// A random id (UUID version 4).
fn random_id() -> Result<String, Problem> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Problem::internal(error.to_string()))?;
    Ok(uuid::Builder::from_random_bytes(bytes).into_uuid().to_string())
}

impl From<ProposeError> for Problem {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::TooLarge { .. } => Self::too_large(error.to_string()),
            ProposeError::Unavailable(_) => Self::not_begun(error.to_string()),
            ProposeError::Unknown(_) => Self::unavailable(error.to_string()),
        }
    }
}

/// The operations, by the scope that they need.
fn routes() -> [(OpenApiRouter<Admin>, Option<Scope>); 4] {
    [
        (reading(), Some(Scope::Read)),
        (writing(), Some(Scope::Write)),
        (operating(), Some(Scope::Admin)),
        (open(), None),
    ]
}

fn reading() -> OpenApiRouter<Admin> {
    OpenApiRouter::new()
        .routes(routes!(stock::get))
        .routes(routes!(stock::list))
        .routes(routes!(stock::movements))
        .routes(routes!(shortfalls::list))
        .routes(routes!(notices::list))
        .routes(routes!(locations::get))
        .routes(routes!(export::export))
        .routes(routes!(deliveries::order))
        .routes(routes!(passport::get))
        .routes(routes!(topics::list))
        .routes(routes!(topics::get))
        .routes(routes!(dead::messages))
        .routes(routes!(dead::dead))
        .merge(pushes::questions())
        .merge(allocation::reads())
        .routes(routes!(skus::get))
        .routes(routes!(reservations::get))
        .routes(routes!(reservations::list))
        .routes(routes!(listings::list))
        .routes(routes!(cluster_api::status))
        .routes(routes!(health::metrics))
}

fn writing() -> OpenApiRouter<Admin> {
    OpenApiRouter::new()
        .routes(routes!(movements::post))
        .routes(routes!(reservations::post))
        .routes(routes!(reservations::confirm))
        .routes(routes!(reservations::release))
        .routes(routes!(reservations::extend))
        .routes(routes!(messages::publish))
        .routes(routes!(messages::lease))
        .routes(routes!(messages::ack))
        .routes(routes!(messages::nack))
        .routes(routes!(messages::extend))
        .routes(routes!(dead::redrive))
        .routes(routes!(dead::forget))
        .routes(routes!(dead::remove))
        .routes(routes!(topics::pause))
        .routes(routes!(topics::resume))
        .routes(routes!(topics::begin))
        .routes(routes!(schedules::put))
        .routes(routes!(schedules::delete))
        .routes(routes!(skus::put))
        .routes(routes!(locations::put))
        .routes(routes!(listings::post))
        .merge(pushes::operations())
        .merge(allocation::writes())
}

fn operating() -> OpenApiRouter<Admin> {
    OpenApiRouter::new()
        .routes(routes!(topics::put))
        .routes(routes!(topics::delete))
        .routes(routes!(topics::disband))
        .routes(routes!(verify::verify))
        .routes(routes!(cluster_api::init))
        .routes(routes!(cluster_api::add))
        .routes(routes!(cluster_api::promote))
        .routes(routes!(cluster_api::demote))
        .routes(routes!(cluster_api::remove))
        .routes(routes!(cluster_api::former_disk_destroyed))
        .routes(routes!(cluster_api::transfer))
        .routes(routes!(cluster_api::snapshot))
}

/// What anybody may ask for.
fn open() -> OpenApiRouter<Admin> {
    OpenApiRouter::new()
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(pages::openapi))
        .routes(routes!(pages::docs))
        .routes(routes!(pages::dashboard))
}

fn router(admin: &Admin) -> (Router<Admin>, utoipa::openapi::OpenApi) {
    let mut all = OpenApiRouter::with_openapi(describe::base());
    for (mut group, scope) in routes() {
        describe::complete(group.get_openapi_mut(), scope);
        if let Some(scope) = scope {
            let known = parameters::of(group.get_openapi());
            group = group.layer(middleware::from_fn_with_state(known, parameters::check));
            let state = (admin.clone(), scope);
            group = group.layer(middleware::from_fn_with_state(state, access::check));
        }
        all = all.merge(group);
    }
    all.split_for_parts()
}

/// Serves until `stop`, then finishes what is in progress.
pub async fn serve(listener: TcpListener, admin: Admin, stop: CancellationToken) {
    let (router, api) = router(&admin);
    let app = router
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(axum::Extension(Arc::new(api)))
        .layer(axum::extract::DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(admin);
    let service = TowerToHyperService::new(app);
    let connections_max = listen::room("the API", CONNECTIONS_MAX, 4);
    listen::serve("the API", listener, connections_max, service, stop).await;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    fn description() -> Value {
        let mut all = OpenApiRouter::<Admin>::with_openapi(describe::base());
        for (mut group, scope) in routes() {
            describe::complete(group.get_openapi_mut(), scope);
            all = all.merge(group);
        }
        serde_json::to_value(all.into_openapi()).unwrap()
    }

    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    // A generator of clients trips over each of these.
    #[test]
    fn the_description_is_whole() {
        let api = description();
        let mut found = Vec::new();
        references(&api, &mut found);
        for reference in found {
            let place = reference.trim_start_matches('#');
            assert!(api.pointer(place).is_some(), "{reference} leads nowhere");
        }
        let mut ids = BTreeSet::new();
        for (path, item) in api["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let id = operation["operationId"].as_str().unwrap();
                assert!(ids.insert(id.to_string()), "{id} is there twice");
                let answers = operation["responses"].as_object().unwrap();
                let guarded = operation.get("security").is_none();
                let refused = ["401", "403"].iter().all(|status| answers.contains_key(*status));
                assert_eq!(guarded, refused, "{method} {path}");
                for (status, answer) in answers {
                    let said = answer["description"].as_str().is_some_and(|said| !said.is_empty());
                    assert!(said, "{method} {path} {status} has no description");
                    let plain = answer["content"]["application/json"]["schema"]["$ref"].as_str();
                    assert_ne!(plain, Some("#/components/schemas/Problem"), "{method} {path}");
                }
            }
        }
        let body = &api["paths"]["/cluster/init"]["post"]["requestBody"];
        assert_ne!(body["required"], true, "{body}");
        let leader = &api["paths"]["/readyz"]["get"]["parameters"][0];
        assert_eq!(leader["name"], "leader", "{leader}");
    }
}
