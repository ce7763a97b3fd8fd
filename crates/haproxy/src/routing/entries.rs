//! The maps as HAProxy reads them: names of files, keys and values. Writes no file.

use super::super::model::{BackendName, Maps, Route};

/// Which backend a service runs in: its own, or a spare that it took over.
pub type Alias<'a> = &'a dyn Fn(&BackendName) -> BackendName;

/// All maps. Each is there even if empty, so that entries can come while HAProxy runs.
pub const FILES: [&str; 6] = ["hosts.map", "wildcards.map", "paths.map", "patterns.map", "rest.map", "sni.map"];

/// The keys and values of the map in this file, in order. Only in `patterns.map` does the order matter.
pub fn entries<'m>(maps: &'m Maps, file: &str, alias: Alias<'_>) -> Vec<(&'m str, String)> {
    let route = |key: &'m str, route: &Route| (key, value(route, alias));
    match file {
        "hosts.map" => maps.hosts.iter().map(|(key, scope)| (&**key, scope.to_string())).collect(),
        "wildcards.map" => maps.wildcards.iter().map(|(key, scope)| (&**key, scope.to_string())).collect(),
        "paths.map" => maps.paths.iter().map(|(key, leads)| route(key, leads)).collect(),
        "patterns.map" => maps.patterns.iter().map(|(key, leads)| route(key, leads)).collect(),
        "rest.map" => maps.rest.iter().map(|(key, leads)| route(key, leads)).collect(),
        "sni.map" => maps.sni.iter().map(|(key, backend)| (&**key, alias(backend).to_string())).collect(),
        _ => Vec::new(),
    }
}

/// The text of the map in this file: `key value`, one a line.
pub fn text(maps: &Maps, file: &str, alias: Alias<'_>) -> String {
    let mut text = String::new();
    for (key, value) in entries(maps, file, alias) {
        text.extend([key, " ", &value, "\n"]);
    }
    text
}

/// A route as a map's value: `services:web|5|0`.
pub fn value(route: &Route, alias: Alias<'_>) -> String {
    format!("{}|{}|{}", alias(&route.backend), route.strip, level(route.level))
}

/// A priority as text whose order is that of priorities: HAProxy's `sub` is wrong about negative numbers (2.6: -1 less 2
/// is the largest number), its `strcmp` is not.
fn level(priority: i64) -> String {
    match priority {
        0 => "0".into(),
        1.. => format!("p{priority:019}"),
        _ => format!("-{:019}", priority.abs_diff(i64::MIN)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_ordered_as_priorities() {
        let ascending = [i64::MIN, i64::MIN + 1, -10, -9, -1, 0, 1, 2, 10, i64::MAX];
        let levels = ascending.map(level);
        assert!(levels.is_sorted_by(|a, b| a < b), "{levels:?}");
    }
}
