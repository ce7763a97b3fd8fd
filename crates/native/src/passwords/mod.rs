//! Whether passwords match hashes, found out on threads of its own: it takes as long as thousands of requests. Never waits
//! on the caller's thread, and keeps no password.
//!
//! ```text
//! worker ─ ask ─┬─ known (keyed hash of hash, user and password) ─> at once
//!               ├─ the same is being computed ────────────────────> its answer
//!               ├─ the queue is full ─────────────────────────────> none
//!               └─ queue ─> a thread of low priority: verify ─────> answer
//! ```

#![expect(clippy::disallowed_types, reason = "locked only for requests that bring a password which is hashed")]

mod crypt;
mod known;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::hmac;
use rustix::process::setpriority_process;
use tokio::sync::oneshot;
use tracing::{error, warn};

use self::crypt::verify;
use self::known::{Known, Tag};

/// Most passwords that wait to be computed; more are not taken.
const LONGEST_QUEUE: usize = 64;
/// Most threads. One computes hundreds of usual hashes a second, and more would take the workers' time.
const MOST_THREADS: usize = 2;
/// The priority of the threads (setpriority(2)): beside a worker that is busy, a thread gets a tenth of a core.
const NICE: i32 = 10;
/// How long an answer is known, milliseconds.
const LIFE: u64 = 300_000;

/// The answer to whether a password matches.
#[derive(Debug)]
pub(crate) enum Told {
    /// Known already.
    Known(bool),
    /// It comes; an error: it never does.
    Later(oneshot::Receiver<bool>),
    /// So many wait that this one is not computed.
    Full,
}

/// The threads that compute hashes, and what they found out. Shared by all workers.
#[derive(Debug)]
pub(crate) struct Passwords {
    key: hmac::Key,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<PasswordQueue>,
    /// There is work, or no more will come.
    work: Condvar,
}

#[derive(Debug, Default)]
struct PasswordQueue {
    queue: VecDeque<Job>,
    /// Who waits for what is queued or being computed.
    waiting: HashMap<Tag, Vec<oneshot::Sender<bool>>>,
    known: Known,
    threads: usize,
    is_over: bool,
}

/// A password to be computed.
struct Job {
    tag: Tag,
    hash: Box<str>,
    password: Box<[u8]>,
    /// When it was asked for, milliseconds of the coarse clock.
    asked: u64,
}

/// Nothing of it is ever printed.
impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("hidden")
    }
}

impl Passwords {
    /// Starts no thread: the first password to be computed does.
    ///
    /// # Errors
    /// The system has no randomness.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let mut key = [0; 32];
        aws_lc_rs::rand::fill(&mut key).map_err(|_| anyhow::anyhow!("the system gives no random bytes"))?;
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, &key), shared: Arc::default() })
    }

    /// Whether two passwords are equal, in a time that tells nothing of them.
    pub(crate) fn are_equal(&self, one: &[u8], other: &[u8]) -> bool {
        let tag = hmac::sign(&self.key, one);
        hmac::verify(&self.key, other, tag.as_ref()).is_ok()
    }

    /// Whether this password of a user matches a hash. `now`: milliseconds of the coarse clock.
    pub(crate) fn ask(&self, hash: &str, (user, password): (&[u8], &[u8]), now: u64) -> Told {
        let tag = self.tag([hash.as_bytes(), user, password]);
        let mut state = self.shared.lock();
        if let Some(matches) = state.known.get(&tag, now) {
            return Told::Known(matches);
        }
        let (answer, later) = oneshot::channel();
        if let Some(waiting) = state.waiting.get_mut(&tag) {
            waiting.push(answer);
            return Told::Later(later);
        }
        state.forget_abandoned();
        if state.queue.len() >= LONGEST_QUEUE || !self.has_thread(&mut state) {
            return Told::Full;
        }
        state.waiting.insert(tag, vec![answer]);
        state.queue.push_back(Job { tag, hash: hash.into(), password: password.into(), asked: now });
        drop(state);
        self.shared.work.notify_one();
        Told::Later(later)
    }

    fn tag(&self, parts: [&[u8]; 3]) -> Tag {
        let mut context = hmac::Context::with_key(&self.key);
        for part in parts {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        let mut tag = Tag::default();
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }

    /// Starts one more thread if there is work for it. `false`: there is none at all.
    fn has_thread(&self, state: &mut PasswordQueue) -> bool {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let wanted = if state.threads == 0 || !state.queue.is_empty() { state.threads + 1 } else { state.threads };
        if wanted > state.threads && wanted <= MOST_THREADS.min(cores.div_ceil(2)) {
            let shared = Arc::clone(&self.shared);
            let started = std::thread::Builder::new().name("passwords".into()).spawn(move || shared.run());
            match started {
                Ok(_) => state.threads += 1,
                Err(error) => error!("no thread to compute passwords: {error}"),
            }
        }
        state.threads > 0
    }
}

impl Drop for Passwords {
    fn drop(&mut self) {
        self.shared.lock().is_over = true;
        self.shared.work.notify_all();
    }
}

impl PasswordQueue {
    /// Whether somebody still waits for it.
    fn is_awaited(&self, tag: &Tag) -> bool {
        self.waiting.get(tag).is_some_and(|all| all.iter().any(|one| !one.is_closed()))
    }

    /// Leaves out what nobody waits for any more, if the queue is full.
    fn forget_abandoned(&mut self) {
        if self.queue.len() >= LONGEST_QUEUE {
            let all = std::mem::take(&mut self.queue).into_iter();
            let (awaited, others): (VecDeque<_>, VecDeque<_>) = all.partition(|job| self.is_awaited(&job.tag));
            self.queue = awaited;
            others.iter().for_each(|job| drop(self.waiting.remove(&job.tag)));
        }
    }
}

impl Shared {
    /// No state is left half changed where a thread may panic.
    fn lock(&self) -> MutexGuard<'_, PasswordQueue> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Computes one after another until no more will come.
    fn run(&self) {
        if let Err(error) = setpriority_process(None, NICE) {
            warn!("passwords are computed at the usual priority: {error}");
        }
        let mut state = self.lock();
        loop {
            let Some(Job { tag, hash, password, asked }) = state.queue.pop_front() else {
                if state.is_over {
                    return;
                }
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            if !state.is_awaited(&tag) {
                state.waiting.remove(&tag);
                continue;
            }
            drop(state);
            let matches = verify(&hash, &password);
            state = self.lock();
            state.known.put(tag, matches, asked + LIFE);
            for answer in state.waiting.remove(&tag).into_iter().flatten() {
                // Its client may be gone.
                let _ = answer.send(matches);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `secret`.
    const HASH: &str = "$5$saltsalt$0IyaXrmV7.sGNS6tirgqHLqX/G.FBvgkYA.lpPdS5sA";

    fn waits(told: Told) -> bool {
        match told {
            Told::Later(later) => later.blocking_recv().expect("computed"),
            told => panic!("{told:?}"),
        }
    }

    fn is_known(told: Told) -> bool {
        match told {
            Told::Known(matches) => matches,
            told => panic!("{told:?}"),
        }
    }

    #[test]
    fn what_was_found_out_is_known_for_a_while() {
        let passwords = Passwords::new().unwrap();
        let ask = |user: &str, password: &str, now| passwords.ask(HASH, (user.as_bytes(), password.as_bytes()), now);
        assert!(waits(ask("ann", "secret", 7)));
        assert!(!waits(ask("ann", "wrong", 7)));
        assert!(is_known(ask("ann", "secret", 6 + LIFE)) && !is_known(ask("ann", "wrong", 6 + LIFE)));
        // Else the time would tell whether two names share a hash.
        assert!(waits(ask("bob", "secret", 7)));
        assert!(waits(ask("ann", "secret", 8 + LIFE)));
    }

    #[test]
    fn equal_ones_are_computed_once_and_too_many_are_refused() {
        let passwords = Passwords::new().unwrap();
        let ask = |password: &str| passwords.ask(HASH, (b"ann", password.as_bytes()), 0);
        passwords.shared.lock().threads = 1;
        let same: Vec<_> = (0..10).map(|_| ask("secret")).collect();
        assert_eq!(passwords.shared.lock().queue.len(), 1);
        let others: Vec<_> = (1..LONGEST_QUEUE).map(|number| ask(&number.to_string())).collect();
        assert!(matches!(ask("one more"), Told::Full));
        assert!(matches!(ask("secret"), Told::Later(_)), "the same as one in the queue");
        drop(others);
        assert!(matches!(ask("one more"), Told::Later(_)), "nobody waits for the others any more");
        assert_eq!(passwords.shared.lock().queue.len(), 2);
        let shared = Arc::clone(&passwords.shared);
        let thread = std::thread::spawn(move || shared.run());
        assert!(same.into_iter().all(waits));
        drop(passwords);
        thread.join().unwrap();
    }

    #[test]
    fn passwords_are_compared_whole() {
        let passwords = Passwords::new().unwrap();
        assert!(passwords.are_equal(b"secret", b"secret") && passwords.are_equal(b"", b""));
        assert!(!passwords.are_equal(b"secret", b"secre") && !passwords.are_equal(b"secret", b""));
    }
}
