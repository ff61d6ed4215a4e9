//! How large `X` can get, computed forward, and so in which regions a load at `X` plus a constant may
//! look. Jumps lead forward only, so one pass over the instructions is enough.

use alloc::vec;
use alloc::vec::Vec;

use ebpf_isa::{AluOp, Size};

use crate::ancillary::{LINK_OFFSET, NETWORK_OFFSET, Place};
use crate::filter::{Cell, ClassicPc, Filter, Insn, Operand};
use crate::op::Var;

/// The length that a packet may have: regions are looked at this far.
const LEN_MAX: u32 = 0xffff;
/// A length is a positive number of 32 bits, whoever says it.
const LEN_BOUND: u32 = i32::MAX as u32;

/// Upper bounds of the registers.
#[derive(Debug, Clone, Copy, Default)]
struct Bounds {
    a: u32,
    x: u32,
}

impl Bounds {
    fn join(self, other: Self) -> Self {
        Self { a: self.a.max(other.a), x: self.x.max(other.x) }
    }

    fn of(self, operand: Operand) -> u32 {
        match operand {
            Operand::Imm(value) => value,
            Operand::X => self.x,
        }
    }

    fn set(&mut self, var: Var, max: u32) {
        match var {
            Var::A => self.a = max,
            Var::X => self.x = max,
        }
    }
}

/// The largest value of `X` before each instruction of a filter.
#[derive(Debug)]
pub(crate) struct Ranges(Vec<u32>);

impl Ranges {
    pub(crate) fn new(filter: &Filter) -> Self {
        let asks = |insn: &Insn| matches!(insn, Insn::LoadInd { .. });
        if !filter.insns().iter().any(asks) {
            return Self(Vec::new());
        }
        // Both registers are 0 at the entry, which is also what nothing else leads to begins with.
        let mut before = vec![Bounds::default(); filter.insns().len()];
        // What is stored before a load, on whatever way, is stored in front of it.
        let mut cells = [0; Cell::COUNT];
        for (pc, insn) in filter.iter() {
            let mut after = before[pc.index()];
            let mut enter = |to: usize, bounds| before[to] = before[to].join(bounds);
            match insn {
                Insn::Jump(to) => enter(to.index(), after),
                Insn::Branch { yes, no, .. } => {
                    [yes, no].iter().for_each(|to| enter(to.index(), after));
                }
                Insn::RetImm(_) | Insn::RetA => {}
                _ => {
                    step(insn, &mut after, &mut cells);
                    enter(pc.index() + 1, after);
                }
            }
        }
        Self(before.iter().map(|bounds| bounds.x).collect())
    }

    /// Where the load at `X + off` may look.
    pub(crate) fn regions(&self, pc: ClassicPc, off: u32) -> Regions {
        let x_max = self.0[pc.index()];
        let may_reach = |start| {
            let begins_inside = off.wrapping_sub(start) <= LEN_MAX;
            begins_inside || start.wrapping_sub(off) <= x_max
        };
        Regions {
            data: may_reach(0),
            link: may_reach(LINK_OFFSET),
            network: may_reach(NETWORK_OFFSET),
        }
    }
}

/// Where a load may find bytes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Regions {
    /// From the start of the packet.
    pub(crate) data: bool,
    /// From its link-layer header.
    pub(crate) link: bool,
    /// From its network header.
    pub(crate) network: bool,
}

impl Regions {
    /// Those of a load at a constant.
    pub(crate) const fn of(place: Place) -> Self {
        Self {
            data: matches!(place, Place::Data(_)),
            link: matches!(place, Place::Link(_)),
            network: matches!(place, Place::Network(_)),
        }
    }
}

/// What an instruction that goes on behind itself does to the bounds.
fn step(insn: Insn, bounds: &mut Bounds, cells: &mut [u32; Cell::COUNT]) {
    match insn {
        Insn::LoadAbs { size, .. } | Insn::LoadInd { size, .. } => bounds.a = largest(size),
        Insn::LoadMsh { .. } => bounds.x = 0xf * 4,
        Insn::LoadAncillary(_) | Insn::Neg => bounds.a = u32::MAX,
        Insn::LoadImm(var, value) => bounds.set(var, value),
        Insn::LoadLen(var) => bounds.set(var, LEN_BOUND),
        Insn::LoadMem(var, cell) => bounds.set(var, cells[cell.index()]),
        Insn::Store(var, cell) => {
            let value = match var {
                Var::A => bounds.a,
                Var::X => bounds.x,
            };
            let bound = &mut cells[cell.index()];
            *bound = (*bound).max(value);
        }
        Insn::Alu(op, operand) => bounds.a = alu(op, bounds.a, operand, bounds.of(operand)),
        Insn::Tax => bounds.x = bounds.a,
        Insn::Txa => bounds.a = bounds.x,
        Insn::Jump(_) | Insn::Branch { .. } | Insn::RetImm(_) | Insn::RetA => {}
    }
}

const fn largest(size: Size) -> u32 {
    match size {
        Size::B => u8::MAX as u32,
        Size::H => u16::MAX as u32,
        Size::W | Size::Dw => u32::MAX,
    }
}

/// The bound of `a op operand`, where `b` is that of the operand.
fn alu(op: AluOp, a: u32, operand: Operand, b: u32) -> u32 {
    match (op, operand) {
        (AluOp::Add, _) => a.saturating_add(b),
        (AluOp::Mul, _) => a.saturating_mul(b),
        (AluOp::And, _) => a.min(b),
        // All bits up to the highest of either.
        (AluOp::Or | AluOp::Xor, _) => u32::MAX.checked_shr((a | b).leading_zeros()).unwrap_or(0),
        (AluOp::Div, Operand::Imm(by)) => a / by.max(1),
        (AluOp::Mod, _) => a.min(b.saturating_sub(1)),
        (AluOp::Rsh, Operand::Imm(by)) => a >> by,
        (AluOp::Div | AluOp::Rsh, Operand::X) => a,
        (AluOp::Lsh, Operand::Imm(by)) if by <= a.leading_zeros() => a << by,
        _ => u32::MAX,
    }
}

impl Filter {
    /// The first load that counts from the network or link-layer header: by its constant, or, as far
    /// as can be told, by some value of `X`. Machines that know no headers cannot run the filter.
    ///
    /// ```
    /// use ebpf_classic::{ClassicPc, Filter, text};
    ///
    /// let first = |text| Filter::new(text::parse(text).unwrap()).unwrap().first_header_load();
    /// assert_eq!(first("ldx 4*([14]&0xf)\nldh [x + 16]\nret a"), None);
    /// assert_eq!(first("ld [0]\ntax\nldh [x + 16]\nret a"), Some(ClassicPc(2)));
    /// ```
    #[must_use]
    pub fn first_header_load(&self) -> Option<ClassicPc> {
        let ranges = Ranges::new(self);
        let counts = |&(pc, insn): &(ClassicPc, Insn)| {
            let regions = match insn {
                Insn::LoadAbs { place, .. } | Insn::LoadMsh { place } => Regions::of(place),
                Insn::LoadInd { off, .. } => ranges.regions(pc, off),
                _ => return false,
            };
            regions.link || regions.network
        };
        self.iter().find(counts).map(|(pc, _)| pc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text;

    /// The regions of the last load at `X`.
    #[track_caller]
    fn regions(source: &str) -> [bool; 3] {
        let filter = Filter::new(text::parse(source).unwrap()).unwrap();
        let ranges = Ranges::new(&filter);
        let load = |(pc, insn)| match insn {
            Insn::LoadInd { off, .. } => Some(ranges.regions(pc, off)),
            _ => None,
        };
        let Regions { data, link, network } = filter.iter().rev().find_map(load).unwrap();
        [data, link, network]
    }

    const DATA: [bool; 3] = [true, false, false];
    const LINK: [bool; 3] = [false, true, false];
    const NETWORK: [bool; 3] = [false, false, true];

    #[test]
    fn header_lengths_stay_in_their_region() {
        for (off, expected) in [
            ("14", DATA),
            ("0xffff", DATA),
            ("0x80000000", [false; 3]),
            ("0xffe00000", LINK),
            ("0xfff00000", NETWORK),
            ("0xffefffc3", [false; 3]),
            ("0xffefffc4", NETWORK),
            ("0xffffffc3", [false; 3]),
            ("0xffffffc4", DATA),
        ] {
            assert_eq!(
                regions(&format!("ldx 4*([14]&0xf)\nldb [x + {off}]\nret a")),
                expected,
                "{off}"
            );
        }
    }

    #[test]
    fn any_number_leads_anywhere() {
        for source in ["ld [0]\ntax", "ld #-3\nsub #4\ntax", "ld #1\nlsh x\ntax", "ld #cpu\ntax"] {
            assert_eq!(regions(&format!("{source}\nldb [x + 3]\nret a")), [true; 3], "{source}");
        }
    }

    /// Each gives at most 0xfffff, which `X + 0xffdf0000` must not exceed to stay outside.
    #[test]
    fn operations_have_bounds() {
        let at = |source: &str| regions(&format!("{source}\ntax\nldb [x + 0xffd00000]\nret a"));
        for source in [
            "ldh [0]\nmul #16\nadd #15",
            "ldb [0]\nlsh #12",
            "ld [0]\nand #0xfffff",
            "ld [0]\nrsh #12",
            "ld [0]\ndiv #0x1000",
            "ld [0]\nmod #0x100000",
            "ldh [0]\nor #0x80000",
            "ldh [0]\nxor #0x80000",
            "ldh [0]\nst M[1]\nldb [0]\nst M[1]\nld M[1]",
        ] {
            assert_eq!(at(source), [false; 3], "{source}");
        }
        assert_eq!(at("ld [0]\nand #0x100000"), LINK);
        // Whichever way was taken.
        assert_eq!(at("ldb [0]\njeq #1, on\nld #0x100000\non: add #0"), LINK);
    }

    #[test]
    fn the_length_is_positive() {
        assert_eq!(regions("ldx #len\nldb [x + -4]\nret a"), DATA);
    }
}
