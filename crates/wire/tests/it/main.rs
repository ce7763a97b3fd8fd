//! Tests of the crate's public API: raw messages, one per row, and properties of every input.

#[path = "../../vectors/rows.rs"]
mod rows;

mod fuzz;
mod http2;
mod properties;
mod proxy;
mod vectors;
