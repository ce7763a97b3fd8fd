//! Services that ask for a method, headers or a query: which of them takes a request, and what they lose to.

use pointsman_table::{Imagined, Table};

use crate::{compiled, problem_lines};

/// `POST a.test/x?q X-A=1 X-B=2`.
fn request(line: &str) -> (String, String, Imagined) {
    let mut words = line.split(' ');
    let (method, url) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (host, target) = url.split_at(url.find('/').unwrap_or(url.len()));
    let headers = words.filter_map(|word| word.split_once('=')).map(|(name, value)| (name.into(), value.into()));
    let asked = Imagined { method: method.into(), headers: headers.collect(), client: None };
    (host.into(), target.into(), asked)
}

/// The service that takes a request. What `explain` says is the same.
fn answer(table: &Table, line: &str) -> String {
    let (host, target, asked) = request(line);
    let route = table.find(&host, &target, &asked).expect("the expressions are few");
    let chosen = table.explain(&host, &target, &asked).chosen;
    assert_eq!(chosen.map(|chosen| chosen.index), route.map(|route| route.service), "{line}: explain differs");
    route.map_or("none".into(), |route| table.services()[route.service as usize].name.to_string())
}

fn check(keys: &str, rows: &[(&str, &str)]) {
    let compiled = compiled(keys);
    for (line, expected) in rows {
        assert_eq!(answer(&compiled.table, line), *expected, "{line}\n{keys}\n{:#?}", compiled.problems);
    }
}

#[test]
fn more_conditions_go_first_after_host_path_and_priority() {
    check(
        "services/a/domain = a.test
         services/get/domain = a.test
         services/get/method = GET
         services/two/domain = a.test
         services/two/method = GET
         services/two/header/X-A = 1
         services/deep/domain = a.test
         services/deep/path = /deep
         services/first/domain = a.test
         services/first/priority = 1
         services/first/query/first = *
         services/wild/domain = *.test
         services/wild/header/X-A = *
         services/wild/header/X-B = *
         services/wild/method = GET",
        &[
            ("POST a.test/", "a"),
            ("GET a.test/", "get"),
            ("GET a.test/ X-A=1", "two"),
            ("GET a.test/ x-a=1 X-B=2", "two"),
            ("GET a.test/ X-A=2", "get"),
            ("GET a.test/deep X-A=1", "deep"),
            ("GET a.test/deep?first X-A=1", "first"),
            ("GET b.test/ X-A=1 X-B=2", "wild"),
            ("GET b.test/ X-A=1", "none"),
        ],
    );
}

#[test]
fn a_lookup_goes_on_to_less_specific_rules() {
    check(
        "services/a/domain = a.test
         services/a/path = /x/y
         services/a/method = POST
         services/b/domain = a.test
         services/b/url_beg = /x
         services/b/header/X-B = *
         services/c/domain = a.test
         services/c/method = PUT
         services/d/domain = *.test
         services/d/path = /x
         services/d/query/d = 1
         services/e/url_reg = ^/x
         services/e/method = PUT
         services/f/url_reg = ^/x
         services/g/url_reg = y$
         services/g/priority = -1
         services/h/default = true
         services/h/header/X-H = *
         services/i/default = true",
        &[
            ("POST a.test/x/y", "a"),
            ("GET a.test/x/y X-B=1", "b"),
            ("PUT a.test/x/y", "c"),
            ("GET a.test/x/y?d=1", "d"),
            ("PUT b.test/x/y", "e"),
            ("GET a.test/x/y", "f"),
            ("GET b.test/y", "g"),
            ("GET b.test/ X-H=1", "h"),
            ("GET b.test/", "i"),
        ],
    );
}

#[test]
fn the_same_rule_with_the_same_conditions_is_a_problem() {
    let compiled = compiled(
        "services/a/domain = a.test
         services/a/method = GET,POST
         services/b/domain = a.test
         services/b/method = POST, GET
         services/c/domain = a.test
         services/c/method = GET
         services/d/domain = a.test
         services/e/default = true
         services/e/header/X-A = ~^1
         services/f/default = true
         services/f/header/x-a = ~^1
         services/g/default = true",
    );
    let problems = problem_lines(&compiled);
    let [first, second] = &problems[..] else { panic!("{problems:#?}") };
    assert!(first.starts_with("services/b/domain") && first.contains("service a has the same rule"), "{first}");
    assert!(second.starts_with("services/f/default") && second.contains("service e has the same rule"), "{second}");
}

#[test]
fn explain_names_the_conditions_that_fail() {
    let compiled = compiled(
        "services/a/domain = a.test
         services/b/domain = a.test
         services/b/method = POST
         services/b/header/X-B = *
         services/c/domain = a.test
         services/c/query/c = ~^[0-9]+$",
    );
    let (host, target, asked) = request("GET a.test/?c=1 X-B=1");
    let explanation = compiled.table.explain(&host, &target, &asked);
    let shown: Vec<_> = explanation.chosen.iter().chain(&explanation.passed_over).collect();
    let [c, a, b] = &shown[..] else { panic!("{shown:#?}") };
    assert_eq!(c.rule, "host a.test, any path, query c ~^[0-9]+$, priority 0");
    assert_eq!((a.service.as_str(), a.reason.as_str()), ("a", "c has more conditions"));
    assert_eq!((b.service.as_str(), b.reason.as_str()), ("b", "its conditions do not hold: method POST"));
}

#[test]
fn bad_conditions_withhold_a_service_that_was_never_good() {
    let compiled = compiled(
        "services/a/domain = a.test
         services/a/method = get
         services/b/domain = a.test
         services/b/header/X B = 1
         services/c/domain = a.test
         services/c/query/c = ~(
         services/d/method = GET",
    );
    assert_eq!(answer(&compiled.table, "GET a.test/"), "none");
    let problems = problem_lines(&compiled);
    assert_eq!(problems.len(), 4, "{problems:#?}");
    assert!(problems[3].contains("no request can reach this service"), "{problems:#?}");
}

/// All conditions are tried one by one: the table must agree.
#[test]
fn many_services_of_one_host() {
    let keys: String = (0..60)
        .map(|number| {
            let (name, method) = (format!("s{number:02}"), ["GET", "POST", "PUT"][number % 3]);
            let header = (number % 4 > 0).then(|| format!("services/{name}/header/X-A = {}\n", number % 5));
            let path = ["/", "/a", "/a/b"][number / 20];
            format!(
                "services/{name}/domain = a.test\nservices/{name}/url_beg = {path}\nservices/{name}/method = {method}\n{}",
                header.unwrap_or_default()
            )
        })
        .collect();
    let compiled = compiled(&keys);
    for method in ["GET", "POST", "PUT", "HEAD"] {
        for value in 0..6 {
            for target in ["/", "/a", "/a/b/c"] {
                let fits = |number: &usize| {
                    let path = ["/", "/a", "/a/b"][number / 20];
                    target.starts_with(path)
                        && ["GET", "POST", "PUT"][number % 3] == method
                        && (number.is_multiple_of(4) || number % 5 == value)
                };
                let best =
                    (0..60).filter(fits).max_by_key(|number| (number / 20, number % 4 > 0, std::cmp::Reverse(*number)));
                let expected = best.map_or("none".into(), |number| format!("s{number:02}"));
                let line = format!("{method} a.test{target} X-A={value}");
                assert_eq!(answer(&compiled.table, &line), expected, "{line}");
            }
        }
    }
}
