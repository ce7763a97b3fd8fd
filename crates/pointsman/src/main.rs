//! The program. Does nothing but call [`pointsman::program`]: what is made of generic code is made once, in the library.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    pointsman::program::main()
}
