//! Figures of HAProxy: when a page wants fresh ones, asks the workers beside the loop. Enters none itself.

use std::sync::Arc;

use super::errand::Errand;
use super::event::Event;
use crate::ledger::Ledger;
use crate::scrape::Scrape;

/// The ledger and the scrape under way.
pub(super) struct Figures {
    pub(super) ledger: Arc<Ledger>,
    scrape: Errand<Vec<u32>>,
}

impl Figures {
    pub(super) fn new(ledger: Arc<Ledger>) -> Self {
        Self { ledger, scrape: Errand::default() }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.scrape.is_idle()
    }

    /// Waits for the scrape under way, else until a page wants one.
    pub(super) async fn event(&mut self) -> Event {
        if self.scrape.is_idle() {
            self.ledger.wanted().await;
            return Event::FiguresWanted;
        }
        Event::Scraped(self.scrape.finished().await)
    }

    /// Asks the workers. Without a worker the page gets its answer at once.
    pub(super) fn scrape(&mut self, workers: Option<Scrape>) {
        match workers {
            Some(workers) => {
                let ledger = self.ledger.clone();
                self.scrape.start(async move { workers.run(&ledger).await });
            }
            None => self.ledger.end_scrape(self.ledger.begin_scrape(), false),
        }
    }
}
