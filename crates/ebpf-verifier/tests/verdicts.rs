//! Every program of `fixtures/verify` gets the verdict that the kernel gave it.

mod support;

use ebpf_isa::text::assemble;
use ebpf_testkit::{Fixture, Verdict, for_each_fixture};
use ebpf_verifier::{Options, verify};

#[test]
fn verdicts_are_those_of_the_kernel() {
    for_each_fixture("verify", check);
}

fn check(fixture: &Fixture) -> Result<(), String> {
    let expected = fixture.verdict().ok_or("no verdict section")?;
    let asm = fixture.section("asm").ok_or("no asm section")?;
    let program = assemble(asm).map_err(|error| error.to_string())?;
    let env = support::parse_env(fixture.section("env").unwrap_or_default())?;
    let actual = match verify(&program, &env, &Options::default()) {
        Ok(_) => Verdict::Accept,
        Err(rejection) => Verdict::Reject {
            errno: rejection.errno_name().to_owned(),
            message: rejection.message.clone(),
        },
    };
    if &actual == expected {
        return Ok(());
    }
    Err(format!("the kernel says {expected:?}, this verifier {actual:?}"))
}
