//! What is handed out, used as its users do: the images, the Debian package, the units.
//!
//! Each needs programs or rights that a machine may lack. Where one does, its tests say `SKIPPED` and why.

mod compose;
mod docker;
mod image;
mod package;
mod root;
mod service;
mod support;
mod units;
