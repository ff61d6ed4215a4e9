//! What verdicts have to do with the kernel that gives them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use ebpf_isa::text::assemble;
use ebpf_isa::uapi::{HelperId, ProgramType};
use ebpf_verifier::{
    Environment, ErrorCode, Feature, Features, KernelProfile, Options, TypeHelpers, Version,
    program_types, verify,
};

fn verdict(text: &str, profile: KernelProfile) -> Result<(), ErrorCode> {
    let env = Environment { profile, ..Environment::new(program_types::xdp()) };
    let program = assemble(text).unwrap();
    verify(&program, &env, &Options::default()).map(drop).map_err(|rejection| rejection.code)
}

fn with_processors(processors: u32) -> KernelProfile {
    KernelProfile { processors: Some(processors), ..KernelProfile::default() }
}

fn with_features(features: Features) -> KernelProfile {
    KernelProfile { features, ..KernelProfile::default() }
}

#[test]
fn the_number_of_the_processor_is_bounded() {
    let text = |last: u32| {
        format!(
            "call bpf_get_smp_processor_id#8\nif r0 > {last} goto beyond\nr9 = 0\n\
             beyond:\nr0 = r9\nexit"
        )
    };
    assert_eq!(verdict(&text(3), with_processors(4)), Ok(()));
    assert_eq!(verdict(&text(3), with_processors(5)), Err(ErrorCode::RegisterUninit));
    assert_eq!(verdict(&text(0), with_processors(1)), Ok(()));
    let any = KernelProfile::default();
    assert_eq!(verdict(&text(1 << 20), any), Err(ErrorCode::RegisterUninit));
}

/// Half a pointer is stored at an offset that is 0 or 4. With up to four processors, it is always 0,
/// and at a known offset the kernel sees what is stored.
#[test]
fn what_few_processors_reject_is_rejected_for_any_number() {
    let text = "call bpf_get_smp_processor_id#8\nr0 &= 4\nr1 = r10\nr1 += -32\nr1 += r0\n\
        *(u32 *)(r1 +0) = r10\nr0 = 0\nexit";
    assert_eq!(verdict(text, with_processors(64)), Ok(()));
    assert_eq!(verdict(text, with_processors(4)), Err(ErrorCode::StackSpillSize));
    assert_eq!(verdict(text, KernelProfile::default()), Err(ErrorCode::StackSpillSize));
    let random = text.replace("get_smp_processor_id#8", "get_prandom_u32#7");
    assert_eq!(verdict(&random, KernelProfile::default()), Ok(()));
}

#[test]
fn instructions_that_a_kernel_does_not_know_are_rejected() {
    let v4 = "r0 = 0\ngotol pc+0\nexit";
    assert_eq!(verdict(v4, KernelProfile::default()), Ok(()));
    let old = Features::of(Version::new(6, 5));
    assert_eq!(verdict(v4, with_features(old)), Err(ErrorCode::InsnUnknown));
    assert_eq!(verdict(v4, with_features(old.with(Feature::CpuV4))), Ok(()));
}

#[test]
fn helpers_are_those_of_the_version_or_of_the_list() {
    let text = "call bpf_xdp_get_buff_len#188\nr0 = 0\nexit";
    assert_eq!(verdict(text, KernelProfile::default()), Ok(()));
    let of_version = |major, minor| KernelProfile {
        version: Version::new(major, minor),
        ..KernelProfile::default()
    };
    assert_eq!(verdict(text, of_version(5, 18)), Ok(()));
    assert_eq!(verdict(text, of_version(5, 17)), Err(ErrorCode::HelperNotAllowed));
    let listed = |id| KernelProfile {
        helpers: [TypeHelpers { program_type: ProgramType::Xdp, helpers: [HelperId(id)].into() }]
            .into(),
        ..KernelProfile::default()
    };
    assert_eq!(verdict(text, listed(188)), Ok(()));
    assert_eq!(verdict(text, listed(1)), Err(ErrorCode::HelperNotAllowed));
}

#[test]
fn the_profile_is_part_of_the_digest() {
    let digest = |profile| {
        Environment { profile, ..Environment::new(program_types::xdp()) }.digest().to_bytes()
    };
    let base = digest(KernelProfile::default());
    assert_eq!(base, digest(KernelProfile::default()));
    let newer = KernelProfile { version: Version::new(6, 19), ..KernelProfile::default() };
    for other in [with_processors(2), with_features(Features::NONE), newer] {
        assert_ne!(base, digest(other));
    }
}
