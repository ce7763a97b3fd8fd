//! `basic_auth_secrets`: the lines of a HAProxy user list. Parses them. Its errors never quote them: they are secret.

use std::fmt::{Debug, Formatter, Result};

use crate::value::Parsed;
use crate::words::words;

const SHAPE: &str = "expected lines such as: user NAME password HASH, user NAME insecure-password WORD groups A,B, or \
                     group NAME users A,B";

/// The users with access: HAProxy's user list (Configuration Manual, `userlist`). Names and passwords may hold any
/// character except control characters. Every named user and group is in the list.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct UserList {
    /// Groups, in order.
    pub groups: Box<[Group]>,
    /// Users, in order, at least one. If two have the same name, the first counts.
    pub users: Box<[User]>,
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
    let list = UserList { users: users.into(), groups: groups.into() };
    whole(&list)?;
    Ok(list)
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
