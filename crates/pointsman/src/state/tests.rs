//! Files that are kept, read again and set aside. Starts nothing.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::*;

pub(super) fn settings(urls: &[&str], prefix: &str) -> StoreSettings {
    StoreSettings {
        location: Location::Etcd(urls.iter().map(|url| (*url).to_owned()).collect()),
        api: Api::Auto,
        prefix: prefix.to_owned(),
        user: None,
        ca: None,
        identity: None,
        audit: Duration::from_secs(180),
    }
}

fn kept() -> Kept {
    let keys = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).into(), v.as_bytes().into())).collect();
    let service = |protocol, name: &str, revision| ServiceMemory {
        protocol,
        name: name.into(),
        revision,
        keys: keys(&[("domain", "\u{e9}\n"), ("timeout/server", "1s")]),
    };
    let services = vec![service(Protocol::Http, "shop", 7), service(Protocol::Tcp, "shop", u64::MAX)];
    let memory = Memory {
        services,
        config: keys(&[("timeout/head", "7s")]),
        certs: vec![("a".into(), b"pem".as_slice().into())],
    };
    let down = vec![((Protocol::Tcp, "shop".to_owned(), "one".to_owned()), "10.0.0.1:80".to_owned())];
    Kept { api: Some(Api::V2), memory, ..Kept::default() }.with_down(down, 1_000)
}

#[test]
fn who_was_down_is_soon_forgotten() {
    for (now, expected) in [(1_000, 1), (1_060, 1), (1_061, 0), (999, 0)] {
        assert_eq!(kept().down_before(now).len(), expected, "{now}");
    }
}

#[test]
fn what_is_written_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = StateFile::new(folder.path(), &settings(&["http://a:1", "http://b:1"], "/x"));
    assert_eq!(file.take(), Kept::default());
    file.write(&file.text(&kept())).unwrap();
    assert_eq!(file.take(), kept());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file.path), mode(file.path.parent().unwrap())), (0o600, 0o700));
    assert_eq!(fs::read_dir(file.path.parent().unwrap()).unwrap().count(), 1, "no draft is left");
    // The same store with one endpoint more or less, in any order; and other stores.
    let read = |urls: &[&str], prefix: &str| StateFile::new(folder.path(), &settings(urls, prefix)).take();
    assert_eq!(read(&["http://b:1/", "http://a:1"], "/x"), kept());
    assert_eq!(read(&["http://b:1", "http://c:1"], "/x"), kept());
    assert_eq!(read(&["http://c:1"], "/x"), Kept::default());
    assert_eq!(read(&["http://a:1", "http://b:1"], "/y"), Kept::default());
}

#[test]
fn a_file_that_cannot_be_used_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let file = StateFile::new(folder.path(), &settings(&["http://a:1"], "/x"));
    let good = String::from_utf8(file.text(&kept())).unwrap();
    let foreign = StateFile::new(folder.path(), &settings(&["http://b:1"], "/x"));
    let foreign = String::from_utf8(foreign.text(&kept())).unwrap();
    let later = good.replace("\"format\": 1", "\"format\": 2");
    for text in ["", "{}", "\0\0\0", &good[..good.len() / 2], &foreign, &later] {
        file.write(text.as_bytes()).unwrap();
        assert_eq!(file.take(), Kept::default(), "{text}");
        assert!(!file.path.exists(), "{text}");
        assert_eq!(fs::read_to_string(file.path.with_extension("json.bad")).unwrap(), text);
    }
    // Keys with a later version of their meaning are not used; the rest is.
    file.write(good.replace("\"meaning\": 1", "\"meaning\": 2").as_bytes()).unwrap();
    assert_eq!(file.take(), Kept { api: Some(Api::V2), ..Kept::default() });
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let file = StateFile::new(&folder.path().join("file"), &settings(&["http://a:1"], "/x"));
    assert!(file.write(b"x").is_err());
    assert!(file.read().is_err());
}

/// Sets a file's time of change to this many seconds ago.
fn age(path: &Path, seconds: u64) {
    let then = SystemTime::now() - Duration::from_secs(seconds);
    File::options().write(true).open(path).unwrap().set_modified(then).unwrap();
}

#[test]
fn endpoints_that_change_there_and_back_find_the_newest_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = |urls: &[&str], prefix: &str| StateFile::new(folder.path(), &settings(urls, prefix));
    let (one, two, other) =
        (file(&["http://a:1"], "/x"), file(&["http://a:1", "http://b:1"], "/x"), file(&["http://a:1"], "/y"));
    let newer = Kept { api: Some(Api::V3), ..kept() };
    one.write(&one.text(&kept())).unwrap();
    two.write(&two.text(&newer)).unwrap();
    other.write(&other.text(&kept())).unwrap();
    age(&one.path, 60);
    age(&two.path, 30);
    assert_eq!(one.take(), newer);
    age(&one.path, 10);
    assert_eq!(two.take(), kept());
    // The new file replaces them and old drafts; files and drafts of other prefixes stay.
    let drafts = ["7.tmp", "8.tmp"].map(|end| one.path.with_extension(end));
    let foreign = other.path.with_extension("7.tmp");
    drafts.iter().chain([&foreign]).for_each(|path| fs::write(path, "").unwrap());
    age(&drafts[0], 3600);
    age(&foreign, 3600);
    one.tidy();
    let is_there = [&one.path, &two.path, &other.path, &drafts[0], &drafts[1], &foreign].map(|path| path.exists());
    assert_eq!(is_there, [true, false, true, false, true, true]);
}

#[test]
fn the_name_of_a_file_is_the_same_with_every_version() {
    let file = StateFile::new(Path::new("/s"), &settings(&["http://b:1/", "http://a:1"], "/x"));
    assert_eq!(file.path, Path::new("/s/memory/9b619b3a8bbbb287.json"));
}

#[test]
fn a_file_that_cannot_be_read_now_stays() {
    let folder = tempfile::tempdir().unwrap();
    let file = StateFile::new(folder.path(), &settings(&["http://a:1"], "/x"));
    // Reading a folder fails with EISDIR for every user: it stands for EIO and EMFILE.
    fs::create_dir_all(&file.path).unwrap();
    assert_eq!(file.take(), Kept::default());
    assert!(file.path.exists());
}
