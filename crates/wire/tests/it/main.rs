//! The crate as its users see it: raw messages by row, and properties of every input.

#[path = "../../vectors/rows.rs"]
mod rows;

mod fuzz;
mod properties;
mod vectors;
