//! The program's entry point. Only calls [`pointsman::program`], so that generic code is compiled once, in the library.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    pointsman::program::main()
}
