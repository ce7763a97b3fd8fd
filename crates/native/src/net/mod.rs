//! Connections, buffers, deadlines and relays: what moves bytes, whatever they mean.

pub(crate) mod buffer;
pub(crate) mod deadline;
pub(crate) mod relay;
pub(crate) mod send;
pub(crate) mod stream;
