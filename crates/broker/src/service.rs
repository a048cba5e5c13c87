//! An agent as a NATS micro service, so that `nats micro list|info|stats` shows the fleet.

use std::{collections::HashMap, sync::Arc};

use async_nats::service::{ServiceExt, error::Error as ServiceError};
use futures_util::StreamExt;
use serde_json::Value;

use crate::{
    Connection,
    error::{Error, Kind},
    task::{self, Owned},
};

/// What the service says of itself.
#[derive(Clone, Debug)]
pub struct ServiceInfo {
    /// Its name: the agent's kind.
    pub name: String,
    /// Its version, semantic.
    pub version: String,
    /// One line for people.
    pub description: String,
    /// Whatever else: the capabilities.
    pub metadata: HashMap<String, String>,
    /// The subject of its one endpoint.
    pub inspect_subject: String,
}

/// A running service; it ends when this is dropped.
#[derive(Debug)]
pub struct Service {
    _requests: Owned<()>,
}

impl Service {
    /// Starts one. `inspect` gives the JSON that its endpoint answers, and what `stats` shows as data.
    ///
    /// # Errors
    /// `Invalid` for a name or version that the standard refuses.
    pub async fn start(
        connection: &Connection,
        info: ServiceInfo,
        inspect: impl Fn() -> Value + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let inspect = Arc::new(inspect);
        let for_stats = Arc::clone(&inspect);
        let refused = |error: String| Error::new(Kind::Invalid, format!("micro service {}: {error}", info.name));
        let service = connection
            .client()
            .service_builder()
            .description(info.description.clone())
            .metadata(info.metadata.clone())
            .stats_handler(move |_, _| for_stats())
            .start(info.name.clone(), info.version.clone())
            .await
            .map_err(|error| refused(error.to_string()))?;
        let endpoint = service.endpoint_builder().name("inspect").add(info.inspect_subject.clone()).await;
        let mut endpoint = endpoint.map_err(|error| refused(error.to_string()))?;
        let requests = task::spawn("service", async move {
            // The service lives as long as this task.
            let _service = service;
            while let Some(request) = endpoint.next().await {
                let body = serde_json::to_vec(&inspect())
                    .map_err(|error| ServiceError { code: 500, status: error.to_string() });
                if let Err(error) = request.respond(body.map(Into::into)).await {
                    tracing::debug!(%error, "inspect not answered");
                }
            }
        });
        Ok(Self { _requests: requests })
    }
}
