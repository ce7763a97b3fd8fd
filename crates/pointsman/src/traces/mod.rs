//! Traces on their way out: spans that the workers of the native engine recorded, sent by OTLP over HTTP. Nobody waits for
//! it: what a collector does not take in time is dropped and counted.
//!
//! | module | owns |
//! |---|---|
//! | `otlp` | the messages, in protobuf |
//! | `collector` | where spans are sent, and one request there |

mod collector;
mod otlp;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use pointsman_engine::exemplars::{Exemplar, Exemplars};
use pointsman_engine::seldom::Seldom;
use pointsman_engine::spans::{Span, SpanCounts, SpanDrop, SpanReceiver, SpanValue, span_queue};
use pointsman_native::TraceSettings;
use pointsman_table::shown;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{info, warn};

use collector::{Collector, Posted};
pub use collector::{OtlpUrl, parse_header};

/// How many spans a request has at most, or a few more.
const BATCH: usize = 512;
/// How long a batch is collected.
const COLLECT: Duration = Duration::from_secs(1);
/// How often a batch is sent until it is dropped.
const ATTEMPTS: u32 = 5;
/// The pause after the first attempt; each one after it is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause, also of those that a collector asks for.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often the log says that spans cannot be sent, milliseconds.
const TELL_EVERY: u64 = 60_000;

/// Where spans go, and of which requests. Without effect on the HAProxy engine.
#[derive(Clone, Debug, PartialEq)]
pub struct OtlpSettings {
    /// Where spans go; `None`: nothing is traced.
    pub url: Option<OtlpUrl>,
    /// Headers of the requests there. Secret.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The share of requests that are recorded, of those whose caller has not decided.
    pub share: f64,
    /// Whether metrics name traces.
    pub exemplars: bool,
}

impl Default for OtlpSettings {
    fn default() -> Self {
        Self { url: None, headers: Vec::new(), share: 0.01, exemplars: false }
    }
}

/// The traces of this process.
#[derive(Default)]
pub struct Traces {
    /// What the engine is told; `None`: nothing is traced.
    pub engine: Option<TraceSettings>,
    /// What became of spans.
    pub counts: Arc<SpanCounts>,
    /// What metrics tell of traces; `None`: nothing.
    pub exemplars: Option<Arc<Exemplars>>,
    sender: Option<SpanSender>,
}

/// The task that sends, once it runs.
pub struct Sending(Option<(watch::Sender<bool>, JoinHandle<()>)>);

impl Traces {
    /// Makes ready to send.
    ///
    /// # Errors
    /// The URL needs TLS, and this machine has no authorities.
    pub fn open(settings: &OtlpSettings) -> anyhow::Result<Self> {
        let Some(url) = settings.url.clone() else {
            if settings.exemplars {
                warn!("--metrics-exemplars has no effect without --otlp: exemplars name traces");
            }
            return Ok(Self::default());
        };
        let collector = Collector::new(url, &settings.headers)?;
        let counts = Arc::new(SpanCounts::default());
        let exemplars = settings.exemplars.then(Arc::<Exemplars>::default);
        let (queue, spans) = span_queue(Arc::clone(&counts));
        let sender = SpanSender {
            collector,
            name: String::new(),
            spans,
            batch: Vec::new(),
            counts: Arc::clone(&counts),
            exemplars: exemplars.clone(),
            since: Instant::now(),
            lines: Seldom::new(TELL_EVERY),
            failing: None,
        };
        let engine = Some(TraceSettings { share: settings.share, queue });
        Ok(Self { engine, counts, exemplars, sender: Some(sender) })
    }

    /// Begins to send. `name`: this balancer's.
    pub fn start(self, name: &str) -> Sending {
        Sending(self.sender.map(|sender| {
            let (end, ends) = watch::channel(false);
            (end, tokio::spawn(SpanSender { name: name.to_owned(), ..sender }.run(ends)))
        }))
    }
}

impl Sending {
    /// Sends what there is, but no longer than this.
    pub async fn finish(self, within: Duration) {
        let Some((end, task)) = self.0 else { return };
        end.send_replace(true);
        if timeout(within, task).await.is_err() {
            warn!("the last spans were not sent within {} s", within.as_secs());
        }
    }
}

/// The services and exemplars of requests whose latencies are counted.
fn exemplars(spans: &[Span]) -> Vec<(Box<str>, Exemplar)> {
    let exemplar = |span: &Span| {
        let took = span.took?;
        let service = span.attributes.iter().find_map(|(name, value)| match value {
            SpanValue::Text(value) if *name == "pointsman.service" => Some(value.clone()),
            _ => None,
        });
        Some((service?, Exemplar { trace: span.trace, span: span.id, took, at: span.end }))
    };
    spans.iter().filter_map(exemplar).collect()
}

/// Waits for the end of the program.
async fn ended(ends: &mut watch::Receiver<bool>) {
    // An error is an end, too.
    let _ = ends.wait_for(|ends| *ends).await;
}

/// Sends spans to one collector.
struct SpanSender {
    collector: Collector,
    name: String,
    spans: SpanReceiver,
    /// The spans of the next request.
    batch: Vec<Span>,
    counts: Arc<SpanCounts>,
    exemplars: Option<Arc<Exemplars>>,
    since: Instant,
    lines: Seldom,
    /// The log said that it fails; how many spans had been dropped until then.
    failing: Option<u64>,
}

impl SpanSender {
    async fn run(mut self, mut ends: watch::Receiver<bool>) {
        loop {
            let is_over = tokio::select! {
                is_over = self.collect() => is_over,
                () = ended(&mut ends) => {
                    self.spans.close();
                    // What waits comes at once.
                    self.collect().await
                }
            };
            if !self.batch.is_empty() {
                self.send(&mut ends).await;
            }
            if is_over {
                return;
            }
        }
    }

    /// Collects the next batch. `true`: there will be no other. May be dropped at any moment.
    async fn collect(&mut self) -> bool {
        let mut until = None;
        while self.batch.len() < BATCH {
            let next = match until {
                None if self.batch.is_empty() => Ok(self.spans.next().await),
                until => timeout_at(until.unwrap_or_else(Instant::now), self.spans.next()).await,
            };
            match next {
                Ok(Some(page)) => self.batch.extend(page),
                Ok(None) => return true,
                Err(_) => return false,
            }
            until.get_or_insert_with(|| Instant::now() + COLLECT);
        }
        false
    }

    /// Sends the batch, a few times if need be, or drops it. At the end of the program it is sent once.
    async fn send(&mut self, ends: &mut watch::Receiver<bool>) {
        let batch = std::mem::take(&mut self.batch);
        let (body, spans) = (Bytes::from(otlp::encode(&self.name, &batch)), batch.len());
        let told = if self.exemplars.is_some() { exemplars(&batch) } else { Vec::new() };
        drop(batch);
        let mut pause = FIRST_PAUSE;
        for attempt in 1..=ATTEMPTS {
            let (why, after) = match self.collector.post(body.clone()).await {
                Posted::Taken(rejected) => {
                    // The collector has them.
                    let kept = self.exemplars.iter().filter(|_| rejected.is_none());
                    kept.for_each(|kept| told.iter().for_each(|(service, one)| kept.keep(service, *one)));
                    return self.taken(spans, rejected);
                }
                Posted::Refused(why) => {
                    self.counts.add_dropped(SpanDrop::Refused, spans);
                    return self.failed(&why);
                }
                Posted::Later(why, after) => (why, after),
            };
            self.failed(&why);
            if attempt == ATTEMPTS || *ends.borrow() {
                break;
            }
            let wait = after.unwrap_or_else(|| pause.mul_f64(0.5 + fastrand::f64() / 2.0)).min(LONGEST_PAUSE);
            tokio::select! {
                () = sleep(wait) => pause *= 2,
                () = ended(ends) => {}
            }
        }
        self.counts.add_dropped(SpanDrop::Unsent, spans);
    }

    fn dropped(&self) -> u64 {
        self.counts.dropped().iter().sum()
    }

    fn taken(&mut self, spans: usize, rejected: Option<(usize, String)>) {
        let refused = rejected.as_ref().map_or(0, |(count, _)| (*count).min(spans));
        self.counts.add_sent(spans - refused);
        match rejected {
            Some((count, why)) => {
                self.counts.add_dropped(SpanDrop::Refused, refused);
                self.failed(&format!("it refused {count} of {spans} spans: {}", shown(&why)));
            }
            None => {
                if let Some(before) = self.failing.take() {
                    let dropped = self.dropped() - before;
                    info!("spans are sent to {} again; {dropped} were dropped", self.collector.url);
                }
            }
        }
    }

    /// Tells the log, at a bounded pace.
    fn failed(&mut self, why: &str) {
        let now = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        if self.lines.happened(now).is_some() {
            let (url, dropped) = (&self.collector.url, self.dropped());
            warn!("spans cannot be sent to {url}, and are dropped if that lasts: {why}; {dropped} were dropped so far");
            self.failing.get_or_insert(dropped);
        }
    }
}
