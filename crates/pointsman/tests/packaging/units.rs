//! The units, checked by systemd.

use std::fs;

use tempfile::TempDir;

use crate::support::{has, repository, run, skip};

const UNITS: [&str; 2] = ["pointsman.service", "pointsman-agent.service"];
/// The maximum exposure of each by systemd's own scale, from 0 to 10; a unit without a sandbox has 9.6.
const EXPOSURE: f32 = 2.0;

#[test]
fn the_units_are_sound_and_confined() {
    if !has("systemd-analyze") {
        return skip("there is no systemd-analyze");
    }
    let home = TempDir::new().expect("a temporary folder");
    for unit in UNITS {
        // A program that exists, for machines where ours is not installed.
        let text = fs::read_to_string(repository().join("packaging/systemd").join(unit)).expect("a unit");
        let file = home.path().join(unit);
        fs::write(&file, text.replace("/usr/bin/pointsman", env!("CARGO_BIN_EXE_pointsman"))).expect("our own folder");
        let file = file.to_string_lossy().into_owned();
        let verified = run("systemd-analyze", &["verify", "--man=no", "--recursive-errors=no", &file]);
        assert_eq!((verified.code, &*verified.stderr), (Some(0), ""), "{unit}");
        let security = run("systemd-analyze", &["security", "--offline=true", "--no-pager", &file]).ok();
        let (_, rest) = security.split_once(&format!("for {unit}: ")).expect("a verdict");
        let exposure: f32 = rest.split(' ').next().unwrap_or_default().parse().expect("a number");
        assert!(exposure <= EXPOSURE, "{unit}: {exposure}\n{security}");
    }
}

#[test]
fn the_settings_that_are_suggested_are_settings() {
    let text = fs::read_to_string(repository().join("packaging/default/pointsman")).expect("the file");
    let names = text.lines().filter_map(|line| line.strip_prefix("#POINTSMAN_")?.split('=').next());
    let known: Vec<_> = pointsman::settings::FLAGS.iter().map(pointsman::settings::Flag::variable).collect();
    let unknown: Vec<_> = names.filter(|name| !known.contains(&format!("POINTSMAN_{name}"))).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    assert!(text.lines().all(|line| line.is_empty() || line.starts_with('#')), "nothing is set unless asked for");
}
