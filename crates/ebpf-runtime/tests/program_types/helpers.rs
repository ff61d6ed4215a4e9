//! Which helpers programs may call.

use ebpf_isa::uapi::HelperId;

use super::{compare, is_linux_6_18, kinds, none};

/// No argument is initialised, so that the answer tells whether the call is allowed at all, and
/// whether the helper takes arguments.
#[test]
fn helpers_are_allowed_as_by_the_kernel() {
    if !is_linux_6_18() {
        return;
    }
    let ids: Vec<HelperId> = (1..).map(HelperId).take_while(|id| id.name().is_some()).collect();
    let mut differences = Vec::new();
    for kind in kinds() {
        let calls = ids.iter().map(|id| format!("r1 = r2\ncall {id}\nr0 = 1\nexit"));
        let calls = calls.map(|asm| asm.replace("r1 = r2\n", ""));
        compare(kind, calls, &mut differences);
    }
    none(&differences);
}
