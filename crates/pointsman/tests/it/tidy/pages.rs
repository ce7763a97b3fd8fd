//! What operators meet (flags, keys, problems, metrics, differences between engines) stands in its page, the comparison has
//! its tables, and every link leads somewhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::{none, read, root, sources};

/// The text between quotes after each of these marks.
fn quoted_after<'t>(text: &'t str, mark: &'t str) -> impl Iterator<Item = &'t str> {
    quoted_after_with(text, mark, '"')
}

fn quoted_after_with<'t>(text: &'t str, mark: &'t str, quote: char) -> impl Iterator<Item = &'t str> {
    text.split(mark).skip(1).filter_map(move |rest| rest.split(quote).next())
}

#[track_caller]
fn documented<'n>(page: &str, names: impl Iterator<Item = &'n str>, form: impl Fn(&str) -> String) {
    let (text, mut count) = (read(page), 0);
    let missing = names.inspect(|_| count += 1).filter(|name| !text.contains(&form(name))).map(str::to_owned).collect();
    none(&format!("not in {page}"), missing);
    assert!(count > 0, "nothing was found that {page} should document");
}

#[test]
fn every_flag_is_documented() {
    let flags = read("crates/pointsman/src/settings/flags.rs");
    documented("docs/settings.md", quoted_after(&flags, "name: \"").filter(|name| !name.is_empty()), |name| {
        format!("`--{name}")
    });
}

#[test]
fn every_key_is_documented() {
    let names = pointsman_table::KNOWN_KEYS.iter().map(|key| key.name);
    // `config/timeout/connect`, `head`, `client`: keys of one folder may share its name on the page.
    let last = names.filter_map(|name| name.rsplit('/').next()).filter(|name| !name.starts_with('<'));
    documented("docs/keys.md", last, |name| format!("{name}`"));
}

#[test]
fn every_problem_is_documented() {
    let problems = read("crates/table/src/problem.rs");
    documented("docs/keys.md", quoted_after(&problems, " => \""), |name| format!("`{name}`"));
}

#[test]
fn every_complaint_is_documented() {
    let complaints = read("crates/pointsman/src/agent/complaint.rs");
    documented("docs/agent.md", quoted_after(&complaints, " => \""), |name| format!("`{name}`"));
}

#[test]
fn every_label_of_the_agent_is_documented() {
    let labels = ["enable", "id", "network", "name", "weight", "maxconn", "backup", "tls", "service", "mode"];
    let known = read("crates/pointsman/src/agent/known.rs");
    assert!(labels.iter().all(|name| known.contains(&format!("\"{name}\""))));
    documented("docs/agent.md", labels.into_iter(), |name| format!("`pointsman.{name}`"));
    let kontena = read("crates/pointsman/src/agent/kontena.rs");
    let names = ["\"KONTENA_LB_", "\"io.kontena."];
    for mark in names {
        let found: Vec<_> = quoted_after(&kontena, mark).filter(|name| !name.starts_with("container.type")).collect();
        documented("docs/agent.md", found.into_iter(), |name| format!("`{}{name}`", &mark[1..]));
    }
}

#[test]
fn every_metric_is_documented() {
    let source = read("crates/pointsman/src/admin/metrics/families.rs");
    let marks = ["counter(\"", "gauge(\"", "name: \""];
    let names = marks.iter().flat_map(|mark| quoted_after(&source, mark)).filter(|name| name.starts_with("pointsman_"));
    documented("docs/metrics.md", names, |name| format!("`{name}`"));
}

#[test]
fn every_difference_between_engines_is_documented_and_used() {
    let page = read("docs/engines.md");
    let (_, table) = page.split_once("## What differs").expect("a section of that name");
    let listed: BTreeSet<_> = quoted_after_with(table, "\n| `", '`').collect();
    let mut used = BTreeSet::new();
    let tests = sources(&["crates/pointsman/tests/it"]);
    for source in &tests {
        used.extend(quoted_after(&source.text, ".differs(\"").filter(|name| !name.contains('\\')));
    }
    for (_, rows) in crate::engines::FILES {
        used.extend(rows.split(" ~").skip(1).filter_map(|rest| rest.split_whitespace().next()));
    }
    let missing = used.difference(&listed).map(|name| format!("{name}: not in docs/engines.md"));
    let idle = listed.difference(&used).map(|name| format!("{name}: in docs/engines.md, and no test needs it"));
    none("differences between engines", missing.chain(idle).collect());
    assert!(listed.len() > 10);
}

/// The names of the pages in a folder, by their paths below the root.
fn pages(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(folder)).expect("the folder");
    let names = entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned());
    let pages = names.filter(|name| name.ends_with(".md")).map(|name| format!("{folder}{name}"));
    pages.collect()
}

/// A page without its blocks of code.
fn prose(page: &str) -> String {
    read(page).split("\n```").step_by(2).collect::<Vec<_>>().join("\n")
}

/// What the headings of a page are called in links.
fn anchors(page: &str) -> BTreeSet<String> {
    let text = prose(page);
    let headings =
        text.lines().filter_map(|line| line.strip_prefix('#')).map(|line| line.trim_start_matches('#').trim());
    let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
    headings.map(|heading| heading.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")).collect()
}

/// The pages of the repository. The package ships all of them, in the same folders.
fn all_pages() -> Vec<String> {
    ["", "docs/", "docs/decisions/"].into_iter().flat_map(pages).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let (mut broken, mut count) = (Vec::new(), 0);
    for page in all_pages() {
        let folder = Path::new(&page).parent().expect("a page is in a folder");
        let text = prose(&page);
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.starts_with("https://") && !link.contains('\n')) {
            count += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let path = if file.is_empty() { page.clone() } else { folder.join(file).to_string_lossy().into_owned() };
            if !root().join(&path).exists() || (!anchor.is_empty() && !anchors(&path).contains(anchor)) {
                broken.push(format!("{page}: {link}"));
            }
        }
    }
    none("links that lead nowhere", broken);
    assert!(count > 100, "only {count} links were found");
}

#[test]
fn the_readme_lists_each_page_once() {
    let readme = read("README.md");
    let (_, list) = readme.split_once("## Read on").expect("a section of that name");
    let links = |page: &String| list.matches(&format!("]({page})")).count();
    none("listed once below Read on", pages("docs/").into_iter().filter(|page| links(page) != 1).collect());
}

#[test]
fn the_comparison_has_what_the_bench_writes() {
    let source = read("bench/src/compare/page.rs");
    let mut complaints = Vec::new();
    for (page, mark) in [("docs/compare.md", "replace(&mut compare, \""), ("README.md", "replace(&mut readme, \"")] {
        let (text, mut count) = (read(page), 0);
        for name in quoted_after(&source, mark) {
            count += 1;
            let (open, close) = (format!("<!-- peers:{name} -->"), format!("<!-- /peers:{name} -->"));
            let within = text.split_once(&open).and_then(|(_, rest)| Some(rest.split_once(&close)?.0));
            if within.is_none_or(|table| !table.contains("| Pointsman |")) {
                complaints.push(format!("{page}: no table between {open} and {close}"));
            }
        }
        assert!(count > 0, "the bench writes nothing into {page}");
    }
    let charts = root().join("docs/charts");
    for chart in fs::read_dir(charts).expect("charts").map(|entry| entry.expect("readable").path()) {
        let (name, text) = (chart.file_name().expect("a file").to_string_lossy(), fs::read_to_string(&chart));
        if !text.is_ok_and(|text| text.starts_with("<svg ") && text.ends_with("</svg>\n")) {
            complaints.push(format!("docs/charts/{name} is no chart"));
        }
        if !read("docs/compare.md").contains(&format!("](charts/{name})")) {
            complaints.push(format!("docs/compare.md does not show docs/charts/{name}"));
        }
    }
    none("the comparison", complaints);
}
