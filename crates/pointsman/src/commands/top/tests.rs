//! Frames of several sizes as text, and what keys do to them.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui_core::backend::TestBackend;
use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::style::{Color, Modifier};
use ratatui_core::terminal::Terminal;
use serde_json::{Value, json};

use super::ink::Ink;
use super::lines;
use super::message::{LiveMessage, ServiceTold};
use super::model::{Link, TopModel};
use super::order::Sort;
use super::view::{TopPage, TopView, Wish};

/// The balancer's time in these tests, milliseconds.
const NOW: u64 = 1_796_000_000_000;

fn message(value: Value) -> LiveMessage {
    serde_json::from_value(value).expect("the form of the messages")
}

/// A balancer with five services, of which some hurt.
fn five() -> TopModel {
    let seconds = NOW / 1000;
    let problem = json!({"key": "/lb/services/mail/port", "value": "80x", "kind": "bad_value", "protocol": "http",
        "service": "mail", "advice": "a port is a number from 1 to 65535"});
    let changes = json!([
        {"number": 2, "at": NOW - 200_000, "served": NOW - 199_997, "revision": 1042, "places": 1,
         "keys": [{"key": "services/shop/timeout/server", "fate": "changed", "before": "5s", "after": "7s"},
                  {"key": "services/shop/basic_auth", "fate": "added", "secret": true}]},
        {"number": 1, "at": NOW - 7_200_000, "served": NOW - 7_199_000, "revision": 1000, "first": true, "places": 5,
         "keys": []},
    ]);
    let mut model = TopModel { asked: "127.0.0.1:8404".to_owned(), ..TopModel::default() };
    model.take(message(json!({
        "at": NOW, "full": true,
        "meta": {"version": "0.1.0", "name": "lb-1", "engine": "native", "prefix": "/lb", "store": ["http://10.0.0.1:2379"],
                 "state": "watching", "via": "etcd 3.5", "revision": 1042, "applied": 1042, "kept": true},
        "now": [[1204.0, 0.0, 3.1, 12.0, 1e6, 2e6], 2.1, 480.0, 31, 120, [8, 10, 2]],
        "problems": {"count": 1, "list": [problem]},
        "down": [{"service": "http/api", "name": "web-2", "target": "10.0.0.7:8080", "state": "down",
                  "why": "5 failed connects in a row: connect_refused", "since": seconds - 180}],
        "certificates": [{"name": "shop.test", "names": ["shop.test", "www.shop.test"], "valid": 0,
                          "expires": seconds + 3 * 86_400},
                         {"name": "api.test", "names": ["api.test"], "valid": 0, "expires": seconds + 80 * 86_400}],
        "fleet": {"at": NOW, "members": [
            {"name": "lb-1", "version": "0.1.0", "engine": "native", "stage": "serving", "revision": 1042, "down": 2,
             "problems": 1, "listens": ["0.0.0.0:80"], "admin": "127.0.0.1:8404"},
            {"name": "lb-2", "version": "0.1.0", "engine": "native", "stage": "draining", "revision": 1041}]},
        "changes": changes,
        "rows": {
            "names": [[1, "http/shop", "shop.test, www.shop.test", "web-1 10.0.0.5:80 web-2 10.0.0.6:80", 4, 0],
                      [2, "http/api", "api.test", "web-1 10.0.0.7:80 web-2 10.0.0.7:8080", 2, 0],
                      [3, "http/mail", "mail.test", "mail-1 10.0.0.9:25", 2, 1],
                      [4, "tcp/db", "0.0.0.0:5432", "db-1 10.0.0.8:5432", 1, 0],
                      [5, "http/dead", "dead.test", "one 10.0.0.2:1", 1, 0]],
            "figures": [[1, 4, 0, [1190.0, 3.0, 0.0], 2.0, 48.0, 29, 0, 0, 0], [2, 1, 1, [14.0, 0.1, 12.0], 9.0, 480.0, 2, 3, 0, 0],
                        [3, 1, 0, [0.004, 0.0, 0.0], null, null, 0, 0, 1, 2], [4, 1, 0, [0.0, 0.0, 0.0], null, null, 0, 0, 0, 0],
                        [5, 0, 1, [0.0, 0.0, 0.0], null, null, 0, 0, 0, 0]]},
    })));
    model
}

/// The same with so many services more, all of which are well.
fn many(count: u32) -> TopModel {
    let mut model = five();
    let names: Vec<_> =
        (6..=count).map(|n| json!([n, format!("http/s{n:05}"), format!("s{n:05}.test"), "one h:1", 1, 0])).collect();
    let figures: Vec<_> = (6..=count).map(|n| json!([n, 1, 0, [1.0, 0.0, 0.0], 1.0, 2.0, 0, 0, 0, 0])).collect();
    model.take(message(json!({"at": NOW, "rows": {"names": names, "figures": figures}})));
    model
}

fn frame(model: &TopModel, view: &mut TopView, (width, height): (u16, u16), ink: Ink) -> Buffer {
    view.arrange(model);
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("memory");
    terminal.draw(|frame| view.laid = super::frame::render(model, view, ink, frame.buffer_mut())).expect("memory");
    terminal.backend().buffer().clone()
}

const COLORS: Ink = Ink { has_color: true };

fn text(model: &TopModel, view: &mut TopView, size: (u16, u16)) -> String {
    lines(&frame(model, view, size, COLORS)).join("\n")
}

fn press(view: &mut TopView, model: &TopModel, keys: &[KeyCode]) -> Wish {
    let mut wish = Wish::Draw;
    for key in keys {
        wish = view.press(KeyEvent::new(*key, KeyModifiers::NONE), model);
        text(model, view, (80, 24));
    }
    wish
}

/// The place of a text among the lines.
fn row_of(text: &str, what: &str) -> usize {
    text.lines().position(|line| line.contains(what)).unwrap_or_else(|| panic!("no {what} in\n{text}"))
}

#[test]
fn every_size_shows_what_hurts_first() {
    for size in [(40, 10), (80, 24), (160, 50)] {
        for model in [five(), many(10_000)] {
            let text = text(&model, &mut TopView::default(), size);
            assert!(text.lines().count() <= usize::from(size.1), "{text}");
            assert!(text.lines().all(|line| line.chars().count() <= usize::from(size.0)), "{text}");
            assert!(text.contains("lb-1") && text.contains("live") && text.contains("1,204 req/s"), "{text}");
            let places = ["■ dead", "▲ api"].map(|what| row_of(&text, what));
            assert!(places[0] < places[1] && text.contains("p99 480 ms"), "{text}");
            assert!(text.lines().last().is_some_and(|line| line.contains("q quit")), "{text}");
            if size.1 > 20 {
                let places = ["■ dead", "▲ api ", "▲ mail"].map(|what| row_of(&text, what));
                assert!(places.is_sorted(), "{text}");
                assert!(text.contains("a port is a number from 1 to 65535") && text.contains("for 3 min"), "{text}");
            }
        }
    }
}

#[test]
fn a_frame_of_80_columns() {
    let (expected, shown) = (include_str!("frame.txt"), text(&five(), &mut TopView::default(), (80, 24)));
    assert_eq!(format!("{shown}\n"), expected);
    let page = include_str!("../../../../../docs/top.md");
    assert!(page.contains(expected), "docs/top.md shows another frame");
}

/// Frames to look at: `cargo test -p pointsman --lib top:: -- --ignored --nocapture`.
#[test]
#[ignore = "shows frames"]
fn frames() {
    let mut five = five();
    five.remember(
        (0..200)
            .map(|n| {
                serde_json::from_value(json!([n, [900 + n * 7 % 300, 0, 0, n % 9, 0, 0], 1.0, 30 + n % 50, 1]))
                    .expect("a point")
            })
            .collect(),
    );
    five.inspect(Some(api(100, 40)));
    five.inspect(Some(api(120, 60)));
    for size in [(40, 10), (80, 24), (120, 40), (160, 50)] {
        println!("{}\n{}", "=".repeat(size.0.into()), text(&five, &mut TopView::default(), size));
    }
    for page in super::view::TOP_PAGES {
        println!("{}\n{}", "=".repeat(100), text(&five, &mut TopView { page, ..TopView::default() }, (100, 24)));
    }
    for size in [(60, 24), (120, 30)] {
        let mut view = TopView { open: Some("http/api".to_owned()), ..TopView::default() };
        println!("{}\n{}", "=".repeat(size.0.into()), text(&five, &mut view, size));
    }
    println!("{}", text(&five, &mut TopView { is_help: true, ..TopView::default() }, (60, 16)));
}

#[test]
fn only_what_is_seen_is_drawn() {
    let (mut model, mut view) = (many(10_000), TopView::default());
    text(&model, &mut view, (80, 24));
    press(&mut view, &model, &[KeyCode::End]);
    let whole = text(&model, &mut view, (80, 24));
    assert!(whole.contains("s10000.test") && !whole.contains("s00006"), "{whole}");
    let seen: Vec<_> = view.order[view.laid.first..].to_vec();
    model.rows.retain(|number, _| seen.contains(number));
    let part = frame_of_order(&model, &view);
    // The count of services is told too.
    let rows = |text: &str| text.lines().filter(|line| line.contains(".test")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(rows(&part), rows(&whole));
}

/// A frame without a new order.
fn frame_of_order(model: &TopModel, view: &TopView) -> String {
    let mut buffer = Buffer::empty(Rect::new(0, 0, 80, 24));
    super::frame::render(model, view, COLORS, &mut buffer);
    lines(&buffer).join("\n")
}

#[test]
fn no_size_and_no_page_is_too_small() {
    let model = many(50);
    for open in [None, Some("http/api".to_owned()), Some("http/nobody".to_owned())] {
        for page in super::view::TOP_PAGES {
            for (width, height) in (0..50).step_by(7).flat_map(|width| (0..30).map(move |height| (width, height))) {
                let mut view = TopView { page, open: open.clone(), ..TopView::default() };
                view.arrange(&model);
                let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
                super::frame::render(&model, &view, COLORS, &mut buffer);
            }
        }
    }
}

#[test]
fn keys_lead_to_a_service_and_back() {
    let (mut model, mut view) = (five(), TopView::default());
    press(&mut view, &model, &[]);
    text(&model, &mut view, (80, 24));
    press(&mut view, &model, &[KeyCode::Down, KeyCode::Enter]);
    assert_eq!(view.open.as_deref(), Some("http/api"));
    assert!(text(&model, &mut view, (80, 24)).contains("Reading"));
    model.inspect(Some(api(100, 40)));
    model.inspect(Some(api(120, 60)));
    let shown = text(&model, &mut view, (100, 30));
    for part in [
        "api",
        "works in part",
        "web-2",
        "connect_refused",
        "last error: 503, 60 s ago",
        "check: GET /health: 200",
        "balance",
        "queue 3",
    ] {
        assert!(shown.contains(part), "no {part} in\n{shown}");
    }
    let row = shown.lines().find(|line| line.contains("web-1")).expect("an instance");
    assert!(row.contains(" 10 ") && row.matches("10").count() >= 2, "20 more of each in two seconds: {row}");
    press(&mut view, &model, &[KeyCode::Esc]);
    assert_eq!((view.open.as_deref(), view.at(&model)), (None, 1), "at the service that was left");
    model.inspect(None);
    press(&mut view, &model, &[KeyCode::Enter]);
    assert!(text(&model, &mut view, (80, 24)).contains("There is no such service"));
}

fn api(requests: u64, e5: u64) -> ServiceTold {
    let at = NOW + requests * 100;
    let instance = |name: &str, state: &str| {
        json!({"name": name, "target": "10.0.0.7:80", "weight": 1, "state": state,
        "active": 2, "requests": requests, "responses": {"5xx": e5}, "last_error": "503",
        "last_error_at": NOW / 1000 - 60, "check": "GET /health: 200"})
    };
    let mut broken = instance("web-2", "down");
    broken["why"] = json!("5 failed connects in a row: connect_refused");
    serde_json::from_value(
        json!({"at": at, "service": {"protocol": "http", "name": "api", "rule": {"hosts": ["api.test"], "paths": []},
        "balance": "roundrobin", "instances": [instance("web-1", "up"), broken]}}),
    )
    .expect("a service")
}

#[test]
fn the_filter_takes_words_and_the_order_turns() {
    let (model, mut view) = (many(100), TopView::default());
    let keys: Vec<_> = "/10.0.0.7 api".chars().map(KeyCode::Char).collect();
    press(&mut view, &model, &keys);
    assert!(text(&model, &mut view, (80, 24)).contains("/10.0.0.7 api▏   1 of 100"));
    press(&mut view, &model, &[KeyCode::Enter]);
    assert_eq!(view.order, [2]);
    press(&mut view, &model, &[KeyCode::Esc]);
    assert_eq!(view.order.len(), 100);
    press(&mut view, &model, &[KeyCode::Char('s'), KeyCode::Char('s'), KeyCode::Char('s')]);
    assert_eq!((view.sort, view.order[0]), (Sort::Rate, 1));
    press(&mut view, &model, &[KeyCode::Char('r')]);
    assert!(text(&model, &mut view, (80, 24)).contains("↑req/s"));
    assert_eq!(model.rows[&view.order[0]].figures.3[0], 0.0);
    press(&mut view, &model, &[KeyCode::Char('S'), KeyCode::Char('S')]);
    assert_eq!((view.sort, view.order[0]), (Sort::Name, 2), "api");
    press(&mut view, &model, &[KeyCode::Char('/'), KeyCode::Char('q'), KeyCode::Esc, KeyCode::Char('?')]);
    assert!(text(&model, &mut view, (80, 24)).contains("words in name, rule, instance"));
    assert_eq!(press(&mut view, &model, &[KeyCode::Char('x'), KeyCode::Char('p')]), Wish::Pause);
    assert_eq!(press(&mut view, &model, &[KeyCode::Char('q')]), Wish::Quit);
    let control = |c| KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL);
    assert_eq!(['c', 'z', 'l'].map(|c| view.press(control(c), &model)), [Wish::Quit, Wish::Suspend, Wish::Redraw]);
}

#[test]
fn pages_and_scrolling() {
    let (mut model, mut view) = (five(), TopView::default());
    let changes: Vec<_> = (3..=100)
        .map(|n| {
            json!({"number": n, "at": NOW, "served": null, "revision": n, "places": 1,
        "keys": [{"key": format!("services/s{n}/domain"), "fate": "added", "after": "x"}]})
        })
        .collect();
    model.take(message(json!({"at": NOW, "changes": changes})));
    for (key, page, words) in [
        ('2', TopPage::Attention, "1 instance down, 1 problem"),
        ('3', TopPage::Changes, "services/s100/domain"),
        ('4', TopPage::Certificates, "3 days left"),
        ('5', TopPage::Fleet, "lb-2"),
    ] {
        press(&mut view, &model, &[KeyCode::Char(key)]);
        assert_eq!(view.page, page);
        let words = words.replace("1 instance", "2 instances");
        assert!(text(&model, &mut view, (80, 24)).contains(&words), "{}", text(&model, &mut view, (80, 24)));
    }
    press(&mut view, &model, &[KeyCode::Char('3'), KeyCode::PageDown]);
    let text_of = |view: &mut TopView| text(&model, view, (80, 24));
    assert!(!text_of(&mut view).contains("services/s100/"));
    press(&mut view, &model, &[KeyCode::End]);
    assert!(text_of(&mut view).contains("hidden") && !text_of(&mut view).contains("s20/"));
    press(&mut view, &model, &[KeyCode::Tab, KeyCode::BackTab, KeyCode::Home]);
    assert!(text_of(&mut view).contains("services/s100/domain"));
    press(&mut view, &model, &[KeyCode::Esc]);
    assert_eq!(view.page, TopPage::Services);
}

#[test]
fn the_picked_service_stays_picked_and_seen() {
    let (model, mut view) = (many(1000), TopView::default());
    text(&model, &mut view, (80, 24));
    press(&mut view, &model, &vec![KeyCode::Down; 200]);
    assert_eq!((view.at(&model), view.picked.as_deref()), (200, Some("http/s00203")));
    let shown = frame(&model, &mut view, (40, 10), COLORS);
    let picked = shown.content().chunks(40).position(|row| row[1].modifier.contains(Modifier::REVERSED));
    assert!(lines(&shown)[picked.expect("a marked row")].contains("s00203"));
    let mut hurt = model.clone();
    hurt.take(message(
        json!({"at": NOW + 5000, "rows": {"figures": [[900, 0, 1, [1.0, 0.0, 0.0], 1.0, 2.0, 0, 0, 0, 0]]}}),
    ));
    let shown = text(&hurt, &mut view, (80, 24));
    assert_eq!((view.at(&hurt), view.picked.as_deref()), (201, Some("http/s00203")), "{shown}");
}

#[test]
fn what_is_away_is_told() {
    let mut model = TopModel { asked: "10.0.0.5:8404".to_owned(), ..TopModel::default() };
    assert!(text(&model, &mut TopView::default(), (40, 10)).contains("Connecting to 10.0.0.5:8404"));
    model.link = Link::Lost("connecting: Connection refused".to_owned());
    assert!(text(&model, &mut TopView::default(), (80, 24)).contains("10.0.0.5:8404 does not answer: connecting"));
    let mut model = five();
    (model.link, model.now) = (Link::Lost("no message came in time".to_owned()), NOW + 30_000);
    let shown = text(&model, &mut TopView::default(), (120, 24));
    assert!(shown.contains("not connected") && shown.contains("Figures of 30 s ago. Trying again."), "{shown}");
    let mut model = five();
    (model.meta.state, model.meta.since) = ("lost".to_owned(), NOW - 120_000);
    model.meta.error = Some("unreachable: http://10.0.0.1:2379".to_owned());
    let shown = text(&model, &mut TopView::default(), (120, 24));
    assert!(shown.contains("Store lost 2 min ago, revision 1042 is served on: unreachable"), "{shown}");
    let mut paused = TopView { is_paused: true, ..TopView::default() };
    assert!(text(&five(), &mut paused, (80, 24)).contains("paused"));
}

#[test]
fn bytes_from_outside_command_no_terminal() {
    let mut model = five();
    let evil = "\u{1b}[2J\u{202e}x\r\n\u{9b}31m";
    let why = json!([{"service": format!("http/{evil}"), "name": evil, "target": evil, "state": evil, "why": evil, "since": 1}]);
    let changes = json!([{"number": 9, "at": NOW, "served": null, "revision": 9, "places": 1,
        "keys": [{"key": evil, "fate": "changed", "before": evil, "after": evil}]}]);
    let problem =
        json!({"key": evil, "value": evil, "kind": evil, "protocol": "http", "service": evil, "advice": evil});
    model
        .take(message(json!({"at": NOW, "down": why, "changes": changes, "problems": {"count": 1, "list": [problem]},
        "rows": {"names": [[1, format!("http/{evil}"), evil, evil, 1, 0]]}})));
    (model.meta.name, model.meta.prefix, model.link) = (evil.to_owned(), evil.to_owned(), Link::Lost(evil.to_owned()));
    for page in super::view::TOP_PAGES {
        let mut view = TopView { page, filter: String::new(), ..TopView::default() };
        for cell in frame(&model, &mut view, (160, 50), COLORS).content() {
            let is_plain = cell.symbol().chars().all(|c| !c.is_control() && c != '\u{202e}');
            assert!(is_plain, "{:?}", cell.symbol());
        }
        let shown = text(&model, &mut view, (160, 50));
        assert!(shown.contains("\\u001b[2J\\u202ex\\r\\n\\u009b31m"), "{shown}");
    }
}

#[test]
fn without_colours_nothing_is_lost() {
    let plain = Ink { has_color: false };
    let shown = frame(&five(), &mut TopView::default(), (80, 24), plain);
    assert!(shown.content().iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
    assert_eq!(lines(&shown).join("\n"), text(&five(), &mut TopView::default(), (80, 24)));
    let colored = frame(&five(), &mut TopView::default(), (80, 24), COLORS);
    let known = [Color::Reset, Color::Green, Color::Yellow, Color::Red, Color::Cyan];
    assert!(colored.content().iter().all(|cell| known.contains(&cell.fg) && cell.bg == Color::Reset));
    assert!(colored.content().iter().any(|cell| cell.fg == Color::Red));
}

#[test]
fn long_names_keep_their_distance_and_messages_are_whole() {
    use super::frame::wrapped;
    assert_eq!(wrapped("127.0.0.1:1 does not answer: connecting", 20), ["127.0.0.1:1 does not", "answer: connecting"]);
    assert_eq!(wrapped("", 20), [""; 0]);
    for (term, is) in [(None, true), (Some("dumb"), true), (Some(""), true), (Some("xterm-256color"), false)] {
        assert_eq!(super::is_dumb(term), is, "{term:?}");
    }
}
