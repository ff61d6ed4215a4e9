//! Runs a program given as text on a few bytes of memory, checked.

use ebpf_interp::{Links, Memory, Vm};
use ebpf_isa::abi::ExecEnv;
use ebpf_isa::text::assemble;

const SUM: &str = "
    r0 = 0
    r2 = 5
next:
    r3 = *(u8 *)(r1 +0)
    r0 += r3
    r1 += 1
    r2 += -1
    if r2 != 0 goto next
    exit
";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let vm = Vm::new(&assemble(SUM)?, None, &Links::default())?;
    for mut bytes in [vec![1, 2, 3, 4, 5], vec![1, 2, 3]] {
        let mut memory = Memory::new();
        let ctx = memory.add_mut(&mut bytes);
        match vm.run(ctx, &memory, &mut ExecEnv::new()) {
            Ok(sum) => show(&format!("the sum is {sum}"))?,
            Err(trap) => show(&format!("trap: {trap}"))?,
        }
    }
    Ok(())
}

fn show(line: &str) -> std::io::Result<()> {
    use std::io::Write;
    writeln!(std::io::stdout(), "{line}")
}
