//! The program's entry point. Only calls [`pointsman::program`], so that generic code is compiled once, in the library.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: pointsman_engine::sys::Allocator = pointsman_engine::sys::Allocator;

fn main() -> ExitCode {
    pointsman::program::main()
}
