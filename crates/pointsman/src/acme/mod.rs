//! Certificates by ACME (RFC 8555): asked for by one balancer of a prefix, answered for and served by all.
//!
//! ```text
//! table: names wanted ─> leader ─steps─> authority ─> the ACME server
//!                          │  ^
//! store: /_pointsman<prefix>/acme/{orders,certs}/<name> ─follow─> CertBook ─> IssuedCerts ─> control ─> every table
//!          ^─wished─ Demand <─ handshakes: names on demand
//! ```

mod authority;
mod book;
mod check;
mod client;
mod demand;
mod demanded;
mod due;
mod endpoint;
mod hook;
mod leader;
mod order;
mod revoke;
mod revoking;
mod update;

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use pointsman_engine::cert_wishes::CertWish;
use pointsman_store::{Condition, Store, StoreSettings};
use pointsman_table::{AcmeNames, Answers, Table};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tracing::warn;

use crate::control::{AcmeReport, Around, IssuedCerts, Status};
use crate::names::Lookup;
use crate::settings::AcmeSettings;
use crate::tenure::Tenure;
pub(crate) use book::{CertBook, cert_key, folder, order_key, revoke_key};
use demand::Demand;
use endpoint::Endpoint;
use leader::Leader;
pub(crate) use order::{CertOrder, IssuedFacts, OrderStage};
pub(crate) use revoke::{REVOKE_REASONS, Revocation};

/// How soon the store is read again after a failure.
const RETRY: Duration = Duration::from_millis(500);
/// The least time between two publications: of ten thousand names, many change at once.
const PACE: Duration = Duration::from_millis(50);
/// Most updates that may queue.
const UPDATES: usize = 64;

/// Keeps this balancer's certificates by ACME, and asks for them while it leads. Never ends.
pub(crate) async fn keep(
    (store, settings): (&Store, &StoreSettings),
    (asking, name, lookup): (AcmeSettings, String, Lookup),
    (status, mut tenure): (watch::Receiver<Status>, Tenure),
    (issued, around): (watch::Sender<Option<IssuedCerts>>, watch::Sender<Around>),
    wishes: mpsc::Receiver<CertWish>,
) {
    let endpoint = Endpoint::new(asking.ca.clone());
    let folder = folder(&settings.prefix);
    let answers = Arc::clone(&asking.answers);
    let book = watch::Sender::new(CertBook::default());
    let (read, is_read) = watch::channel(false);
    let leading = async {
        // The program before leads until then, by the same name.
        tenure.begins().await;
        let mut wanting = status.clone();
        if wanting.wait_for(wants).await.is_ok() {
            let (prefix, folder, name, book) = (&*settings.prefix, &*folder, &*name, &book);
            let lookup = RefCell::new(lookup);
            let leader = Leader {
                store,
                prefix,
                folder,
                name,
                settings: asking,
                lookup,
                status: status.clone(),
                book,
                around: &around,
                endpoint: &endpoint,
            };
            Box::pin(leader.run()).await;
        }
    };
    let demand = Demand {
        store,
        folder: &folder,
        book: &book,
        status: status.clone(),
        endpoint: &endpoint,
        around: &around,
        told: Cell::default(),
        writing: Cell::default(),
    };
    tokio::join!(
        Box::pin(demand.run(wishes)),
        Box::pin(follow((store, settings), &folder, &book, read, status.clone())),
        Box::pin(publish(&book, is_read, status.clone(), (&answers, &issued, &around))),
        Box::pin(leading),
    );
    pending().await
}

fn wants(status: &Status) -> bool {
    status.table.as_ref().is_some_and(|table| table.wants_acme())
}

/// Keeps the book: reads it once, and follows it from when it is needed.
async fn follow(
    (store, settings): (&Store, &StoreSettings),
    folder: &str,
    book: &watch::Sender<CertBook>,
    read: watch::Sender<bool>,
    mut status: watch::Receiver<Status>,
) {
    loop {
        if let Ok(listing) = store.list(folder).await {
            book.send_modify(|book| book.reset(listing.entries));
            break;
        }
        sleep(RETRY).await;
    }
    read.send_replace(true);
    let is_empty = || book.borrow().certs.is_empty() && book.borrow().orders.is_empty();
    if is_empty() {
        let _ = status.wait_for(wants).await;
    }
    let settled = store.settled(settings).await;
    let followed = match Store::open(&StoreSettings { prefix: folder.to_owned(), ..settled }) {
        Ok(store) => store,
        Err(error) => {
            warn!("certificates by ACME cannot be followed: {error}");
            return;
        }
    };
    let (updates, mut changes) = mpsc::channel(UPDATES);
    let (condition, _told) = watch::channel(Condition::Connecting { error: None });
    let taking = async {
        while let Some(update) = changes.recv().await {
            book.send_modify(|book| book.take(update));
        }
    };
    tokio::join!(Box::pin(followed.follow(updates, condition)), taking);
}

/// Publishes what the book holds, when it or the names that are wanted change.
async fn publish(
    book: &watch::Sender<CertBook>,
    mut is_read: watch::Receiver<bool>,
    mut status: watch::Receiver<Status>,
    (answers, issued, around): (&Answers, &watch::Sender<Option<IssuedCerts>>, &watch::Sender<Around>),
) {
    let mut changes = book.subscribe();
    let mut known: (Option<Arc<Table>>, AcmeNames) = Default::default();
    let _ = is_read.wait_for(|is_read| *is_read).await;
    loop {
        let newest = status.borrow_and_update().table.clone();
        if newest.as_ref().map(Arc::as_ptr) != known.0.as_ref().map(Arc::as_ptr) {
            known = (newest.clone(), newest.map(|table| table.acme_names()).unwrap_or_default());
        }
        let (now, problems, names) = {
            let book = changes.borrow_and_update();
            (
                Some(book.issued(answers)),
                book.problems(&known.1, known.0.as_deref()),
                book.names(&known.1, known.0.as_deref()),
            )
        };
        issued.send_if_modified(|last| {
            let is_news = *last != now;
            *last = now;
            is_news
        });
        around.send_if_modified(|around| {
            let report = AcmeReport { problems, names, outcomes: around.acme.outcomes, demands: around.acme.demands };
            let is_news = around.acme != report;
            if is_news {
                around.acme = report;
            }
            is_news
        });
        sleep(PACE).await;
        let seen = known.0.as_ref().map(Arc::as_ptr);
        let is_newer = |status: &Status| status.table.as_ref().map(Arc::as_ptr) != seen;
        tokio::select! {
            Ok(()) = changes.changed() => {}
            Ok(_) = status.wait_for(is_newer) => {}
            else => pending().await,
        }
    }
}
