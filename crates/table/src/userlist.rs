//! `basic_auth_secrets`: the lines of a HAProxy user list. Parses them, and judges hashes without computing any. Its errors
//! never quote them: they are secret.

use std::fmt::{Debug, Formatter, Result};

use crate::value::{Parsed, is_number};
use crate::words::words;

const SHAPE: &str = "expected lines such as: user NAME password HASH, user NAME insecure-password WORD groups A,B, or \
                     group NAME users A,B";

/// The forms of hashes that [`known`] knows.
const HASHES: &str = "expected a whole hash that begins with $5$, $6$, $2y$, $2b$, $2a$ or $1$, as openssl passwd -6 or \
                      htpasswd -nB make it";
/// Most rounds of `$5$` and `$6$`, and the greatest cost of bcrypt, whose rounds it doubles: about half a second of a core.
const MOST_ROUNDS: u32 = 500_000;
const GREATEST_COST: u32 = 13;
/// Rounds of `$5$` and `$6$` that do not say, and the fewest that they may say (Drepper, "Unix crypt using SHA-256 and
/// SHA-512").
const USUAL_ROUNDS: u32 = 5_000;
const FEWEST_ROUNDS: u32 = 1_000;
/// The time of one doubled round of bcrypt, in rounds of `$6$`.
const BCRYPT_ROUND: u32 = 80;

/// The users with access: HAProxy's user list (Configuration Manual, `userlist`). Names and passwords may hold any
/// character except control characters. Every named user and group is in the list.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct UserList {
    /// Groups, in order.
    pub groups: Box<[Group]>,
    /// Users, in order, at least one. If two have the same name, the first counts.
    pub users: Box<[User]>,
    /// Positions of the users, ordered by name, each name once.
    by_name: Box<[u32]>,
    /// The hash that takes the longest to compute.
    costliest: Option<Box<str>>,
}

/// A group of users.
#[derive(Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: Box<str>,
    /// The users that the group's own line names.
    pub users: Box<[Box<str>]>,
}

/// A user.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: Box<str>,
    /// The password.
    pub password: Password,
    /// The groups that the user's own line names.
    pub groups: Box<[Box<str>]>,
}

/// A password.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// `password`: hashed as crypt(3) does.
    Hash(Box<str>),
    /// `insecure-password`: as it is.
    Plain(Box<str>),
}

impl UserList {
    fn new(groups: Vec<Group>, users: Vec<User>) -> Self {
        let mut by_name: Vec<u32> = (0..).take(users.len()).collect();
        let name = |at: u32| &users[at as usize].name;
        by_name.sort_by(|a, b| (name(*a), a).cmp(&(name(*b), b)));
        by_name.dedup_by(|later, first| name(*later) == name(*first));
        let hashes = users.iter().filter_map(|user| match &user.password {
            Password::Hash(hash) => Some(hash),
            Password::Plain(_) => None,
        });
        let costliest = hashes.max_by_key(|hash| known(hash).unwrap_or(0)).cloned();
        Self { groups: groups.into(), users: users.into(), by_name: by_name.into(), costliest }
    }

    /// The user of this name.
    pub fn find(&self, name: &str) -> Option<&User> {
        let at = self.by_name.binary_search_by(|at| (*self.users[*at as usize].name).cmp(name)).ok()?;
        Some(&self.users[self.by_name[at] as usize])
    }

    /// Of all hashes the one that takes the longest to compute: it is computed for names that are not in the list, so that
    /// the time of an answer does not tell whether they are. `None`: all passwords are there as they are.
    pub fn costliest(&self) -> Option<&str> {
        self.costliest.as_deref()
    }
}

/// Nothing of it is ever printed.
impl Debug for UserList {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str("hidden")
    }
}

/// Nothing of it is ever printed.
impl Debug for Group {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str("hidden")
    }
}

/// Nothing of it is ever printed.
impl Debug for User {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str("hidden")
    }
}

/// Nothing of it is ever printed.
impl Debug for Password {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str("hidden")
    }
}

/// Parses the lines. Refuses any other line than users and groups: its author did not mean it to be ignored.
pub(crate) fn parse(text: &str) -> Parsed<UserList> {
    let (mut users, mut groups) = (Vec::new(), Vec::new());
    for (number, line) in (1..).zip(text.lines()) {
        let wrong = |wrong: String| format!("{SHAPE}; line {number} {wrong}");
        let words = words(line).map_err(wrong)?;
        match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            [] => {}
            ["user", name, options @ ..] => users.push(user(name, options).map_err(wrong)?),
            ["group", name, options @ ..] => groups.push(group(name, options).map_err(wrong)?),
            _ => return Err(wrong("is neither a user nor a group".into())),
        }
    }
    let list = UserList::new(groups, users);
    whole(&list)?;
    Ok(list)
}

/// The same for an engine that computes hashes itself: refuses those that it does not know, or that would take it too long.
pub(crate) fn parse_known(text: &str) -> Parsed<UserList> {
    let list = parse(text)?;
    for (number, user) in (1..).zip(&list.users) {
        if let Password::Hash(hash) = &user.password {
            known(hash).map_err(|wrong| format!("{HASHES}; that of user {number} {wrong}"))?;
        }
    }
    Ok(list)
}

/// How long a hash takes to compute, in rounds of `$6$`.
///
/// # Errors
/// What is wrong with a hash that this program does not compute.
fn known(hash: &str) -> Parsed<u32> {
    let fields: Vec<&str> = hash.split('$').collect();
    match fields.as_slice() {
        ["", "1", salt, sum] => digits(salt, 1..=8).and_then(|()| digits(sum, 22..=22)).map(|()| FEWEST_ROUNDS),
        ["", id @ ("5" | "6"), salt, sum] => sha(id, salt, sum).map(|()| USUAL_ROUNDS),
        ["", id @ ("5" | "6"), rounds, salt, sum] => sha(id, salt, sum).and_then(|()| self::rounds(rounds)),
        ["", "2a" | "2b" | "2y", cost, sum] => digits(sum, 53..=53).and_then(|()| bcrypt_rounds(cost)),
        _ => Err("is of another kind".into()),
    }
}

fn sha(id: &str, salt: &str, sum: &str) -> Parsed<()> {
    let length = if id == "5" { 43 } else { 86 };
    digits(salt, 1..=16).and_then(|()| digits(sum, length..=length))
}

/// Digits as crypt(5) has them.
fn digits(text: &str, length: std::ops::RangeInclusive<usize>) -> Parsed<()> {
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/');
    match () {
        () if !text.bytes().all(is_digit) => Err("holds other characters than letters, digits, . and /".into()),
        () if !length.contains(&text.len()) => Err("is incomplete, or too long".into()),
        () => Ok(()),
    }
}

fn rounds(text: &str) -> Parsed<u32> {
    let number = text.strip_prefix("rounds=").filter(|number| is_number(number)).and_then(|number| number.parse().ok());
    match number {
        Some(number) if (FEWEST_ROUNDS..=MOST_ROUNDS).contains(&number) => Ok(number),
        _ => Err(format!("asks for other rounds than {FEWEST_ROUNDS} to {MOST_ROUNDS}, which it may")),
    }
}

fn bcrypt_rounds(text: &str) -> Parsed<u32> {
    match text.parse() {
        Ok(cost @ 4..=GREATEST_COST) if text.len() == 2 && is_number(text) => Ok(BCRYPT_ROUND << cost),
        _ => Err(format!("asks for another cost than 04 to {GREATEST_COST}, which it may")),
    }
}

fn user(name: &str, options: &[&str]) -> Parsed<User> {
    let (mut password, mut groups) = (None, None);
    for option in options.chunks(2) {
        let twice = match *option {
            ["password", hash] if !hash.is_empty() => password.replace(Password::Hash(hash.into())).is_some(),
            ["insecure-password", word] => password.replace(Password::Plain(word.into())).is_some(),
            ["groups", list] => groups.replace(names(list)?).is_some(),
            _ => return Err("has an unknown option after the user's name".into()),
        };
        if twice {
            return Err("has an option twice".into());
        }
    }
    let password = password.ok_or("has no password")?;
    Ok(User { name: self::name(name)?, password, groups: groups.unwrap_or_default() })
}

fn group(name: &str, options: &[&str]) -> Parsed<Group> {
    let users = match *options {
        [] => Box::default(),
        ["users", list] => names(list)?,
        _ => return Err("has an unknown option after the group's name".into()),
    };
    Ok(Group { name: self::name(name)?, users })
}

fn name(word: &str) -> Parsed<Box<str>> {
    if word.is_empty() { Err("has an empty name".into()) } else { Ok(word.into()) }
}

fn names(list: &str) -> Parsed<Box<[Box<str>]>> {
    let names = list.split(',').filter(|name| !name.is_empty()).map(name);
    names.collect::<Parsed<Vec<_>>>().map(Into::into)
}

/// There is a user, and every user and group that is named is in the list.
fn whole(list: &UserList) -> Parsed<()> {
    let has_user = |name: &str| list.users.iter().any(|user| *user.name == *name);
    let has_group = |name: &str| list.groups.iter().any(|group| *group.name == *name);
    if list.users.is_empty() {
        return Err(format!("{SHAPE}; no line is a user"));
    }
    if !list.users.iter().flat_map(|user| &user.groups).all(|name| has_group(name)) {
        return Err(format!("{SHAPE}; a user names a group that has no line"));
    }
    if !list.groups.iter().flat_map(|group| &group.users).all(|name| has_user(name)) {
        return Err(format!("{SHAPE}; a group names a user that has no line"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a=secret(g,h) | g(a)`: users, then groups; hashes in brackets.
    fn shown(list: &UserList) -> String {
        let user = |User { name, password, groups }: &User| match password {
            Password::Plain(word) => format!("{name}={word}({})", groups.join(",")),
            Password::Hash(hash) => format!("{name}=[{hash}]({})", groups.join(",")),
        };
        let group = |Group { name, users }: &Group| format!("{name}({})", users.join(","));
        let users: Vec<_> = list.users.iter().map(user).collect();
        let groups: Vec<_> = list.groups.iter().map(group).collect();
        format!("{} | {}", users.join(" "), groups.join(" "))
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(parse(text).map(|list| shown(&list)).as_deref(), Ok(expected), "{text}");
    }

    #[test]
    fn users_and_groups() {
        check("user a insecure-password b", "a=b() | ");
        check("user a password $5$salt$hash.x/y", "a=[$5$salt$hash.x/y]() | ");
        check("# admins\n\n  user a insecure-password b # him\r\nuser c insecure-password d\n", "a=b() c=d() | ");
        check(
            "group g users a,b\ngroup h\nuser a groups g,h insecure-password x\nuser b password y groups h",
            "a=x(g,h) b=[y](h) | g(a,b) h()",
        );
        check(r#"user "a b" insecure-password 'p"$#\'"#, r#"a b=p"$#\() | "#);
        check("user a insecure-password ''", "a=() | ");
        check("user a insecure-password b\nuser a insecure-password c", "a=b() a=c() | ");
    }

    /// Hashes of `x`, made by openssl passwd and htpasswd.
    const MD5: &str = "$1$saltsalt$4px9i58NU2Z2/vZOUlGjq.";
    const SHA256: &str = "$5$saltsalt$hcyDOxdIg0p3xyqtpHh/v8Ph.am06tQaovp1KpEklb7";

    #[test]
    fn hashes_that_this_program_computes() {
        let sum = "a".repeat(86);
        let bcrypt = format!("10${}", "a".repeat(53));
        for (hash, expected) in [
            (MD5.to_owned(), Ok(1_000)),
            (SHA256.to_owned(), Ok(5_000)),
            (format!("$6$s${sum}"), Ok(5_000)),
            (format!("$6$rounds=1000$s${sum}"), Ok(1_000)),
            (format!("$6$rounds=500000$s${sum}"), Ok(500_000)),
            (format!("$2y${bcrypt}"), Ok(81_920)),
            (format!("$2b${bcrypt}"), Ok(81_920)),
            (format!("$2a$04${}", "a".repeat(53)), Ok(1_280)),
            (format!("$2x${bcrypt}"), Err("is of another kind")),
            (format!("$6$rounds=500001$s${sum}"), Err("asks for other rounds than 1000 to 500000")),
            (format!("$6$rounds=999$s${sum}"), Err("asks for other rounds")),
            (format!("$6$rounds=$s${sum}"), Err("asks for other rounds")),
            (format!("$2y$14${}", "a".repeat(53)), Err("asks for another cost than 04 to 13")),
            (format!("$2y$+4${}", "a".repeat(53)), Err("asks for another cost")),
            (format!("$2y$10${}", "a".repeat(52)), Err("is incomplete")),
            ("$6$s$short".to_owned(), Err("is incomplete")),
            (format!("$6$${sum}"), Err("is incomplete")),
            (format!("$6$a-b${sum}"), Err("holds other characters")),
            ("hunter2".to_owned(), Err("is of another kind")),
            ("$y$j9T$salt$sum".to_owned(), Err("is of another kind")),
        ] {
            match (known(&hash), expected) {
                (Ok(cost), Ok(expected)) => assert_eq!(cost, expected, "{hash}"),
                (Err(wrong), Err(expected)) => assert!(wrong.starts_with(expected), "{hash}: {wrong}"),
                (got, _) => panic!("{hash}: {got:?}"),
            }
        }
        let advice = parse_known("user a insecure-password x\nuser b password hunter2").unwrap_err();
        assert!(advice.starts_with(HASHES) && advice.contains("user 2") && !advice.contains("hunter2"), "{advice}");
    }

    #[test]
    fn users_are_found_by_name() {
        let text =
            format!("user b password {MD5}\nuser a insecure-password x\nuser b password y\nuser c password {SHA256}");
        let list = parse(&text).unwrap();
        assert!(list.find("b").unwrap().password == Password::Hash(MD5.into()), "the first counts");
        assert!(list.find("a").is_some() && list.find("c").is_some() && list.find("d").is_none());
        assert_eq!(list.costliest(), Some(SHA256));
        assert_eq!(parse("user a insecure-password x").unwrap().costliest(), None);
    }

    #[test]
    fn anything_else_is_refused_and_not_repeated() {
        for (text, expected) in [
            ("", "no line is a user"),
            ("# hunter2", "no line is a user"),
            ("hunter2", "line 1 is neither a user nor a group"),
            ("user hunter2", "line 1 has no password"),
            ("user", "line 1 is neither"),
            ("user a insecure-password", "line 1 has an unknown option after the user's name"),
            ("user a password ''", "line 1 has an unknown option"),
            ("user a insecure-password hunter2 hunter2", "line 1 has an unknown option"),
            ("user a insecure-password hunter2 password hunter2", "line 1 has an option twice"),
            ("user '' insecure-password hunter2", "line 1 has an empty name"),
            ("user a insecure-password b\nacl hunter2", "line 2 is neither"),
            ("user a insecure-password hunter2 groups g", "a user names a group that has no line"),
            ("group g users hunter2\nuser a password x", "a group names a user that has no line"),
            ("group g hunter2 a", "line 1 has an unknown option after the group's name"),
            ("user a insecure-password \"$hunter2\"", "line 1 uses a variable"),
            ("user a insecure-password hunter2\u{7}", "line 1 has a control character"),
            ("user a insecure-password 'hunter2", "line 1 has an unclosed quote"),
            ("user a insecure-password hunter2\u{b}\nbackend x", "line 1 has a control character"),
        ] {
            let advice = parse(text).expect_err(text);
            assert!(advice.contains(expected), "{text}: {advice}");
            assert!(advice.starts_with(SHAPE) && !advice.contains("hunter2"), "{text}: {advice}");
        }
        let list = parse("group g\nuser a insecure-password hunter2 groups g").unwrap();
        let User { password, .. } = &list.users[0];
        let said = format!("{list:?} {:?} {:?} {password:?}", list.users, list.groups);
        assert!(!said.contains("hunter2") && said.contains("hidden"), "{said}");
    }
}
