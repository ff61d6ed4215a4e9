//! Native functions that programs call: what stands behind helpers, kernel functions and the functions
//! that only hooks know. [`native!`](crate::native!) defines them.

#![allow(unsafe_code, reason = "native functions get the environment of a run by address")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use ebpf_isa::Pc;
use ebpf_isa::abi::{ExecEnv, Trap, TrapKind};

/// Defines native functions ([`HelperFn`](ebpf_isa::abi::HelperFn)). Each is written with the
/// arguments that it uses, at most five, and the environment of the run ([`ExecEnv`]) if it uses that.
/// A panic in its body ends the run with the trap
/// [`TrapKind::Helper`](ebpf_isa::abi::TrapKind::Helper).
///
/// ```
/// use ebpf_runtime::isa::abi::HelperFn;
///
/// ebpf_runtime::native! {
///     /// In grams.
///     fn weigh(apples: u64, pears: u64) -> u64 {
///         apples * 150 + pears * 180
///     }
///
///     /// The slot of the run in per-CPU maps.
///     fn slot(env: *mut ExecEnv) -> u64 {
///         // SAFETY: engines pass the environment of the run.
///         u64::from(unsafe { (*env).cpu_slot })
///     }
/// }
/// let functions: [HelperFn; 2] = [weigh, slot];
/// ```
///
/// The functions are unsafe to call: what they may trust is what their prototypes say, which the
/// verifier checks.
#[macro_export]
macro_rules! native {
    ($(
        $(#[$attribute:meta])*
        $vis:vis fn $name:ident $args:tt -> u64 $body:block
    )+) => {$(
        $crate::native! { @args $args [] [$(#[$attribute])* $vis fn $name] $body }
    )+};
    (@args ($arg:tt: u64 $(, $($rest:tt)*)?) [$($args:tt)*] $head:tt $body:block) => {
        $crate::native! { @args ($($($rest)*)?) [$($args)* $arg] $head $body }
    };
    (@args ($env:ident: *mut ExecEnv) [$($args:tt)*] $head:tt $body:block) => {
        $crate::native! { @define [$($args)* _ _ _ _ _] $env $head $body }
    };
    (@args () [$($args:tt)*] $head:tt $body:block) => {
        $crate::native! { @define [$($args)* _ _ _ _ _] env $head $body }
    };
    (
        @define [$a:tt $b:tt $c:tt $d:tt $e:tt $(_)*] $env:ident
        [$(#[$attribute:meta])* $vis:vis fn $name:ident] $body:block
    ) => {
        $(#[$attribute])*
        $vis unsafe extern "sysv64" fn $name(
            $a: u64, $b: u64, $c: u64, $d: u64, $e: u64,
            $env: *mut $crate::isa::abi::ExecEnv,
        ) -> u64 {
            let body = || $body;
            // SAFETY: engines pass the environment of the run.
            unsafe { $crate::native::guarded($env, body) }
        }
    };
}

/// Runs the body of a native function; a panic becomes a trap, and the program gets 0.
///
/// # Safety
/// `env` is the environment of a run, which outlives the call.
#[doc(hidden)]
pub unsafe fn guarded(env: *mut ExecEnv, body: impl FnOnce() -> u64) -> u64 {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| {
        let trap = Trap { kind: TrapKind::Helper, pc: Pc::ENTRY, addr: 0 };
        // SAFETY: the caller's promise.
        unsafe { (*env).trap = trap.into() };
        0
    })
}
