//! Balancers without an engine, all in one thread: the store's follower, the control loop and the keeper of the status
//! key are the program's own, and what an engine would say is said at once. Each has connections of its own.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pointsman::admin::Figures;
use pointsman::control::{
    self, Around, ControlChannels, ControlInputs, Defaults, GuardSettings, IssuedCerts, PortProbe, Recorder, Status,
    Timeline,
};
use pointsman::fleet::Listens;
use pointsman::fleet::keeper::{self, About};
use pointsman::tenure::Tenure;
use pointsman_engine::Applied;
use pointsman_engine::inherited::Inherited;
use pointsman_engine::live::Registry;
use pointsman_store::{Condition, Store, StoreSettings, Update};
use pointsman_table::{Capabilities, Places, Table};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, LocalSet};

/// As the program has them.
const UPDATES: usize = 1024;
const APPLIED: usize = 64;

/// What the bench wants of them.
enum Order {
    /// Starts this many more.
    Start(usize),
    /// Kills this many, without signing off.
    Kill(usize),
}

/// What has happened to all of them together.
struct Tally {
    begun: Instant,
    /// Updates that followers of the prefix were told.
    delivered: AtomicU64,
    /// When the last of them was told its last update, and when it served that: microseconds.
    told: AtomicU64,
    served: AtomicU64,
}

impl Tally {
    fn new() -> Self {
        let [delivered, told, served] = [const { AtomicU64::new(0) }; 3];
        Self { begun: Instant::now(), delivered, told, served }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn at(&self, moment: &AtomicU64) -> Instant {
        self.begun + Duration::from_micros(moment.load(Ordering::Relaxed))
    }
}

/// Balancers, until dropped.
pub(super) struct Crowd {
    orders: Option<mpsc::UnboundedSender<Order>>,
    tally: Arc<Tally>,
    thread: Option<JoinHandle<()>>,
}

impl Crowd {
    /// Nobody yet.
    pub(super) fn new(settings: StoreSettings) -> Self {
        let (orders, heard) = mpsc::unbounded_channel();
        let tally = Arc::new(Tally::new());
        let shared = tally.clone();
        let thread = std::thread::spawn(move || {
            let runtime = super::command::runtime().expect("threads have runtimes");
            LocalSet::new().block_on(&runtime, obey(heard, settings, shared));
        });
        Self { orders: Some(orders), tally, thread: Some(thread) }
    }

    /// So many more come up at once.
    pub(super) fn start(&self, balancers: usize) {
        self.order(Order::Start(balancers));
    }

    /// So many die at once.
    pub(super) fn kill(&self, balancers: usize) {
        self.order(Order::Kill(balancers));
    }

    fn order(&self, order: Order) {
        let _ = self.orders.as_ref().map(|orders| orders.send(order));
    }

    /// Updates that followers of the prefix were told, all together.
    pub(super) fn delivered(&self) -> u64 {
        self.tally.delivered.load(Ordering::Relaxed)
    }

    /// When the last of them was told the last update, and when it served that.
    pub(super) fn last(&self) -> (Instant, Instant) {
        (self.tally.at(&self.tally.told), self.tally.at(&self.tally.served))
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.orders = None;
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

async fn obey(mut orders: mpsc::UnboundedReceiver<Order>, settings: StoreSettings, tally: Arc<Tally>) {
    let mut living: Vec<AbortHandle> = Vec::new();
    while let Some(order) = orders.recv().await {
        match order {
            Order::Start(count) => {
                let numbers = living.len()..living.len() + count;
                let start = |number| tokio::task::spawn_local(live(number, settings.clone(), tally.clone()));
                living.extend(numbers.map(|number| start(number).abort_handle()));
            }
            Order::Kill(count) => living.drain(living.len().saturating_sub(count)..).for_each(|one| one.abort()),
        }
    }
}

/// One balancer.
async fn live(number: usize, settings: StoreSettings, tally: Arc<Tally>) {
    let Ok(store) = Store::open(&settings) else { return };
    let (told, heard) = mpsc::channel(UPDATES);
    let (updates, control_updates) = mpsc::channel(UPDATES);
    let (condition, control_condition) = watch::channel(Condition::Connecting { error: None });
    let (tables, engine_tables) = watch::channel(Table::empty());
    let (applied, control_applied) = mpsc::channel(APPLIED);
    let status = watch::Sender::new(Status::new());
    let (_ended, end) = watch::channel(false);
    let (admitted, handed) = (watch::Sender::new(true), watch::Sender::new(None));
    let tenure = Tenure::new(admitted.subscribe(), handed.subscribe());
    let inputs = ControlInputs {
        prefix: settings.prefix.as_str().into(),
        own: Box::new([(Ipv4Addr::LOCALHOST, 80).into()]),
        local: Vec::new,
        now: std::time::SystemTime::now,
        places: Places::default(),
        probe: PortProbe::new(|_| Ok(()), Inherited::default()),
        capabilities: Capabilities::NATIVE,
        usual_https: Box::default(),
        listeners: None,
        defaults: Defaults::default(),
        guard: GuardSettings { share: None, hold: Duration::ZERO },
        standby: None,
        recorder: Recorder::default(),
        cluster: store.cluster(),
    };
    let channels = ControlChannels {
        certs: watch::channel(Some(Arc::default())).1,
        issued: watch::channel(Some(IssuedCerts::default())).1,
        around: watch::channel(Around::default()).1,
        released: watch::Sender::default().subscribe(),
        served: watch::Sender::default(),
        ended: end.clone(),
        updates: control_updates,
        condition: control_condition,
        applied: control_applied,
        names: watch::Sender::default().subscribe(),
        wanted: watch::Sender::default(),
        tables,
        status: status.clone(),
        timeline: Timeline::default(),
    };
    // As the program says of itself with its default settings.
    let listens = Listens {
        http: vec![(Ipv4Addr::UNSPECIFIED, 80).into()],
        admin: Some((Ipv4Addr::LOCALHOST, 8404).into()),
        ..Listens::default()
    };
    let (name, prefix) = (format!("balancer-{number}:80"), settings.prefix.clone());
    let about = About { name, prefix, engine: "native", listens };
    let figures = Figures::Native(Arc::new(Registry::new(1, &[])));
    tokio::join!(
        Box::pin(store.follow(told, condition)),
        Box::pin(control::run(inputs, channels)),
        Box::pin(keeper::keep(&store, about, status, figures, (tenure, end))),
        count(heard, updates, &tally),
        serve(engine_tables, applied, &tally),
    );
}

async fn count(mut heard: mpsc::Receiver<Update>, updates: mpsc::Sender<Update>, tally: &Tally) {
    while let Some(update) = heard.recv().await {
        tally.delivered.fetch_add(1, Ordering::Relaxed);
        tally.told.store(tally.now(), Ordering::Relaxed);
        let _ = updates.send(update).await;
    }
}

/// The engine: every table is in use at once.
async fn serve(mut tables: watch::Receiver<Arc<Table>>, applied: mpsc::Sender<Applied>, tally: &Tally) {
    while tables.changed().await.is_ok() {
        let table = Arc::clone(&tables.borrow_and_update());
        tally.served.store(tally.now(), Ordering::Relaxed);
        let bound = table.tcp().iter().map(|(bind, _)| *bind).collect();
        let _ = applied.send(Applied::new(&table, Vec::new(), bound)).await;
    }
}
