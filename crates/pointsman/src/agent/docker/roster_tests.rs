//! Scripts of events and answers, with the known containers and the requests after each.

use super::*;

/// Words, one step each:
/// `connect`, `tick`, `audit`; `list:a,b/c` with containers without our labels after the slash; `kill:a@5`, or
/// `kill:a=1@5` with a signal other than TERM; `die:a@5`; `event:a@5`; `is:a@1` runs since 1 (`is:a=3@1` with another
/// stop signal), `paused:a@1`, `other:a@1` without labels, `ended:a@1`, `gone:a`, `failed:a`; `jobs` prints the
/// requests, `?` the known containers, each one word of the answer: `[list]`, `[a b]`, `{a b!}` with `!` for stopping,
/// `{}` for none, `-` for no change.
fn check(script: &str, expected: &str) {
    let mut roster = Roster::default();
    let mut said = Vec::new();
    for word in script.split_whitespace() {
        match word {
            "jobs" => said.push(jobs(&mut roster)),
            "?" => said.push(known(&mut roster)),
            _ => roster.step(event(word)),
        }
    }
    assert_eq!(said.join(" "), expected, "{script}");
}

fn jobs(roster: &mut Roster) -> String {
    let asked = std::iter::from_fn(|| roster.next_job()).map(|job| match job {
        Job::List => "list".to_owned(),
        Job::Inspect(id) => id,
    });
    format!("[{}]", asked.collect::<Vec<_>>().join(" "))
}

fn known(roster: &mut Roster) -> String {
    let Some(containers) = roster.changes() else { return "-".to_owned() };
    let names = containers.into_iter().map(|(id, container)| {
        let paused = if container.state == State::Paused { "=" } else { "" };
        format!("{id}{paused}{}", if container.stopping { "!" } else { "" })
    });
    format!("{{{}}}", names.collect::<Vec<_>>().join(" "))
}

fn event(word: &str) -> RosterEvent {
    let (kind, rest) = word.split_once(':').unwrap_or((word, ""));
    let (subject, at) = rest.split_once('@').unwrap_or((rest, "0"));
    let (id, number) = subject.split_once('=').unwrap_or((subject, "15"));
    let (id, at, signal) = (id.to_owned(), at.parse().unwrap(), number.parse().unwrap());
    let happened = |what| RosterEvent::Happened(ContainerEvent { id: id.clone(), at, what });
    let answer = |state, label: &str| {
        let labels = [(label.to_owned(), String::new())].into();
        let started = at;
        let container = Container { started, state, labels, stop_signal: signal, ..Container::default() };
        RosterEvent::Inspected(id.clone(), Inspection::Is(Box::new(container)))
    };
    match kind {
        "connect" => RosterEvent::Connected,
        "tick" => RosterEvent::Tick,
        "audit" => RosterEvent::Audit,
        "list" => {
            let (ours, strangers) = rest.split_once('/').unwrap_or((rest, ""));
            let names = |text: &str| -> Vec<String> {
                text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
            };
            RosterEvent::Listed { ours: names(ours), strangers: names(strangers).into_iter().collect() }
        }
        "kill" => happened(ContainerChange::Signal(signal)),
        "die" => happened(ContainerChange::Died),
        "event" => happened(ContainerChange::Changed),
        "is" => answer(State::Running, "pointsman.id"),
        "paused" => answer(State::Paused, "pointsman.id"),
        "ended" => answer(State::Stopped, "pointsman.id"),
        "other" => answer(State::Running, "app"),
        "gone" => RosterEvent::Inspected(id, Inspection::Gone),
        "failed" => RosterEvent::Inspected(id, Inspection::Failed),
        _ => panic!("{word} is no step"),
    }
}

/// Two containers that run since 10.
const TWO: &str = "jobs list:a,b jobs is:a@10 is:b@10 ?";

fn check_two(script: &str, expected: &str) {
    check(&format!("{TWO} {script}"), &format!("[list] [a b] {{a b}} {expected}"));
}

#[test]
fn nothing_is_told_before_all_is_known() {
    check("? jobs jobs list:a,b ? jobs is:a@1 ? is:b@1 ? ?", "- [list] [] - [a b] - {a b} -");
    check("jobs list: ? ?", "[list] {} -");
    // A container that cannot be inspected, or has ended meanwhile, does not delay the others.
    check("jobs list:a,b,c jobs is:a@1 failed:b gone:c ?", "[list] [a b c] {a}");
    check("jobs list:a jobs is:b@1 ? is:a@1 ?", "[list] [a] - {a b}");
}

#[test]
fn one_that_something_happened_to_is_asked_about() {
    check_two("event:a@20 jobs paused:a@10 ? event:a@21 jobs is:a@10 ?", "[a] {a= b} [a] {a b}");
    check_two("event:c@20 jobs is:c@20 ?", "[c] {a b c}");
    check_two("event:c@20 jobs gone:c ?", "[c] -");
    check_two("event:a@20 jobs is:a@10 ?", "[a] -");
    // Many events cause one request, and one more if an event comes meanwhile.
    check_two(
        "event:a@20 event:a@21 event:a@22 jobs event:a@23 event:a@24 jobs is:a@10 jobs is:a@10 jobs",
        "[a] [] [a] []",
    );
}

#[test]
fn one_that_died_is_gone_at_once() {
    check_two("die:a@20 ? jobs ended:a@10 ?", "{b} [a] -");
    check_two("die:a@20 ? jobs is:a@21 ?", "{b} [a] {a b}");
    // An answer from before its death does not bring it back.
    check_two("event:a@19 jobs die:a@20 ? is:a@10 ? jobs gone:a ?", "[a] {b} - [a] -");
    // A late event from before its start.
    check_two("die:a@9 ? jobs is:a@10 ?", "- [a] -");
    check_two("die:a@20 jobs event:a@21 is:a@21 ? jobs is:a@21 ?", "[a] {a b} [a] -");
}

#[test]
fn one_that_was_told_to_stop_is_stopping() {
    check_two("kill:a@20 ?", "{a! b}");
    check_two("kill:a=9@20 ?", "{a! b}");
    check_two("kill:a@20 jobs is:a@10 ? die:a@21 ? jobs is:a@22 ?", "[a] {a! b} {b} [a] {a b}");
    // HUP, USR1 and WINCH do not stop a container.
    check_two("kill:a=1@20 kill:a=10@20 kill:a=28@20 ?", "{a b}");
    // The signal came before this start.
    check_two("kill:a@9 ?", "{a b}");
    // A custom stop signal.
    check("jobs list:a jobs is:a=3@10 kill:a=15@20 ? kill:a=3@21 ?", "[list] [a] {a} {a!}");
    check("jobs list:a jobs is:a=28@10 kill:a=28@20 ?", "[list] [a] {a!}");
    // The signal came before the container was known.
    check("jobs kill:a@20 list:a jobs is:a@10 ?", "[list] [a] {a!}");
    // A later, harmless signal does not undo it.
    check_two("kill:a@20 kill:a=1@21 ?", "{a! b}");
    // Neither does a new list.
    check_two("kill:a@20 ? audit jobs list:a,b jobs is:a@10 is:b@10 ?", "{a! b} [list] [a b] -");
}

#[test]
fn strangers_are_left_alone() {
    check("jobs list:a/x jobs is:a@1 ? event:x@2 kill:x@3 die:x@4 jobs ?", "[list] [a] {a} [] -");
    check_two("event:x@20 jobs other:x@20 ? event:x@21 jobs", "[x] - []");
}

#[test]
fn the_list_is_the_truth() {
    check_two("audit jobs list:a,c jobs is:a@10 is:c@10 ?", "[list] [a c] {a c}");
    check_two("audit jobs list: ?", "[list] {}");
    check_two("audit jobs event:d@20 list:a,b jobs is:a@10 is:b@10 is:d@20 ?", "[list] [a b d] {a b d}");
}

#[test]
fn what_had_no_answer_is_asked_again() {
    check_two("event:a@20 jobs failed:a ? jobs tick jobs is:a@10 ?", "[a] - [] [a] -");
    check_two("event:a@20 jobs event:a@21 failed:a jobs", "[a] [a]");
}

#[test]
fn a_new_connection_sees_everything_anew() {
    check_two("connect ? jobs list:a jobs ? is:a@10 ? ", "- [list] [a] - {a}");
    check_two("event:a@20 jobs connect jobs list:a,b jobs is:a@10 is:b@10 ?", "[a] [list] [a b] {a b}");
    check_two("kill:a@20 connect jobs list:a,b jobs is:a@10 is:b@10 ?", "[list] [a b] {a! b}");
    check_two("connect die:a@20 jobs list:b jobs is:b@10 ended:a@10 ?", "[list] [a b] {b}");
}

#[test]
fn the_daemon_is_not_asked_too_much() {
    let mut roster = Roster::default();
    roster.step(event("list:"));
    for number in 0..MOST_DUE {
        roster.step(event(&format!("event:{number}@1")));
    }
    assert_eq!(jobs(&mut roster).split(' ').count(), AT_ONCE);
    for number in 0..=MOST_DUE {
        roster.step(event(&format!("event:x{number}@1")));
    }
    assert_eq!(jobs(&mut roster), "[list]");
    assert_eq!(roster.due.len(), 0);
}

#[test]
fn nothing_is_kept_of_those_that_are_gone() {
    let mut roster = Roster::default();
    for word in "list:a kill:a@5 die:a@6 kill:b@5 die:b@6".split(' ') {
        roster.step(event(word));
    }
    assert_eq!(jobs(&mut roster), "[a b]");
    for word in "gone:a gone:b event:c@1 kill:c@1".split(' ') {
        roster.step(event(word));
    }
    assert!(roster.deaths.is_empty() && roster.signals.len() == 1);
    for word in ["audit", "list:"] {
        roster.step(event(word));
    }
    assert_eq!(jobs(&mut roster), "[c]");
    roster.step(event("gone:c"));
    assert!(roster.signals.is_empty() && roster.containers.is_empty() && roster.busy.is_empty());
}

/// A small model of a daemon: containers with their start times, and undelivered events.
#[derive(Default)]
struct World {
    now: i64,
    running: BTreeMap<String, i64>,
    /// The time at which each got its stop signal, until it starts again.
    told: BTreeMap<String, i64>,
    events: std::collections::VecDeque<RosterEvent>,
    /// Undelivered answers, with the state at the time of the request.
    answers: Vec<RosterEvent>,
}

impl World {
    fn happen(&mut self, id: &str, what: ContainerChange) {
        self.now += 1;
        self.events.push_back(RosterEvent::Happened(ContainerEvent { id: id.to_owned(), at: self.now, what }));
    }

    fn start(&mut self, id: &str) {
        if !self.running.contains_key(id) {
            self.now += 1;
            self.running.insert(id.to_owned(), self.now);
            self.told.remove(id);
            self.happen(id, ContainerChange::Changed);
        }
    }

    fn kill(&mut self, id: &str) {
        if self.running.contains_key(id) {
            self.happen(id, ContainerChange::Signal(signal::TERM));
            self.told.insert(id.to_owned(), self.now);
        }
    }

    fn die(&mut self, id: &str) {
        if self.running.remove(id).is_some() {
            self.happen(id, ContainerChange::Died);
        }
    }

    fn answer(&self, job: Job) -> RosterEvent {
        match job {
            Job::List => {
                RosterEvent::Listed { ours: self.running.keys().cloned().collect(), strangers: BTreeSet::new() }
            }
            Job::Inspect(id) => match self.running.get(&id) {
                Some(started) => event(&format!("is:{id}@{started}")),
                None => RosterEvent::Inspected(id, Inspection::Gone),
            },
        }
    }

    fn seen(&self) -> String {
        let mark = |id: &String| if self.told.contains_key(id) { "!" } else { "" };
        let names: Vec<_> = self.running.keys().map(|id| format!("{id}{}", mark(id))).collect();
        format!("{{{}}}", names.join(" "))
    }

    /// Delivers everything.
    fn settle(&mut self, roster: &mut Roster) {
        loop {
            self.events.drain(..).for_each(|event| roster.step(event));
            self.answers.drain(..).for_each(|event| roster.step(event));
            match roster.next_job() {
                Some(job) => self.answers.push(self.answer(job)),
                None => return,
            }
        }
    }
}

proptest::proptest! {
    /// However events and answers overtake each other, the known state converges to the real one.
    #[test]
    fn what_is_known_becomes_what_is_so(moves in proptest::collection::vec((0..9_u8, 0..3_usize), 0..80)) {
        let (mut world, mut roster) = (World::default(), Roster::default());
        for (kind, which) in moves {
            let id = ["a", "b", "c"][which];
            match kind {
                0 | 1 => world.start(id),
                2 => world.kill(id),
                3 => world.die(id),
                4 => world.happen(id, ContainerChange::Changed),
                5 => world.events.pop_front().into_iter().for_each(|event| roster.step(event)),
                6 => {
                    let asked: Vec<_> = roster.next_job().map(|job| world.answer(job)).into_iter().collect();
                    world.answers.extend(asked);
                }
                7 if which < world.answers.len() => roster.step(world.answers.remove(which)),
                // The connection is lost with its answers; the events are repeated, or come late.
                8 if which == 0 => {
                    world.answers.clear();
                    roster.step(RosterEvent::Connected);
                }
                _ => roster.step(if which == 0 { RosterEvent::Audit } else { RosterEvent::Tick }),
            }
        }
        world.settle(&mut roster);
        let before = roster.changes();
        roster.changed = true;
        let said = known(&mut roster);
        proptest::prop_assert_eq!(&said, &world.seen(), "last told: {:?}", before.map(|all| all.len()));
    }
}
