//! Calls of kernel functions: modules, their digest, and the rules of calls.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;

use ebpf_verifier::{
    Environment, KfuncArg, KfuncProto, KfuncRet, Module, ObjectType, program_types,
};

fn xdp() -> Environment {
    Environment::new(program_types::xdp())
}

#[test]
fn prototypes_of_kernel_functions_change_the_digest() {
    let digest = |name, index, functions: &[KfuncProto]| {
        let mut env = xdp();
        let module = Module::new(name, functions.to_vec()).unwrap();
        env.modules.insert(index, &Arc::new(module)).unwrap();
        env.digest()
    };
    let ty = ObjectType::new("object");
    let base = || KfuncProto::new(1, "f").args([KfuncArg::object(&ty)]);
    let digests = [
        xdp().digest(),
        digest("m", 1, &[]),
        digest("m", 1, &[base()]),
        digest("m", 2, &[base()]),
        digest("other", 1, &[base()]),
        digest("m", 1, &[KfuncProto { btf_id: 2, ..base() }]),
        digest("m", 1, &[KfuncProto { name: "g".into(), ..base() }]),
        digest("m", 1, &[base().args([KfuncArg::object(&ty).or_null()])]),
        digest("m", 1, &[base().args([KfuncArg::memory(8)])]),
        digest("m", 1, &[base().args([KfuncArg::memory(9)])]),
        digest("m", 1, &[base().args([KfuncArg::object(&ty), KfuncArg::object(&ty)])]),
        digest(
            "m",
            1,
            &[base().args([ty.clone(), ObjectType::new("object")].map(|ty| KfuncArg::object(&ty)))],
        ),
        digest("m", 1, &[base().returns(KfuncRet::Void)]),
        digest("m", 1, &[base().returns(KfuncRet::Object(ty.clone()))]),
        digest("m", 1, &[base().acquires(&ty)]),
        digest("m", 1, &[base().acquires(&ty).or_null()]),
        digest("m", 1, &[base().releases()]),
        digest("m", 1, &[base().trusted_args()]),
    ];
    for (index, digest) in digests.iter().enumerate() {
        assert!(!digests[..index].contains(digest), "{index}");
    }
    // Types made anew each time, in the same places, make no difference.
    let again = KfuncProto::new(1, "f").args([KfuncArg::object(&ObjectType::new("object"))]);
    assert_eq!(digest("m", 1, &[again]), digests[2]);
}
