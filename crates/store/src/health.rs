//! How the members of an etcd cluster do, for people: asked one by one, by their endpoints. Judges nothing.

use crate::error::StoreError;
use crate::etcd2::Etcd2;
use crate::etcd3::{Etcd3, MemberStatus};
use crate::model::{Location, StoreSettings};

/// One endpoint of etcd.
#[derive(Clone, Debug)]
pub struct MemberHealth {
    /// Its URL.
    pub endpoint: String,
    /// What it says of itself, by the v3 API.
    pub status: Result<MemberStatus, StoreError>,
    /// By how many seconds its clock is ahead of ours; negative if it is behind.
    pub ahead: Option<i64>,
}

/// Asks every endpoint; none for a folder. Takes 5 s at most.
///
/// # Errors
/// [`StoreError::BadSettings`].
pub async fn members_health(settings: &StoreSettings) -> Result<Vec<MemberHealth>, StoreError> {
    let Location::Etcd(urls) = &settings.location else { return Ok(Vec::new()) };
    let (v3, v2) = (Etcd3::new(settings)?, Etcd2::new(settings)?);
    let (statuses, clocks) = tokio::join!(v3.statuses(), v2.clocks());
    let all = urls.iter().zip(statuses).zip(clocks);
    Ok(all.map(|((url, status), ahead)| MemberHealth { endpoint: url.clone(), status, ahead }).collect())
}
