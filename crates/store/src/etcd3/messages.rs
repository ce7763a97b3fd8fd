//! The used part of etcd's gRPC API, declared by hand: only the fields that we use, with their real tags.
//! Source: etcd `api/etcdserverpb/rpc.proto` and `api/mvccpb/kv.proto`, with the same tags from 3.0 to 3.6.

use prost::Message;

/// A unary method: its path and its reply type.
pub(super) trait Method: Message + 'static {
    /// gRPC path.
    const PATH: &'static str;
    /// The reply.
    type Reply: Message + Default + 'static;
}

/// Paths of the streaming methods.
pub(super) const WATCH: &str = "/etcdserverpb.Watch/Watch";
pub(super) const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";

impl Method for RangeRequest {
    const PATH: &'static str = "/etcdserverpb.KV/Range";
    type Reply = RangeResponse;
}

impl Method for PutRequest {
    const PATH: &'static str = "/etcdserverpb.KV/Put";
    type Reply = PutResponse;
}

impl Method for DeleteRangeRequest {
    const PATH: &'static str = "/etcdserverpb.KV/DeleteRange";
    type Reply = DeleteRangeResponse;
}

impl Method for TxnRequest {
    const PATH: &'static str = "/etcdserverpb.KV/Txn";
    type Reply = TxnResponse;
}

impl Method for LeaseGrantRequest {
    const PATH: &'static str = "/etcdserverpb.Lease/LeaseGrant";
    type Reply = LeaseGrantResponse;
}

impl Method for LeaseTimeToLiveRequest {
    const PATH: &'static str = "/etcdserverpb.Lease/LeaseTimeToLive";
    type Reply = LeaseTimeToLiveResponse;
}

impl Method for AuthenticateRequest {
    const PATH: &'static str = "/etcdserverpb.Auth/Authenticate";
    type Reply = AuthenticateResponse;
}

impl Method for StatusRequest {
    const PATH: &'static str = "/etcdserverpb.Maintenance/Status";
    type Reply = StatusResponse;
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct ResponseHeader {
    #[prost(uint64, tag = "1")]
    pub cluster_id: u64,
    #[prost(int64, tag = "3")]
    pub revision: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct KeyValue {
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    #[prost(int64, tag = "3")]
    pub mod_revision: i64,
    #[prost(bytes = "vec", tag = "5")]
    pub value: Vec<u8>,
    /// 0 if there is none.
    #[prost(int64, tag = "6")]
    pub lease: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub range_end: Vec<u8>,
    #[prost(int64, tag = "3")]
    pub limit: i64,
    #[prost(int64, tag = "4")]
    pub revision: i64,
    /// A local read of the asked member, which may lag; costs the other members nothing.
    #[prost(bool, tag = "7")]
    pub serializable: bool,
    #[prost(bool, tag = "8")]
    pub keys_only: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RangeResponse {
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    #[prost(message, repeated, tag = "2")]
    pub kvs: Vec<KeyValue>,
    #[prost(bool, tag = "3")]
    pub more: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
    #[prost(int64, tag = "3")]
    pub lease: i64,
    /// Keep the key's lease; an error if the key does not exist.
    #[prost(bool, tag = "6")]
    pub ignore_lease: bool,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct PutResponse {
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DeleteRangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub range_end: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct DeleteRangeResponse {
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    #[prost(int64, tag = "2")]
    pub deleted: i64,
}

/// Compares, then executes one of two lists of operations, atomically.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TxnRequest {
    #[prost(message, repeated, tag = "1")]
    pub compare: Vec<Compare>,
    #[prost(message, repeated, tag = "2")]
    pub success: Vec<Operation>,
    #[prost(message, repeated, tag = "3")]
    pub failure: Vec<Operation>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TxnResponse {
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    #[prost(bool, tag = "2")]
    pub succeeded: bool,
    #[prost(message, repeated, tag = "3")]
    pub responses: Vec<OperationResponse>,
}

/// Whether a key's number or value equals this one, or, of a range, is less. In etcd the compared value is a oneof.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Compare {
    #[prost(enumeration = "CompareResult", tag = "1")]
    pub result: i32,
    #[prost(enumeration = "CompareTarget", tag = "2")]
    pub target: i32,
    #[prost(bytes = "vec", tag = "3")]
    pub key: Vec<u8>,
    #[prost(int64, optional, tag = "5")]
    pub create_revision: Option<i64>,
    #[prost(int64, optional, tag = "6")]
    pub mod_revision: Option<i64>,
    #[prost(bytes = "vec", optional, tag = "7")]
    pub value: Option<Vec<u8>>,
    #[prost(int64, optional, tag = "8")]
    pub lease: Option<i64>,
    /// If set, the comparison must hold for every key from `key` up to this one.
    #[prost(bytes = "vec", tag = "64")]
    pub range_end: Vec<u8>,
}

impl Compare {
    /// Holds if no key of the range was written after this revision.
    pub(super) fn untouched_since(revision: u64, key: Vec<u8>, range_end: Vec<u8>) -> Self {
        let (result, target) = (CompareResult::Less.into(), CompareTarget::Mod.into());
        let mod_revision = Some(revision.cast_signed().saturating_add(1));
        Self { result, target, key, range_end, mod_revision, ..Self::default() }
    }

    /// Holds if the key does not exist.
    pub(super) fn absent(key: Vec<u8>) -> Self {
        Self { target: CompareTarget::Create.into(), key, create_revision: Some(0), ..Self::default() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub(super) enum CompareResult {
    Equal = 0,
    Greater = 1,
    Less = 2,
    NotEqual = 3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub(super) enum CompareTarget {
    Version = 0,
    Create = 1,
    Mod = 2,
    Value = 3,
    Lease = 4,
}

/// One operation of a transaction; a oneof in etcd.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Operation {
    #[prost(message, optional, tag = "1")]
    pub range: Option<RangeRequest>,
    #[prost(message, optional, tag = "2")]
    pub put: Option<PutRequest>,
    #[prost(message, optional, tag = "3")]
    pub delete: Option<DeleteRangeRequest>,
    #[prost(message, optional, boxed, tag = "4")]
    pub txn: Option<Box<TxnRequest>>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct OperationResponse {
    #[prost(message, optional, tag = "1")]
    pub range: Option<RangeResponse>,
    #[prost(message, optional, boxed, tag = "4")]
    pub txn: Option<Box<TxnResponse>>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct LeaseGrantRequest {
    /// Seconds.
    #[prost(int64, tag = "1")]
    pub ttl: i64,
    #[prost(int64, tag = "2")]
    pub id: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct LeaseGrantResponse {
    #[prost(int64, tag = "3")]
    pub ttl: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct LeaseTimeToLiveRequest {
    #[prost(int64, tag = "1")]
    pub id: i64,
    /// Also return the keys.
    #[prost(bool, tag = "2")]
    pub keys: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct LeaseTimeToLiveResponse {
    #[prost(bytes = "vec", repeated, tag = "5")]
    pub keys: Vec<Vec<u8>>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct KeepAliveRequest {
    #[prost(int64, tag = "1")]
    pub id: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct KeepAliveResponse {
    /// Seconds; 0 if the lease does not exist.
    #[prost(int64, tag = "3")]
    pub ttl: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct AuthenticateRequest {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub password: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct AuthenticateResponse {
    #[prost(string, tag = "2")]
    pub token: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct StatusRequest {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StatusResponse {
    #[prost(string, tag = "2")]
    pub version: String,
    /// Bytes of its database.
    #[prost(int64, tag = "3")]
    pub db_size: i64,
    /// Member id of the leader; 0 if there is none.
    #[prost(uint64, tag = "4")]
    pub leader: u64,
    /// Alarms and the like, in words (from 3.4).
    #[prost(string, repeated, tag = "8")]
    pub errors: Vec<String>,
    /// A member that has no vote yet.
    #[prost(bool, tag = "10")]
    pub is_learner: bool,
    /// The most bytes of its database (from 3.6); 0: not told.
    #[prost(int64, tag = "12")]
    pub db_quota: i64,
}

/// In etcd a oneof of create, cancel and progress; on the wire the same as an optional field.
#[derive(Clone, PartialEq, Message)]
pub(super) struct WatchRequest {
    #[prost(message, optional, tag = "1")]
    pub create: Option<WatchCreate>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct WatchCreate {
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub range_end: Vec<u8>,
    #[prost(int64, tag = "3")]
    pub start_revision: i64,
    #[prost(bool, tag = "4")]
    pub progress_notify: bool,
    /// Send each key as it was before the event, too.
    #[prost(bool, tag = "6")]
    pub prev_kv: bool,
    #[prost(bool, tag = "8")]
    pub fragment: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct WatchResponse {
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    #[prost(bool, tag = "3")]
    pub created: bool,
    #[prost(bool, tag = "4")]
    pub canceled: bool,
    /// Set with `canceled` if the start revision is compacted: the oldest kept revision.
    #[prost(int64, tag = "5")]
    pub compact_revision: i64,
    #[prost(string, tag = "6")]
    pub cancel_reason: String,
    /// More parts of this response follow.
    #[prost(bool, tag = "7")]
    pub fragment: bool,
    #[prost(message, repeated, tag = "11")]
    pub events: Vec<WatchEvent>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct WatchEvent {
    #[prost(enumeration = "EventKind", tag = "1")]
    pub kind: i32,
    #[prost(message, optional, tag = "2")]
    pub kv: Option<KeyValue>,
    /// The key before the event, if that was asked for, and is not compacted.
    #[prost(message, optional, tag = "3")]
    pub prev_kv: Option<KeyValue>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub(super) enum EventKind {
    Put = 0,
    Delete = 1,
}
