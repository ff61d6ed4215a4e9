//! Programs that Linux 6.18 accepts though they are not safe, and that are rejected here.

use ebpf_isa::text::assemble;
use ebpf_verifier::{Environment, ErrorCode, Options, program_types, verify};

/// What decides was fetched by an atomic operation from a slot that holds 0 on one path and 8 on
/// the other. Linux 6.18.44 does not mark the slot, takes the second path for covered by the first
/// one, and so loads a program that stores above its frame.
#[test]
fn what_is_fetched_rests_on_the_slot() {
    let program = assemble(
        "call bpf_get_prandom_u32#7\n\
         r6 = 8\n\
         if r0 == 0 goto on\n\
         r6 = 0\n\
         on:\n\
         *(u64 *)(r10 -16) = r6\n\
         if r0 == 5 goto next\n\
         r7 = 1\n\
         next:\n\
         if r0 == 6 goto last\n\
         r7 = 2\n\
         last:\n\
         r3 = 0\n\
         r4 = 0\n\
         r5 = 0\n\
         r1 = 0\n\
         r1 = atomic64_fetch_add((u64 *)(r10 -16), r1)\n\
         r2 = r10\n\
         r2 += -8\n\
         r2 += r1\n\
         r7 = 0\n\
         *(u64 *)(r2 +0) = r7\n\
         r0 = 0\n\
         exit\n",
    )
    .expect("the program assembles");
    let environment = Environment::new(program_types::xdp());
    let rejection = verify(&program, &environment, &Options::default())
        .expect_err("one path stores above the frame");
    assert_eq!(rejection.code, ErrorCode::StackBounds);
}
