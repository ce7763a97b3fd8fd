//! Keeps keys in the store under a lease, for as long as somebody wants them there.

mod wanted;

pub use wanted::Wanted;
