//! What we ship, used as users do: the images, the Debian package, the units.
//!
//! Each test needs programs or rights that a machine may lack. If so, it prints `SKIPPED` and the reason.

mod compose;
mod docker;
mod image;
mod package;
mod root;
mod service;
mod support;
mod units;
