//! Resolves links: every place whose change may change a link's target. Never reads a file's content.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// The most links on one path, as on Linux (`path_resolution(7)`).
const MOST: usize = 40;

/// The folders, and the name in each, on the way from a link to its target: further links, the target itself, or the
/// first missing name. Does not cover the renaming of a folder further up.
pub(super) fn places(link: &Path) -> Vec<(PathBuf, OsString)> {
    let (Some(parent), Some(name)) = (link.parent(), link.file_name()) else { return Vec::new() };
    let Ok(mut at) = fs::canonicalize(parent) else { return Vec::new() };
    let (mut places, mut links) = (Vec::new(), 0);
    let mut rest = vec![name.to_owned()];
    while let Some(part) = rest.pop() {
        if part == "/" {
            at = PathBuf::from("/");
        } else if part == ".." {
            at.pop();
        } else if part != "." {
            let path = at.join(&part);
            let target = fs::read_link(&path).ok().filter(|_| links < MOST);
            let is_end = target.is_none() && (rest.is_empty() || !path.exists());
            // The link itself is seen by the watch of its own folder.
            if is_end || (target.is_some() && links > 0) {
                places.push((at.clone(), part));
            }
            match target {
                Some(target) => {
                    links += 1;
                    rest.extend(target.components().rev().map(|part| part.as_os_str().to_owned()));
                }
                None if is_end => break,
                None => at = path,
            }
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_step_is_named() {
        let home = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(home.path()).unwrap();
        let at = |name: &str| root.join(name);
        fs::create_dir_all(at("keys/a")).unwrap();
        fs::create_dir_all(at("away/v1")).unwrap();
        fs::write(at("away/v1/k"), "1").unwrap();
        symlink("v1", at("away/now")).unwrap();
        symlink("../../away/now/k", at("keys/a/far")).unwrap();
        symlink(at("away/v1/k"), at("keys/a/whole")).unwrap();
        symlink("far", at("keys/a/twice")).unwrap();
        symlink("../../nowhere/k", at("keys/a/dangling")).unwrap();
        symlink("../..", at("keys/a/up")).unwrap();
        symlink("self", at("keys/a/self")).unwrap();
        for (link, want) in [
            ("far", "away/now away/v1/k"),
            ("whole", "away/v1/k"),
            ("twice", "keys/a/far away/now away/v1/k"),
            ("dangling", "nowhere"),
            ("up", ""),
        ] {
            let found = places(&at("keys/a").join(link)).into_iter().map(|(folder, name)| folder.join(name));
            let found: Vec<_> = found.map(|path| path.strip_prefix(&root).unwrap().display().to_string()).collect();
            assert_eq!(found.join(" "), want, "{link}");
        }
        assert_eq!(places(&at("keys/a/self")).len(), MOST);
    }
}
