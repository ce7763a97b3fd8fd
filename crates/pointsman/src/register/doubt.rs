//! Decides when to say why a check fails: soon after it began to fail, and when the reason changes. Writes nothing
//! itself.

use std::time::{Duration, Instant};

/// A command may take this long to start before a failed check is worth a line.
const GRACE: Duration = Duration::from_millis(500);
/// At most one line in this time.
const PACE: Duration = Duration::from_secs(1);

/// The last report about a failing check.
#[derive(Debug)]
pub struct Doubt {
    began: Instant,
    /// The last reason, and when it was said.
    said: Option<(String, Instant)>,
}

impl Doubt {
    /// Nothing was said yet.
    pub fn new(now: Instant) -> Self {
        Self { began: now, said: None }
    }

    /// Whether to report now that the check fails for this reason.
    pub fn is_news(&mut self, now: Instant, reason: &str) -> bool {
        let is_news = match &self.said {
            None => now.saturating_duration_since(self.began) >= GRACE,
            Some((said, at)) => said != reason && now.saturating_duration_since(*at) >= PACE,
        };
        if is_news {
            self.say(now, reason);
        }
        is_news
    }

    /// Notes that this reason is being reported.
    pub fn say(&mut self, now: Instant, reason: &str) {
        self.said = Some((reason.to_owned(), now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_said_once_and_a_new_one_too() {
        let start = Instant::now();
        let mut doubt = Doubt::new(start);
        for (at, reason, expected) in [
            (0, "refused", false),
            (400, "refused", false),
            (600, "refused", true),
            (9000, "refused", false),
            (9200, "status 404", true),
            (9400, "status 500", false),
            (9600, "status 404", false),
            (10_300, "status 500", true),
        ] {
            let is_news = doubt.is_news(start + Duration::from_millis(at), reason);
            assert_eq!(is_news, expected, "{reason} at {at} ms");
        }
    }
}
