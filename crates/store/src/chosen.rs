//! A store with a decided API.

use crate::directory::Directory;
use crate::etcd2::Etcd2;
use crate::etcd3::Etcd3;

/// Which store it is.
pub(crate) enum Chosen<'a> {
    Etcd2(&'a Etcd2),
    Etcd3(&'a Etcd3),
    Directory(&'a Directory),
}
