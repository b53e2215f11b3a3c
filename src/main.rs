//! The `siod` binary: arguments in, exit code out, and the one thing that safe Rust cannot ask for.

use std::process::ExitCode;

fn main() -> ExitCode {
    siod::cli::run(std::env::args_os(), give_memory_back)
}

/// Gives pages that nothing lies on any more back to the system. glibc does so by itself only at the end of its heap, and
/// there something small always lives on.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn give_memory_back() {
    // SAFETY: it takes a number, touches nothing that is in use, and any thread may call it at any time (malloc_trim(3)).
    #[expect(
        unsafe_code,
        reason = "no other call has glibc do this, and no allocator that does it by itself was as small"
    )]
    let _gave_some = unsafe { libc::malloc_trim(0) };
}

/// Other allocators are left to do it their own way.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn give_memory_back() {}
