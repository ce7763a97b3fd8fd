//! Work of the engine beside its loop, one piece at a time. Knows nothing of what the work is.

use std::future::{Future, pending};

use tokio::task::JoinHandle;

/// A piece of work that the loop starts now and then.
#[derive(Debug, Default)]
pub(super) enum Errand<T> {
    /// Nothing is under way.
    #[default]
    Idle,
    /// The answer is yet to come.
    Running(JoinHandle<T>),
}

impl<T: Send + 'static> Errand<T> {
    /// Starts the work. Work that is still under way goes on, but its answer is lost.
    pub(super) fn start(&mut self, work: impl Future<Output = T> + Send + 'static) {
        *self = Self::Running(tokio::spawn(work));
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self, Self::Idle)
    }

    /// Waits for the answer, after which the errand is idle again. Waits for ever while idle. May be dropped and called
    /// again.
    pub(super) async fn finished(&mut self) -> T {
        let answer = match self {
            Self::Idle => pending().await,
            Self::Running(task) => answer(task).await,
        };
        *self = Self::Idle;
        answer
    }
}

/// Waits for a task. Its panic is ours.
pub(super) async fn answer<T>(task: &mut JoinHandle<T>) -> T {
    match task.await {
        Ok(answer) => answer,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_errand_is_idle_again_after_its_answer() {
        let mut errand = Errand::default();
        assert!(errand.is_idle());
        for answer in 1..3 {
            errand.start(async move { answer });
            assert!(!errand.is_idle());
            assert_eq!(errand.finished().await, answer);
            assert!(errand.is_idle());
        }
    }
}
