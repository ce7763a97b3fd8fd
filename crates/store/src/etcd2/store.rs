//! etcd by its v2 API: single requests over any member that answers.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use tracing::warn;

use super::event::{
    self, COMPARE_FAILED, DIRECTORY_NOT_EMPTY, EVENT_INDEX_CLEARED, Event, KEY_NOT_FOUND, NODE_EXISTS, NOT_A_FILE,
    Node, Refusal,
};
use super::http::{About, Answer, Bounds, Fault, Http};
use crate::error::StoreError;
use crate::members::{Members, first_answer};
use crate::model::{ASIDE, Amended, ClusterId, Edit, Listing, Location, StoreSettings, check_key};
use ::http::{Method, StatusCode};

/// Deadline for the check that a member has a leader; other members are asked meanwhile.
const CHECK: Duration = Duration::from_secs(3);

/// etcd v2.
#[derive(Debug)]
pub struct Etcd2 {
    pub(super) http: Http,
    pub(super) endpoints: Vec<String>,
    pub(super) members: Members,
    pub(super) prefix: String,
    pub(super) audit: Duration,
    /// The cluster that is followed.
    pub(crate) cluster: ClusterId,
}

/// What the server's v2 API holds at the prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// The server has no v2 API.
    Unsupported,
    /// Nothing, not even a directory.
    Absent,
    /// A directory, with or without keys in it.
    Directory,
}

/// The result of a request.
pub(super) enum Got {
    Some(Answer),
    /// `errorCode` 100.
    NotFound(About),
    /// `errorCode` 101 or 105: the key does not have the state that the edit requires.
    Differs,
    /// `errorCode` 401.
    Cleared,
}

fn text_of<'v>(key: &str, value: &'v [u8]) -> Result<&'v str, StoreError> {
    std::str::from_utf8(value).map_err(|_| bad_key(key, "etcd v2 keeps UTF-8 text only"))
}

impl Etcd2 {
    /// Takes the settings. Opens no connection.
    pub fn new(settings: &StoreSettings) -> Result<Self, StoreError> {
        let Location::Etcd(urls) = &settings.location else {
            return Err(StoreError::BadSettings { what: "etcd v2 needs the URL of an etcd server".into() });
        };
        if urls.is_empty() {
            return Err(StoreError::BadSettings { what: "--store names no etcd endpoint".into() });
        }
        let endpoints: Vec<_> = urls.iter().map(|url| url.trim_end_matches('/').to_owned()).collect();
        Ok(Self {
            http: Http::new(settings)?,
            members: Members::new(endpoints.len()),
            endpoints,
            prefix: settings.prefix.clone(),
            audit: settings.audit,
            cluster: ClusterId::default(),
        })
    }

    /// The prefix, without a slash at its end.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// By how many seconds the clock of each endpoint is ahead of ours, in their order; negative if it is behind, `None` if it
    /// does not tell.
    pub async fn clocks(&self) -> Vec<Option<i64>> {
        let ask = async |endpoint: &String| {
            let theirs = self.http.clock(endpoint, CHECK).await?;
            let seconds =
                |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().cast_signed();
            Some(seconds(theirs) - seconds(SystemTime::now()))
        };
        join_all(self.endpoints.iter().map(ask)).await
    }

    /// The content of the prefix.
    pub async fn probe(&self) -> Result<Holding, StoreError> {
        let answer = self.read(&self.prefix, "?quorum=true", Bounds::list()).await?;
        if answer.status == StatusCode::NOT_FOUND && refusal(&answer).error_code == 0 {
            return Ok(Holding::Unsupported);
        }
        Ok(match got(answer, &self.prefix)? {
            Got::Some(_) => Holding::Directory,
            Got::NotFound(_) | Got::Differs | Got::Cleared => Holding::Absent,
        })
    }

    /// Everything below a full key; nothing if the directory does not exist.
    pub async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        let answer = self.read(prefix, LIST, Bounds::list()).await?;
        Ok(listing(answer, prefix)?.0)
    }

    /// The value of a full key, if it has one.
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match self.node(key).await? {
            None => Ok(None),
            Some(Node::Value(value)) => Ok(Some(value.into_string().into_bytes())),
            Some(Node::Directory) => Err(bad_key(key, "is a directory")),
        }
    }

    /// That a value to be written is text.
    ///
    /// # Errors
    /// [`StoreError::BadKey`].
    pub fn check_value(edit: &Edit) -> Result<(), StoreError> {
        match edit {
            Edit::Put { key, value } => text_of(key, value).map(drop),
            Edit::Delete { .. } => Ok(()),
        }
    }

    /// Sets a full key; returns its index.
    pub async fn put(&self, key: &str, value: &[u8]) -> Result<u64, StoreError> {
        self.check_visible(key)?;
        let value = text_of(key, value)?;
        self.write(Method::PUT, key, "", Some(&format!("value={}", encode(value)))).await
    }

    /// Sets a full key that does not exist; `false`: it does, and stays as it is.
    pub async fn create(&self, key: &str, value: &[u8]) -> Result<bool, StoreError> {
        self.check_visible(key)?;
        let value = text_of(key, value)?;
        let form = format!("value={}", encode(value));
        let answer = self.send(Method::PUT, key, "?prevExist=false", Some(&form), Bounds::one()).await?;
        match got(answer, key)? {
            Got::Some(_) => Ok(true),
            Got::Differs | Got::Cleared => Ok(false),
            Got::NotFound(_) => Err(StoreError::NoSuchKey { key: key.to_owned() }),
        }
    }

    /// Deletes a full key, with everything below it if `recursive`; returns the index of the deletion.
    pub async fn delete(&self, key: &str, recursive: bool) -> Result<u64, StoreError> {
        self.write(Method::DELETE, key, if recursive { "?recursive=true" } else { "" }, None).await
    }

    /// Makes these edits one after the other, as v2 has no transactions; returns the last one's index.
    pub async fn commit(&self, edits: &[Edit]) -> Result<u64, StoreError> {
        edits.iter().try_for_each(|edit| self.check_visible(edit.key()))?;
        let mut index = 0;
        for (made, edit) in edits.iter().enumerate() {
            let done = match edit {
                Edit::Put { key, value } => self.put(key, value).await,
                Edit::Delete { key } => self.delete(key, false).await,
            };
            index = match done {
                Err(StoreError::NoSuchKey { .. }) if matches!(edit, Edit::Delete { .. }) => index,
                Err(error) if made > 0 => {
                    warn!("{made} of {} changes are made; the next one failed", edits.len());
                    return Err(error);
                }
                done => done?,
            };
        }
        Ok(index)
    }

    /// Makes a directory and its parents. Returns its index, or 0 if it already existed.
    pub async fn mkdir(&self, key: &str) -> Result<u64, StoreError> {
        self.check_visible(key)?;
        match self.node(key).await? {
            Some(Node::Directory) => return Ok(0),
            Some(Node::Value(_)) => return Err(bad_key(key, "is a key, not a directory")),
            None => {}
        }
        self.write(Method::PUT, key, "?dir=true", Some("")).await
    }

    /// Replaces a value with the result of `change`; the key keeps its time to live. If the key changes meanwhile, does
    /// nothing and returns `None`.
    pub async fn amend(
        &self,
        key: &str,
        change: impl Fn(&[u8]) -> Option<Vec<u8>>,
    ) -> Result<Option<Amended>, StoreError> {
        let Some(event) = self.event_at(key, Bounds::one()).await? else {
            return Err(StoreError::NoSuchKey { key: key.to_owned() });
        };
        let (index, ttl) = (event.index(), event.ttl());
        let Node::Value(value) = event.into_node() else {
            return Err(bad_key(key, "is a directory"));
        };
        let Some(value) = change(value.as_bytes()) else {
            return Ok(Some(Amended::Same));
        };
        let value = String::from_utf8(value).map_err(|_| bad_key(key, "etcd v2 keeps UTF-8 text only"))?;
        let ttl = ttl.map(|seconds| format!("&ttl={}", seconds.max(1))).unwrap_or_default();
        let form = format!("value={}{ttl}", encode(&value));
        let answer = self.send(Method::PUT, key, &format!("?prevIndex={index}"), Some(&form), Bounds::one()).await?;
        match got(answer, key)? {
            Got::Some(answer) => Ok(Some(Amended::At(event_about(&answer, key)?.index()))),
            Got::NotFound(_) => Err(StoreError::NoSuchKey { key: key.to_owned() }),
            Got::Differs | Got::Cleared => Ok(None),
        }
    }

    async fn node(&self, key: &str) -> Result<Option<Node>, StoreError> {
        Ok(self.event_at(key, Bounds::one()).await?.map(Event::into_node))
    }

    pub(super) async fn event_at(&self, key: &str, bounds: Bounds) -> Result<Option<Event>, StoreError> {
        check_key(key)?;
        match got(self.read(key, "?quorum=true", bounds).await?, key)? {
            Got::Some(answer) => event_about(&answer, key).map(Some),
            Got::NotFound(_) | Got::Differs | Got::Cleared => Ok(None),
        }
    }

    /// Asks the members in turn until one can answer.
    async fn read(&self, key: &str, query: &str, bounds: Bounds) -> Result<Answer, StoreError> {
        let mut last = None;
        for _ in &self.endpoints {
            let member = self.member().await?;
            let asked = self.http.ask(Method::GET, &url(&self.endpoints[member], key, query), None, bounds).await;
            match asked.map_err(StoreError::from) {
                Ok(answer) if !answer.status.is_server_error() => {
                    self.members.answered(member);
                    return Ok(answer);
                }
                other => {
                    self.members.failed(member);
                    last = Some(other);
                }
            }
        }
        last.expect("there is at least one endpoint")
    }

    /// As `read`, but does not repeat a request that may have arrived.
    async fn write(&self, method: Method, key: &str, query: &str, form: Option<&str>) -> Result<u64, StoreError> {
        written(self.send(method, key, query, form, Bounds::one()).await?, key)
    }

    pub(super) async fn send(
        &self,
        method: Method,
        key: &str,
        query: &str,
        form: Option<&str>,
        bounds: Bounds,
    ) -> Result<Answer, StoreError> {
        check_key(key)?;
        let mut error = None;
        for _ in &self.endpoints {
            let member = self.member().await?;
            let asked = self.http.ask(method.clone(), &url(&self.endpoints[member], key, query), form, bounds).await;
            match &asked {
                Ok(answer) if !answer.status.is_server_error() => self.members.answered(member),
                Ok(_) | Err(_) => self.members.failed(member),
            }
            match asked {
                Ok(answer) => return Ok(answer),
                Err(Fault::Unsent(unsent)) => error = Some(unsent),
                Err(Fault::Unknown(unknown)) => return Err(unknown),
            }
        }
        Err(error.expect("there is at least one endpoint"))
    }

    /// The member for the next request: the one that has just answered, or the first of all to show that it has a
    /// leader. A write cannot be repeated elsewhere once it was sent, so it is not sent to a member that may be silent.
    pub(super) async fn member(&self) -> Result<usize, StoreError> {
        if let Some(member) = self.members.trusted() {
            return Ok(member);
        }
        let check = |member: usize| async move {
            self.check_leader(&self.endpoints[member], Bounds::one().within(CHECK)).await.map(|()| member)
        };
        let member = first_answer(self.members.order().map(check)).await?;
        self.members.answered(member);
        Ok(member)
    }

    /// Whether a member answers, and has a leader.
    pub(super) async fn check_leader(&self, endpoint: &str, bounds: Bounds) -> Result<(), StoreError> {
        let url = format!("{endpoint}/v2/members/leader");
        let answer = self.http.ask(Method::GET, &url, None, bounds).await?;
        match answer.status.is_server_error() {
            false => Ok(()),
            true => {
                Err(StoreError::Failed { endpoint: endpoint.to_owned(), why: "its cluster has no leader".to_owned() })
            }
        }
    }

    /// etcd hides names that begin with an underscore from lists and watches above them, so nobody would see such a key.
    pub(crate) fn check_visible(&self, key: &str) -> Result<(), StoreError> {
        let below = key.strip_prefix(&self.prefix).filter(|rest| rest.starts_with('/')).unwrap_or(key);
        let is_aside = key.strip_prefix(ASIDE).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        match below.split('/').find(|part| part.starts_with('_')) {
            Some(part) if !is_aside => Err(bad_key(
                key,
                &format!("etcd v2 hides names that begin with an underscore, so no balancer would see {part}"),
            )),
            Some(_) | None => Ok(()),
        }
    }
}

/// A consistent read of a whole directory, through the raft log, so that a lagging member does not answer.
pub(super) const LIST: &str = "?recursive=true&quorum=true";

fn written(answer: Answer, key: &str) -> Result<u64, StoreError> {
    match got(answer, key)? {
        Got::Some(answer) => Ok(event_about(&answer, key)?.index()),
        Got::NotFound(_) | Got::Differs | Got::Cleared => Err(StoreError::NoSuchKey { key: key.to_owned() }),
    }
}

pub(super) fn listing(answer: Answer, prefix: &str) -> Result<(Listing, About), StoreError> {
    let endpoint = answer.endpoint.clone();
    let (mut listing, about) = match got(answer, prefix)? {
        Got::Some(answer) => {
            let listing = event::listing(&answer.body, prefix).map_err(|error| bad_answer(&endpoint, &error))?;
            (listing, answer.about)
        }
        Got::NotFound(about) => (Listing::default(), about),
        Got::Differs | Got::Cleared => return Err(bad_answer(&endpoint, &"no list")),
    };
    listing.revision = about.index.ok_or_else(|| bad_answer(&endpoint, &"no X-Etcd-Index"))?;
    Ok((listing, about))
}

/// Interprets the answer to a request about `key`. That another key is missing says nothing about this one.
pub(super) fn got(answer: Answer, key: &str) -> Result<Got, StoreError> {
    if answer.status.is_success() {
        return Ok(Got::Some(answer));
    }
    let refusal = refusal(&answer);
    match refusal.error_code {
        KEY_NOT_FOUND if !event::is_at_or_above(&refusal.cause, key) => {
            Err(about_another(&answer, &refusal.cause, key))
        }
        KEY_NOT_FOUND => Ok(Got::NotFound(answer.about)),
        COMPARE_FAILED | NODE_EXISTS => Ok(Got::Differs),
        EVENT_INDEX_CLEARED => Ok(Got::Cleared),
        NOT_A_FILE => Err(bad_key(&refusal.cause, "is a directory")),
        DIRECTORY_NOT_EMPTY => Err(bad_key(&refusal.cause, "is a directory that is not empty")),
        _ => Err(refused(answer, &refusal)),
    }
}

fn refused(answer: Answer, refusal: &Refusal) -> StoreError {
    let Answer { endpoint, status, .. } = answer;
    let why = match (refusal.message.as_str(), refusal.cause.as_str()) {
        ("", _) => format!("it answers with status {status}"),
        (message, "") => message.to_owned(),
        (message, cause) => format!("{message}: {cause}"),
    };
    match status {
        StatusCode::UNAUTHORIZED => StoreError::Refused { endpoint, why },
        StatusCode::NOT_FOUND => {
            StoreError::NotSupported { endpoint, api: "v2", why, hint: "try --etcd-api 3, or etcd --enable-v2" }
        }
        _ => StoreError::Failed { endpoint, why },
    }
}

fn refusal(answer: &Answer) -> Refusal {
    serde_json::from_slice(&answer.body).unwrap_or_default()
}

/// The event of an answer about one key.
pub(super) fn event_about(answer: &Answer, key: &str) -> Result<Event, StoreError> {
    let event = event_of(answer)?;
    if event.is_about(key) { Ok(event) } else { Err(about_another(answer, event.key(), key)) }
}

fn about_another(answer: &Answer, other: &str, key: &str) -> StoreError {
    bad_answer(&answer.endpoint, &format!("it is about {other:?}, not {key:?}"))
}

pub(super) fn event_of(answer: &Answer) -> Result<Event, StoreError> {
    serde_json::from_slice(&answer.body).map_err(|error| bad_answer(&answer.endpoint, &error))
}

pub(super) fn bad_answer(endpoint: &str, why: &dyn std::fmt::Display) -> StoreError {
    StoreError::BadAnswer { endpoint: endpoint.to_owned(), why: why.to_string() }
}

pub(super) fn bad_key(key: &str, why: &str) -> StoreError {
    StoreError::BadKey { key: key.to_owned(), why: why.to_owned() }
}

pub(super) fn url(endpoint: &str, key: &str, query: &str) -> String {
    let path: Vec<String> = key.split('/').map(encode).collect();
    format!("{endpoint}/v2/keys{}{query}", path.join("/"))
}

/// Percent-encodes everything except RFC 3986's unreserved characters.
pub(super) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
