//! Programs that Linux 6.18 accepts though they are not safe, and that are rejected here.

mod support;

use ebpf_isa::text::assemble;
use ebpf_isa::uapi::{MapDesc, MapType, ProgramType};
use ebpf_verifier::{
    Environment, ErrorCode, MapInfo, Options, Payload, Unsupported, kernel_verdict, program_types,
    verify,
};
use support::Subject;

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

/// Whether a load-acquire is of the context, Linux 6.18.44 looks up when the pointer has been
/// overwritten, and loads a program that reads the kernel's own context.
#[test]
fn what_is_loaded_from_is_known_before_it_is_overwritten() {
    let context = "r1 = load_acquire((u32 *)(r1 +12))\nr0 = 2\nexit";
    let packet = "r2 = *(u32 *)(r1 +0)\nr3 = *(u32 *)(r1 +4)\nr4 = r2\nr4 += 20\n\
                  if r4 > r3 goto out\nr2 = load_acquire((u32 *)(r2 +2))\nout:\nr0 = 2\nexit";
    for text in [context, packet] {
        let program = assemble(text).expect("it is text");
        let environment = Environment::new(program_types::xdp());
        let rejection = verify(&program, &environment, &Options::default()).expect_err("not known");
        let what = Unsupported::LoadAcquireInPlace;
        assert_eq!(rejection.payload, Payload::Unsupported { what });
    }
}

/// A stack pointer that a called function adds to a number, Linux 6.18.44 takes for one into the
/// main program's frame.
#[test]
fn a_number_does_not_change_the_frame() {
    let text = "call f\nr0 = 0\nexit\nf:\nr3 = 0\nr3 += r10\nr0 = *(u64 *)(r3 -8)\nr0 = 0\nexit";
    let program = assemble(text).expect("it is text");
    let environment = Environment::new(program_types::xdp());
    let rejection = verify(&program, &environment, &Options::default()).expect_err("not known");
    assert_eq!(rejection.payload, Payload::Unsupported { what: Unsupported::NumberPlusFrame });
    // The other way around, and in the main program, it is known.
    for known in [
        text.replace("r3 = 0\nr3 += r10", "r3 = r10\nr4 = 0\nr3 += r4"),
        "r3 = 0\nr3 += r10\nr0 = *(u64 *)(r3 -8)\nr0 = 0\nexit".to_owned(),
    ] {
        let program = assemble(&known).expect("it is text");
        assert!(verify(&program, &environment, &Options::default()).is_ok(), "{known}");
    }
}

/// A number to which a record of a ring buffer is added, Linux 6.18.44 takes for a pointer that has
/// nothing to do with the record, and lets the program write through it when the record is submitted.
#[test]
fn a_sum_ends_with_its_record() {
    let text = "r1 = map[0] ll\nr2 = 16\nr3 = 0\ncall bpf_ringbuf_reserve#131\n\
                if r0 == 0 goto out\nr7 = 8\nr7 += r0\nr1 = r0\nr2 = 0\n\
                call bpf_ringbuf_submit#132\n*(u8 *)(r7 +0) = 1\nout:\nr0 = 0\nexit";
    let program = assemble(text).expect("it is text");
    let mut environment = Environment::new(program_types::xdp());
    let (map_type, max_entries) = (MapType::Ringbuf, 4096);
    let desc = MapDesc { map_type, key_size: 0, value_size: 0, max_entries, flags: 0 };
    environment.maps.push(MapInfo::new("records", desc));
    let options = Options::default();
    let rejection = verify(&program, &environment, &options).expect_err("the record is gone");
    assert_eq!(rejection.payload, Payload::Unsupported { what: Unsupported::ReleasedRecord });
    assert!(kernel_verdict(&program, &environment, &options).is_ok());
}

/// A number that is 0 on the first path and something else on the second one is given as a context
/// that may be missing. Linux 6.18.44 does not mark it, and takes the second path for covered.
#[test]
fn what_may_be_missing_rests_on_being_zero() {
    let text = "r6 = r1\nr9 = *(u32 *)(r6 +0)\nr9 = -r9\nr7 = 0\nif r9 >= 1 goto on\non:\ncall f\nr1 = r9\n\
                call bpf_get_netns_cookie#122\nexit\nf:\nexit";
    let program = assemble(text).expect("it is text");
    let environment = Environment::new(program_types::of(ProgramType::SchedCls).expect("known"));
    let rejection = verify(&program, &environment, &Options::default()).expect_err("no context");
    assert_eq!(rejection.code, ErrorCode::HelperArgument);
    assert!(kernel_verdict(&program, &environment, &Options::default()).is_ok());
}

/// A subprogram may be left at its tail call, before it writes its caller's slot. Linux 6.18.44 takes
/// the slot for written whenever the subprogram returns, the second path for covered by the first
/// one, and so loads a program that stores above its frame.
#[test]
fn a_tail_call_leaves_what_comes_behind_it_undone() {
    let program = "r6 = r1\n\
         call bpf_get_prandom_u32#7\n\
         r7 = 8\n\
         if r0 > 5 goto on\n\
         r7 = 0\n\
         on:\n\
         *(u64 *)(r10 -8) = r7\n\
         r1 = r6\n\
         r2 = r10\n\
         r2 += -8\n\
         call f\n\
         r1 = *(u64 *)(r10 -8)\n\
         r2 = r10\n\
         r2 += -8\n\
         r2 += r1\n\
         *(u64 *)(r2 +0) = 0\n\
         r0 = 0\n\
         exit\n\
         f:\n\
         r6 = r2\n\
         r2 = map[0] ll\n\
         r3 = 0\n\
         call bpf_tail_call#12\n\
         *(u64 *)(r6 +0) = 0\n\
         r0 = 0\n\
         exit\n";
    let env = "map prog_array 4 4 1\nfunction global int\nfunction static int";
    let Subject { program, env, .. } = Subject::new(program, env).expect("it is understood");
    let rejection = verify(&program, &env, &Options::default()).expect_err("one path stores above");
    assert_eq!(rejection.code, ErrorCode::StackBounds);
    kernel_verdict(&program, &env, &Options::default()).expect("the kernel loads it");
}

/// Where a packet load has ended a subprogram, Linux 6.18.44 does not notice that it walks back
/// through another function, and looks there for the registers of the caller: for `r7`, which it does
/// not find (`EFAULT`), or anywhere.
#[test]
fn what_a_decision_rests_on_is_not_looked_for_behind_a_packet_load() {
    let program = "r7 = 8\ncall f\nr3 = r10\nr3 += -16\nr3 += r7\nr0 = 0\nexit\n\
         f:\nr6 = r1\nr0 = *(u8 *)skb[14]\nr0 = 1\nexit";
    let env = "type sched_cls\nfunction global int\nfunction static int";
    let Subject { program, env, .. } = Subject::new(program, env).expect("it is understood");
    let rejection = verify(&program, &env, &Options::default()).expect_err("not known");
    assert_eq!(rejection.payload, Payload::Unsupported { what: Unsupported::PacketLoadReturn });
}

/// One path through the callback stores 100, where another one that has come to its end was kept with
/// 0, and nothing relied on it yet; a third one, explored last, uses what a round before it stored as an
/// offset. Linux 6.18.44 takes the first path for covered, and loads a program that reads above its
/// frame.
#[test]
fn what_a_later_path_of_the_loop_relies_on_is_known_in_the_end() {
    let program = "*(u64 *)(r10 -8) = 0\n*(u64 *)(r10 -16) = 0\nr1 = 100\nr2 = func round ll\n\
         r3 = r10\nr3 += -16\nr4 = 0\ncall bpf_loop#181\nr0 = 0\nexit\n\
         round:\nr6 = r2\ncall bpf_get_prandom_u32#7\nif r0 > 5 goto use\n\
         call bpf_get_prandom_u32#7\nif r0 > 6 goto set\n\
         on:\nr0 = 0\nr0 = 0\nr0 = 0\nr0 = 0\nr0 = 0\nr0 = 0\nr0 = 0\nr0 = 0\nexit\n\
         set:\n*(u64 *)(r6 +0) = 100\ngoto on\n\
         use:\nr1 = *(u64 *)(r6 +0)\nr2 = r10\nr2 += -8\nr2 += r1\nr0 = *(u8 *)(r2 +0)\nr0 = 0\nexit";
    let env = "function global int\nfunction static int";
    let Subject { program, env, .. } = Subject::new(program, env).expect("it is understood");
    let rejection = verify(&program, &env, &Options::default()).expect_err("it reads above");
    assert_eq!(rejection.payload, Payload::Unsupported { what: Unsupported::EarlyEnd });
    kernel_verdict(&program, &env, &Options::default()).expect("the kernel loads it");
}

/// A program that is verified by the kernel, but not here.
fn accepted_by_the_kernel_alone(env: &str, asm: &str, what: Unsupported) {
    let Subject { program, env, .. } = Subject::new(asm, env).expect("it is a program");
    let options = Options::default();
    let rejection = verify(&program, &env, &options).expect_err("not known");
    assert_eq!(rejection.payload, Payload::Unsupported { what });
    assert!(kernel_verdict(&program, &env, &options).is_ok());
}

/// Linux 6.18.44 takes 0 for an argument that is tagged as not null, and lets the function load from it.
#[test]
fn null_is_not_given_where_there_must_be_something() {
    let env = "function global int *void\nfunction global int *u64@nonnull";
    let asm = "r1 = 0\ncall f\nr0 = 2\nexit\nf:\nr0 = *(u64 *)(r1 +0)\nexit";
    accepted_by_the_kernel_alone(env, asm, Unsupported::NullArgument);
}

/// Linux 6.18.44 lets a function write a packet that it is given, though the program may only read it.
#[test]
fn a_packet_that_is_only_read_is_not_given_to_be_written() {
    let env = "type cgroup_skb\nfunction global int *void\nfunction global int *u8@nonnull";
    let asm = "r6 = *(u32 *)(r1 +76)\nr7 = *(u32 *)(r1 +80)\nr1 = r6\nr1 += 1\n\
               if r1 > r7 goto out\nr1 = r6\ncall f\nout:\nr0 = 1\nexit\n\
               f:\n*(u8 *)(r1 +0) = 1\nr0 = 0\nexit";
    accepted_by_the_kernel_alone(env, asm, Unsupported::PacketArgument);
}

/// Linux 6.18.44 has no numbers for elements that callbacks are given, and lets a callback of a callback
/// take the lock of one element and give back that of another.
#[test]
fn locks_of_elements_of_callbacks_are_not_mixed_up() {
    let env = "map hash 4 16 8 lock@4\nfunction global int\nfunction static int\n\
               function static int";
    let asm = "r1 = map[0] ll\nr2 = func outer ll\nr3 = 0\nr4 = 0\n\
               call bpf_for_each_map_elem#164\nr0 = 0\nexit\n\
               outer:\n*(u64 *)(r10 -8) = r3\nr2 = func inner ll\nr3 = r10\nr3 += -8\nr4 = 0\n\
               call bpf_for_each_map_elem#164\nr0 = 0\nexit\n\
               inner:\nr7 = *(u64 *)(r4 +0)\nr1 = r3\nr1 += 4\ncall bpf_spin_lock#93\n\
               r1 = r7\nr1 += 4\ncall bpf_spin_unlock#94\nr0 = 0\nexit";
    accepted_by_the_kernel_alone(env, asm, Unsupported::CallbackLock);
}

/// What is `Unsupported` of a program.
fn unsupported(program: &str, env: &str) -> Unsupported {
    let Subject { program, env, .. } = Subject::new(program, env).expect("it is understood");
    let rejection = verify(&program, &env, &Options::default()).expect_err("it is not supported");
    match rejection.payload {
        Payload::Unsupported { what } => what,
        other => panic!("{other}"),
    }
}

/// A number to which a slice of a record is added, Linux 6.18.44 takes for memory that stays when the
/// record is submitted. The same goes for what an iterator gave.
#[test]
fn a_sum_ends_with_its_dynptr_or_iterator() {
    let record = "r1 = map[0] ll\nr2 = 16\nr3 = 0\nr4 = r10\nr4 += -16\n\
                  call bpf_ringbuf_reserve_dynptr#198\nr1 = r10\nr1 += -16\nr2 = 0\nr3 = 8\n\
                  call bpf_dynptr_data#203\nif r0 == 0 goto out\nr6 = 0\nr6 += r0\nout:\nr1 = r10\n\
                  r1 += -16\nr2 = 0\ncall bpf_ringbuf_submit_dynptr#199\nr0 = 0\nexit";
    let env = "type tracepoint\nmap ringbuf 0 0 4096";
    assert_eq!(unsupported(record, env), Unsupported::NumberPlusSlice);
    let item = "r1 = r10\nr1 += -8\nr2 = 0\nr3 = 8\ncall kfunc#1\nr1 = r10\nr1 += -8\ncall kfunc#2\n\
                if r0 == 0 goto out\nr6 = 0\nr6 += r0\nout:\nr1 = r10\nr1 += -8\ncall kfunc#3\n\
                r0 = 0\nexit";
    assert_eq!(unsupported(item, NUMBERS), Unsupported::NumberPlusSlice);
}

/// The iterators of numbers.
const NUMBERS: &str = "type tracepoint\nkfunc 0 1 bpf_iter_num_new\nkfunc 0 2 bpf_iter_num_next\n\
                       kfunc 0 3 bpf_iter_num_destroy";

/// Linux 6.18.44 takes the frame pointer for the slot below it, and lets the program give the memory
/// above its frame as an iterator.
#[test]
fn an_iterator_is_below_the_frame_pointer() {
    let program =
        "r1 = r10\nr1 += -8\nr2 = 0\nr3 = 8\ncall kfunc#1\nr1 = r10\ncall kfunc#3\nr0 = 0\nexit";
    assert_eq!(unsupported(program, NUMBERS), Unsupported::IterAtFramePointer);
}

/// Linux 6.18.44 does not forget a spilled slice of which a byte is overwritten, and fails (`EFAULT`) when
/// the record is submitted. Of an iterator it forgets the bytes that a store somewhere may hit.
#[test]
fn what_is_overwritten_in_part_is_not_known() {
    let program = "r1 = map[0] ll\nr2 = 16\nr3 = 0\nr4 = r10\nr4 += -16\n\
                   call bpf_ringbuf_reserve_dynptr#198\nr1 = r10\nr1 += -16\nr2 = 0\nr3 = 8\n\
                   call bpf_dynptr_data#203\n*(u64 *)(r10 -24) = r0\n*(u8 *)(r10 -23) = 0\nr0 = 0\nexit";
    let env = "type tracepoint\nmap ringbuf 0 0 4096";
    assert_eq!(unsupported(program, env), Unsupported::SliceOverwritten);
    let program = "call bpf_get_prandom_u32#7\nr0 &= 8\nr6 = r0\nr1 = r10\nr1 += -8\nr2 = 0\nr3 = 8\n\
                   call kfunc#1\nr1 = r10\nr1 += -16\nr1 += r6\n*(u64 *)(r1 +0) = 1\nr0 = 0\nexit";
    assert_eq!(unsupported(program, NUMBERS), Unsupported::IterOverwritten);
}

/// A slice that a kernel function makes of a record, Linux 6.18.44 leaves to the program when the record is
/// submitted; and one to be written may lie in a buffer in the stack, in which something is spilled by then.
#[test]
fn slices_of_kernel_functions_are_not_trusted() {
    let slice = "r1 = r10\nr1 += -16\nr2 = 0\nr3 = 0\nr4 = 8\ncall kfunc#1\nr0 = 0\nexit";
    let record = "r1 = map[0] ll\nr2 = 16\nr3 = 0\nr4 = r10\nr4 += -16\n\
                  call bpf_ringbuf_reserve_dynptr#198\n";
    let env = "type sched_cls\nmap ringbuf 0 0 4096\nkfunc 0 1 bpf_dynptr_slice";
    assert_eq!(unsupported(&format!("{record}{slice}"), env), Unsupported::RecordSlice);
    let packet = "r2 = 0\nr3 = r10\nr3 += -16\ncall kfunc#2\n";
    let buffer = slice.replace("r3 = 0", "r3 = r10\nr3 += -32");
    let env = "type sched_cls\nkfunc 0 1 bpf_dynptr_slice_rdwr\nkfunc 0 2 bpf_dynptr_from_skb";
    assert_eq!(unsupported(&format!("{packet}{buffer}"), env), Unsupported::SliceBuffer);
}

/// Linux 6.18.44 does not mark the size of a slice without a buffer, and takes the path with 4 bytes for
/// covered by that with 8.
#[test]
fn the_size_of_a_slice_matters() {
    let program = "r6 = r1\ncall bpf_get_prandom_u32#7\nr7 = 4\nif r0 == 1 goto on\nr7 = 8\non:\nr1 = r6\n\
                   r2 = 0\nr3 = r10\nr3 += -16\ncall kfunc#2\nr1 = r10\nr1 += -16\nr2 = 0\nr3 = 0\nr4 = r7\n\
                   call kfunc#1\nif r0 == 0 goto out\nr1 = *(u64 *)(r0 +0)\nout:\nr0 = 0\nexit";
    let env = "type sched_cls\nkfunc 0 1 bpf_dynptr_slice\nkfunc 0 2 bpf_dynptr_from_skb";
    let Subject { program, env, .. } = Subject::new(program, env).expect("it is understood");
    let rejection = verify(&program, &env, &Options::default()).expect_err("four bytes are read");
    assert_eq!(rejection.code, ErrorCode::MemoryBounds);
    kernel_verdict(&program, &env, &Options::default()).expect("the kernel loads it");
}

/// A copy of a record's dynptr in the stack of another function, Linux 6.18.44 leaves there when the record
/// is submitted.
#[test]
fn copies_in_other_functions_go_with_the_record() {
    let program = "r1 = map[0] ll\nr2 = 16\nr3 = 0\nr4 = r10\nr4 += -16\n\
                   call bpf_ringbuf_reserve_dynptr#198\nr1 = r10\nr1 += -16\ncall f\nr0 = 0\nexit\n\
                   f:\nr6 = r1\nr2 = r10\nr2 += -16\ncall kfunc#1\nr1 = r6\nr2 = 0\n\
                   call bpf_ringbuf_submit_dynptr#199\nr0 = 0\nexit";
    let env = "type sched_cls\nmap ringbuf 0 0 4096\nfunction global int\nfunction static int *void\n\
               kfunc 0 1 bpf_dynptr_clone";
    assert_eq!(unsupported(program, env), Unsupported::CopiedDynptr);
}

/// For a global function every dynptr that it is given is one of memory, so that Linux 6.18.44 lets it keep a
/// slice of a packet that moves.
#[test]
fn dynptrs_of_packets_are_not_given_to_global_functions() {
    let program = "r2 = 0\nr3 = r10\nr3 += -16\ncall kfunc#2\nr1 = r10\nr1 += -16\ncall f\nr0 = 0\nexit\n\
                   f:\nr0 = 0\nexit";
    let env = "type sched_cls\nfunction global int\nfunction global int *struct:bpf_dynptr:16\n\
               kfunc 0 2 bpf_dynptr_from_skb";
    assert_eq!(unsupported(program, env), Unsupported::PacketDynptr);
}
