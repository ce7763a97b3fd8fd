//! From when to when this program is the balancer: from when the one before it has stopped accepting, until another has
//! taken over. What only one program may do at a time is done in between.

use std::cell::RefCell;
use std::path::PathBuf;
use std::time::Duration;

use pointsman_engine::Phase;
use pointsman_table::{Problem, ProblemKind};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{error, warn};

use super::giver::{Giver, GiverInputs};
use super::spot::{Spot, SpotTaken};
use super::taker::Predecessor;
use crate::admin::Figures;
use crate::control::{Around, Status};
use crate::tenure::{Heir, Tenure};

/// The pause before another attempt to listen in `--state`.
const RETRY: Duration = Duration::from_secs(10);

/// The turns of one program.
#[derive(Debug)]
pub struct Succession {
    folder: Option<PathBuf>,
    admitted: watch::Sender<bool>,
    handed: watch::Sender<Option<Heir>>,
    /// The program before this one has ended.
    is_last: watch::Sender<bool>,
    /// Why the program before serves on.
    withdrawn: RefCell<Option<String>>,
}

impl Succession {
    /// For a program that takes over, if it `takes`, and hands over by a socket in this folder, if there is one.
    pub fn new(folder: Option<PathBuf>, takes: bool) -> Self {
        Self {
            folder,
            admitted: watch::Sender::new(!takes),
            handed: watch::Sender::new(None),
            is_last: watch::Sender::new(!takes),
            withdrawn: RefCell::default(),
        }
    }

    /// This program's turn.
    pub fn tenure(&self) -> Tenure {
        Tenure::new(self.admitted.subscribe(), self.handed.subscribe())
    }

    /// Where it is told that another has taken over.
    pub fn handed(&self) -> watch::Sender<Option<Heir>> {
        self.handed.clone()
    }

    /// Whether the program before this one has ended.
    pub fn is_last(&self) -> watch::Receiver<bool> {
        self.is_last.subscribe()
    }

    /// Takes the turn of the program before this one once this one serves, and hears its counts until it ends. If that one
    /// serves on, this one drains.
    pub async fn follow(
        &self,
        predecessor: Option<Predecessor>,
        status: watch::Receiver<Status>,
        phase: watch::Sender<Phase>,
        figures: Figures,
    ) {
        let Some(mut predecessor) = predecessor else { return };
        match predecessor.relieve(status).await {
            Ok(()) => {
                self.admitted.send_replace(true);
                predecessor.follow(figures.earlier()).await;
                self.is_last.send_replace(true);
            }
            Err(why) => {
                error!("this program ends, as the one before it serves on: {why}");
                *self.withdrawn.borrow_mut() = Some(why);
                self.is_last.send_replace(true);
                phase.send_replace(Phase::Drain);
            }
        }
    }

    /// Hands over to programs that ask, until this one has drained.
    pub async fn give(&self, inputs: GiverInputs, around: watch::Sender<Around>) {
        let Some(folder) = &self.folder else { return };
        let (mut ended, mut tenure, takes) = (inputs.ended.clone(), self.tenure(), !*self.admitted.borrow());
        let opening = async {
            tenure.begins().await;
            let mut replaces = takes;
            loop {
                let opened = if replaces { Spot::replace(folder) } else { Spot::open(folder).await };
                // By then another may be there.
                replaces = false;
                let problem = opened.as_ref().err().map(untakeable);
                around.send_if_modified(|around| {
                    let is_news = around.takeover != problem;
                    if let (true, Some(problem)) = (is_news, &problem) {
                        warn!("--state: {}", problem.advice);
                    }
                    around.takeover = problem;
                    is_news
                });
                if let Ok(spot) = opened {
                    return spot;
                }
                sleep(RETRY).await;
            }
        };
        let spot = tokio::select! {
            spot = opening => spot,
            _ = ended.wait_for(|ended| *ended) => return,
        };
        Giver::new(inputs).run(spot).await;
    }

    /// How it ended.
    ///
    /// # Errors
    /// The program before this one serves on.
    pub fn outcome(&self) -> anyhow::Result<()> {
        match self.withdrawn.take() {
            Some(why) => Err(anyhow::anyhow!("--takeover: the program that hands over serves on: {why}")),
            None => Ok(()),
        }
    }
}

/// One program keeps state in a folder.
fn unkept(fault: &SpotTaken) -> &'static str {
    match fault {
        SpotTaken::InUse { .. } => ", and keeps no state, snapshot or journal while the other one runs",
        SpotTaken::Unusable { .. } => "",
    }
}

fn untakeable(fault: &SpotTaken) -> Problem {
    let advice = format!("{fault}; this balancer cannot be upgraded without an interruption{}", unkept(fault));
    Problem::of_setting(ProblemKind::State, "state", advice)
}
