//! Listings of whole programs, compiled in several ways. `INSTA_UPDATE=always` rewrites them.

use ebpf_isa::text::assemble;
use ebpf_jit_x86::{Listing, MemoryMode, Options, compile};

/// The ones' complement sum of the 16-bit words between two addresses, folded by a function.
const CHECKSUM: &str = "
checksum:
    r6 = *(u64 *)(r1 +0)
    r7 = *(u64 *)(r1 +8)
    r1 = 0
next:
    if r6 >= r7 goto done
    r2 = *(u16 *)(r6 +0)
    r1 += r2
    r6 += 2
    goto next
done:
    call fold
    r0 ^= 0xffff
    exit
fold:
    r2 = r1
    r2 >>= 16
    r1 &= 0xffff
    r1 += r2
    r0 = r1
    r0 >>= 16
    w0 += w1
    r0 &= 0xffff
    exit
";

/// The port of a UDP packet goes through a map and a helper; rotations and extensions on the way.
const FILTER: &str = "
filter:
    r6 = r1
    r2 = *(u64 *)(r6 +8)
    r1 = *(u64 *)(r6 +0)
    r3 = r1
    r3 += 42
    if r3 > r2 goto pass
    r4 = *(u16 *)(r1 +36)
    r4 = be16 r4
    *(u32 *)(r10 -4) = r4
    r1 = map[0] ll
    r2 = r10
    r2 += -4
    call 1
    if r0 == 0 goto pass
    r1 = *(u32 *)(r0 +0)
    w2 = w1
    w2 <<= 7
    w3 = w1
    w3 >>= 25
    w2 |= w3
    r2 <<= 32
    r2 s>>= 32
    r4 = 1
    lock *(u64 *)(r0 +8) += r4
    r0 = r2
    exit
pass:
    r0 = 2
    exit
";

fn listing(text: &str, options: &Options) -> String {
    let program = assemble(text).expect("the text is a program");
    let image = compile(&program, None, options).expect("nothing unsupported");
    Listing::new(&program, &image).to_string()
}

/// Without the entry and the routines, which are always the same.
fn of_subprograms(listing: &str) -> &str {
    &listing[listing.find("      frame").or(listing.find("   0: ")).expect("a first instruction")..]
}

#[test]
fn checksum() {
    insta::assert_snapshot!(listing(CHECKSUM, &Options::default()));
}

#[test]
fn checksum_with_frame_pointers() {
    insta::assert_snapshot!(listing(CHECKSUM, &Options::default().with_frame_pointers(true)));
}

#[test]
fn checksum_with_fuel() {
    insta::assert_snapshot!(listing(CHECKSUM, &Options::default().with_fuel(true)));
}

#[test]
fn checksum_with_checked_memory() {
    let checked = Options::default().with_memory(MemoryMode::Checked);
    insta::assert_snapshot!(of_subprograms(&listing(CHECKSUM, &checked)));
}

#[test]
fn checksum_with_checked_memory_and_fuel() {
    insta::assert_snapshot!(of_subprograms(&listing(CHECKSUM, &Options::checked())));
}

#[test]
fn checksum_blinded() {
    insta::assert_snapshot!(listing(CHECKSUM, &Options::default().with_blinding([1, 2])));
}

#[test]
fn filter() {
    insta::assert_snapshot!(listing(FILTER, &Options::default()));
}

#[test]
fn filter_with_checked_memory_and_fuel() {
    insta::assert_snapshot!(of_subprograms(&listing(FILTER, &Options::checked())));
}
