//! `basic_auth_secrets`: whether a request brings a password of a user of its service (RFC 7617). Computes no hash itself.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pointsman_table::{Password, UserList, plain_name};
use pointsman_wire::RequestHead;
use tokio::sync::oneshot;

use super::turned::{Grounds, Turned};
use crate::fault::Fault;
use crate::passwords::Told;
use crate::worker::Worker;

/// The longest password, bytes: that of crypt(3) (`CRYPT_MAX_PASSPHRASE_SIZE`).
const LONGEST: usize = 512;
/// After how many seconds to come again if too many passwords wait.
const AGAIN: u32 = 1;

/// A request that has a user's password, or waits for the answer whether it has.
#[derive(Debug)]
pub(crate) struct Login {
    pub(super) user: Box<str>,
    /// `None`: it has.
    pub(super) pending: Option<Pending>,
}

/// A password that is being computed.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(super) matches: oneshot::Receiver<bool>,
    /// The password is computed for its time only: there is no such user, or the password is wrong already.
    pub(super) is_in_vain: bool,
    /// What the client is told if it does not match.
    pub(super) refused: Box<Turned>,
}

/// User and password, as the client sent them.
struct Credentials {
    user: Vec<u8>,
    password: Vec<u8>,
}

impl Credentials {
    /// The first of a head; `None`: it has none that can be read. HAProxy reads them in the same way.
    fn of(head: &RequestHead<'_, '_>) -> Option<Self> {
        let value = head.header("authorization")?;
        let (scheme, rest) = value.split_at(value.iter().position(|byte| *byte == b' ')?);
        let mut user = STANDARD.decode(rest.trim_ascii()).ok().filter(|_| scheme.eq_ignore_ascii_case(b"basic"))?;
        let colon = user.iter().position(|byte| *byte == b':')?;
        let password = user.split_off(colon + 1);
        user.truncate(colon);
        Some(Self { user, password })
    }
}

/// Looks at a request's password. A wrong one takes as long as that of a user who does not exist. `turn`: makes the answer for
/// a request that is turned away.
///
/// # Errors
/// Why the request does not go on.
#[inline(never)]
pub(super) fn check(
    worker: &Worker,
    (users, service): (&UserList, &str),
    head: &RequestHead<'_, '_>,
    turn: impl Fn(Grounds) -> Box<Turned>,
) -> Result<Box<Login>, Box<Turned>> {
    let refused = || turn((Fault::Unauthorized, None, vec![("WWW-Authenticate", challenge(service))]));
    let Some(Credentials { user, password }) = Credentials::of(head) else { return Err(refused()) };
    if password.len() > LONGEST || password.contains(&0) {
        return Err(refused());
    }
    let known = str::from_utf8(&user).ok().and_then(|name| users.find(name));
    let right = |user: &[u8], pending| Login { user: String::from_utf8_lossy(user).into(), pending };
    let (hash, is_in_vain) = match known.map(|user| &user.password) {
        Some(Password::Plain(own)) if worker.passwords.are_equal(own.as_bytes(), &password) => {
            return Ok(Box::new(right(&user, None)));
        }
        Some(Password::Hash(hash)) => (&**hash, false),
        Some(Password::Plain(_)) | None => match users.costliest() {
            Some(hash) => (hash, true),
            None => return Err(refused()),
        },
    };
    match worker.passwords.ask(hash, (&user, &password), worker.timers.now()) {
        Told::Known(matches) if matches && !is_in_vain => Ok(Box::new(right(&user, None))),
        Told::Known(_) => Err(refused()),
        Told::Later(matches) => Ok(Box::new(right(&user, Some(Pending { matches, is_in_vain, refused: refused() })))),
        Told::Full => Err(turn((Fault::PasswordsBusy, Some(AGAIN), Vec::new()))),
    }
}

/// What asks for a password. The realm is the service's name, written as the HAProxy engine writes it.
fn challenge(service: &str) -> Box<str> {
    format!("Basic realm=\"{}\"", plain_name(service)).into()
}

impl Pending {
    /// What the client is told if too many passwords wait.
    pub(super) fn busy(self) -> Box<Turned> {
        let mut turned = self.refused;
        (turned.fault, turned.retry_after, turned.page) = (Fault::PasswordsBusy, Some(AGAIN), None);
        turned.more.clear();
        turned
    }
}
