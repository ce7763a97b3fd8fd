//! Which instance, and a connection to it.

pub(crate) mod checkout;
pub(crate) mod idle;
pub(crate) mod pick;
