//! The engine: for HAProxy, whether the program is there and accepts the configuration.

use std::sync::Arc;
use std::time::Duration;

use pointsman_haproxy::program;
use pointsman_table::Table;
use tokio::time::timeout;

use super::observation::Observation;
use crate::commands::render;
use crate::control::plural;
use crate::settings::{Engine, Settings};

const SUBJECT: &str = "engine";
/// How long HAProxy may take to check the configuration.
const PATIENCE: Duration = Duration::from_millis(2500);

pub(super) async fn look(settings: &Settings, table: Option<&Arc<Table>>) -> Vec<Observation> {
    match settings.engine {
        Engine::Native => Vec::new(),
        Engine::Haproxy => timeout(PATIENCE, haproxy(settings, table)).await.unwrap_or_else(|_| {
            let what = format!("HAProxy did not check the configuration within {PATIENCE:?}");
            vec![Observation::note(SUBJECT, what, "pointsman check")]
        }),
    }
}

async fn haproxy(settings: &Settings, table: Option<&Arc<Table>>) -> Vec<Observation> {
    let found = match program::find(settings.haproxy.program.as_deref()).await {
        Ok(found) => found,
        Err(error) => {
            return vec![Observation::wrong(SUBJECT, error.to_string(), "apt install haproxy, or --haproxy FILE")];
        }
    };
    let what = format!("HAProxy {} at {}", found.release, found.path.display());
    let Some(table) = table else { return vec![Observation::ok(SUBJECT, what)] };
    match render::refused(settings, table).await {
        Ok(refused) if refused.is_empty() => {
            vec![Observation::ok(SUBJECT, format!("{what} accepts the configuration"))]
        }
        Ok(refused) => {
            let what = format!("{what} rejects {}: {}", plural(refused.len(), "key"), refused[0]);
            vec![Observation::wrong(SUBJECT, what, "pointsman check lists all")]
        }
        Err(error) => {
            vec![Observation::wrong(SUBJECT, format!("{error:#}"), "pointsman render prints the configuration")]
        }
    }
}
