//! What each member of etcd says of itself by the v3 API. Judges nothing.

use futures_util::future::join_all;

use super::client::Client;
use super::messages::StatusResponse;
use super::store::Etcd3;
use crate::error::StoreError;

/// What a member says of itself: `Maintenance/Status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// `3.5.16`.
    pub version: String,
    /// Whether its cluster has a leader.
    pub has_leader: bool,
    /// Bytes of its database.
    pub size: u64,
    /// The most bytes of its database, if it tells (from 3.6).
    pub quota: Option<u64>,
    /// Its alarms and errors, in its words: `memberID:1 alarm:NOSPACE` (from 3.4).
    pub errors: Vec<String>,
    /// Whether it has no vote yet.
    pub is_learner: bool,
}

impl From<StatusResponse> for MemberStatus {
    fn from(status: StatusResponse) -> Self {
        let bytes = |count: i64| u64::try_from(count).unwrap_or_default();
        Self {
            version: status.version,
            has_leader: status.leader != 0,
            size: bytes(status.db_size),
            quota: Some(bytes(status.db_quota)).filter(|quota| *quota > 0),
            errors: status.errors,
            is_learner: status.is_learner,
        }
    }
}

impl Etcd3 {
    /// The status of each endpoint, in their order; asked at the same time. Each answer has a deadline of 5 s.
    pub async fn statuses(&self) -> Vec<Result<MemberStatus, StoreError>> {
        join_all(self.endpoints.iter().map(async |endpoint| Ok(Client::status(endpoint).await?.into()))).await
    }
}
