//! Records in the store, beside the balancers' status, which etcd API a prefix uses, so that restarts, edits and agents
//! use the same API as the balancers. Decides nothing.

use tracing::debug;

use crate::error::StoreError;
use crate::etcd2::Etcd2;
use crate::etcd3::Etcd3;
use crate::model::{ASIDE, Api};

/// One of the two APIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    V2,
    V3,
}

impl Choice {
    pub(crate) fn api(self) -> Api {
        match self {
            Self::V2 => Api::V2,
            Self::V3 => Api::V3,
        }
    }

    /// `None` for [`Api::Auto`].
    pub(crate) fn of(api: Api) -> Option<Self> {
        match api {
            Api::Auto => None,
            Api::V2 => Some(Self::V2),
            Api::V3 => Some(Self::V3),
        }
    }

    pub(crate) fn other(self) -> Self {
        match self {
            Self::V2 => Self::V3,
            Self::V3 => Self::V2,
        }
    }

    fn word(self) -> &'static [u8] {
        match self {
            Self::V2 => b"v2",
            Self::V3 => b"v3",
        }
    }
}

/// Both APIs of one etcd.
pub(crate) struct Both {
    pub(crate) v2: Etcd2,
    pub(crate) v3: Etcd3,
    /// The full key of the remembered choice; it is written through the chosen API.
    key: String,
}

impl Both {
    pub(crate) fn new(v2: Etcd2, v3: Etcd3, prefix: &str) -> Self {
        Self { v2, v3, key: format!("{ASIDE}{prefix}/etcd-api") }
    }

    /// The remembered choice. Two contradicting choices count as none, and so does one that we may not read.
    pub(crate) async fn remembered(&self) -> Result<Option<Choice>, StoreError> {
        let (v2, v3) = tokio::join!(self.says(Choice::V2), self.says(Choice::V3));
        Ok(match (v2?, v3?) {
            (true, false) => Some(Choice::V2),
            (false, true) => Some(Choice::V3),
            (true, true) | (false, false) => None,
        })
    }

    /// Remembers the choice. An earlier choice stays, unless this one is the operator's: two balancers that saw their
    /// first key in different APIs must not overwrite each other's choice in turn.
    pub(crate) async fn remember(&self, choice: Choice, by_operator: bool) -> Result<(), StoreError> {
        let is_contrary = self.says(choice.other()).await?;
        if is_contrary && !by_operator {
            return Ok(());
        }
        if !self.says(choice).await? {
            match choice {
                Choice::V2 => self.v2.put(&self.key, choice.word()).await?,
                Choice::V3 => Box::pin(self.v3.put(&self.key, choice.word())).await?,
            };
        }
        if is_contrary {
            match choice {
                Choice::V2 => Box::pin(self.v3.delete(&self.key, false)).await?,
                Choice::V3 => self.v2.delete(&self.key, false).await?,
            };
        }
        Ok(())
    }

    async fn says(&self, choice: Choice) -> Result<bool, StoreError> {
        let value = match choice {
            Choice::V2 => self.v2.get(&self.key).await,
            Choice::V3 => Box::pin(self.v3.get(&self.key)).await,
        };
        match value {
            Err(error) if error.is_denial() => {
                debug!("cannot read {}: {error}", self.key);
                Ok(false)
            }
            value => Ok(value?.is_some_and(|value| value.trim_ascii() == choice.word())),
        }
    }
}
