//! The turn of one program: from when it is the balancer until another has taken over. Ends nothing itself.

use tokio::sync::watch;

/// The program that has taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heir {
    /// Its process, if it is in this one's namespace.
    pub pid: Option<u32>,
}

/// When this program's turn begins and ends.
#[derive(Clone, Debug)]
pub struct Tenure {
    admitted: watch::Receiver<bool>,
    handed: watch::Receiver<Option<Heir>>,
}

impl Tenure {
    /// From when it is admitted until it has handed over.
    pub fn new(admitted: watch::Receiver<bool>, handed: watch::Receiver<Option<Heir>>) -> Self {
        Self { admitted, handed }
    }

    /// Waits until this program is the balancer.
    pub async fn begins(&mut self) {
        if self.admitted.wait_for(|admitted| *admitted).await.is_err() {
            std::future::pending().await
        }
    }

    /// Waits until another has taken over.
    pub async fn ends(&mut self) -> Heir {
        match self.handed.wait_for(Option::is_some).await.ok().and_then(|heir| *heir) {
            Some(heir) => heir,
            None => std::future::pending().await,
        }
    }

    /// Runs `work` in this program's turn only.
    pub async fn during(mut self, work: impl Future<Output = ()>) {
        self.begins().await;
        tokio::select! {
            biased;
            _ = self.ends() => {}
            () = work => {}
        }
    }
}
