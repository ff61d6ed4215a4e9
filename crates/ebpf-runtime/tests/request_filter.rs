//! The example of a program type of an embedder's own does what it says, on both engines.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../examples/request_filter.rs"]
#[allow(dead_code, reason = "its main function is not called")]
mod example;

use ebpf_runtime::Engine;
use example::{PROGRAM, Request, RequestFilter, Server};

#[test]
fn requests_are_judged_and_every_exit_is_checked() {
    for engine in [Engine::Interp, Engine::Jit] {
        let filter = RequestFilter::load(PROGRAM, engine).unwrap();
        let server = Server::default();
        let judge = |method: u32, path_len| {
            // Other bits of the flags are not the method's.
            let mut request = Request { path_len, flags: 0xffff_ff0f | method << 4, score: 3 };
            let verdict = filter.judge(&mut request, &server).unwrap();
            (verdict, request.score)
        };
        assert_eq!(judge(1, 20), (2, 40), "{engine:?}");
        assert_eq!(judge(2, 4000), (0, 3), "{engine:?}");
        // Programs see 32 bits of the length.
        assert_eq!(judge(1, 1 << 32 | 7), (2, 14), "{engine:?}");
        // The program returns 9, which is no verdict.
        assert_eq!(judge(3, 7), (0, 3), "{engine:?}");
        assert_eq!((server.entered.get(), server.corrected.get()), (4, 1), "{engine:?}");
        assert_eq!(server.tags.get(), 1 << 5, "{engine:?}");
    }
}

#[test]
fn the_listing_tells_who_wrote_what() {
    let listing = RequestFilter::load(PROGRAM, Engine::Interp).unwrap().listing();
    for line in ["call native#0 ; prologue", "r3 >>= 60 ; ctx", "call native#1 ; epilogue"] {
        assert!(listing.contains(line), "{listing}");
    }
}

#[test]
fn what_the_type_does_not_have_is_rejected() {
    for program in ["r0 = *(u32 *)(r1 +12)\nexit", "*(u32 *)(r1 +0) = 1\nr0 = 0\nexit"] {
        let error = RequestFilter::load(program, Engine::Interp).unwrap_err();
        assert!(error.to_string().contains("invalid bpf_context access"), "{error}");
    }
}
