//! A patcher that carries out one edit at a time on a list of instructions and labels: each edit
//! searches the list from its start and moves what comes after, so it is quadratic. It shares
//! nothing with the crate but the rules.

use std::collections::BTreeMap;

use ebpf_isa::{CallTarget, Insn, LineInfo, Pc, Program, SubprogInfo, WideSource};
use ebpf_patch::{Landing, Target};

/// A place that code can lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Label {
    /// Where calls of the old instruction lead: above all code at it.
    Entry(Pc),
    /// Where jumps to it lead.
    Landing(Pc),
    /// Behind all code at it.
    End(Pc),
    /// Instruction number `.1` of the inserted sequence `.0`; its length for what follows it.
    Local(usize, usize),
}

#[derive(Debug, Clone)]
enum Item {
    Label(Label),
    Insn {
        insn: Insn,
        leads_to: Option<Label>,
        /// The old instruction that it is, or was inserted at.
        origin: Pc,
        /// Whether it is that instruction or the first of its replacement.
        is_origin: bool,
    },
}

/// The edited program as a list.
pub(crate) struct Naive<'p> {
    program: &'p Program,
    items: Vec<Item>,
    sequences: usize,
}

/// What comes out: the program, and by slot the old instruction that it is.
pub(crate) type Outcome = (Program, Vec<Option<Pc>>);

/// The instructions of a sequence, each with its target if it is not an old position.
pub(crate) type Seq = [(Insn, Option<Target>)];

impl<'p> Naive<'p> {
    pub(crate) fn new(program: &'p Program) -> Self {
        let mut items = Vec::new();
        for (pc, insn) in program.insns() {
            items.push(Item::Label(Label::Entry(pc)));
            items.push(Item::Label(Label::Landing(pc)));
            items.push(Item::Insn { insn, leads_to: leads_to(insn), origin: pc, is_origin: true });
            items.push(Item::Label(Label::End(pc)));
        }
        Self { program, items, sequences: 0 }
    }

    pub(crate) fn replace(&mut self, pc: Pc, seq: &Seq) {
        let at = self.find_insn(pc);
        self.items.remove(at);
        self.insert(at, pc, seq, true);
    }

    pub(crate) fn prepend(&mut self, pc: Pc, seq: &Seq, landing: Landing) {
        let at = match landing {
            Landing::Insn => self.find(Label::Landing(pc)),
            Landing::Inserted => self.find_insn(pc),
        };
        // A replacement begins with the label of its sequence.
        let at = if at > 0 && self.is_replacement_label(at, pc) { at - 1 } else { at };
        self.insert(at, pc, seq, false);
    }

    pub(crate) fn append(&mut self, pc: Pc, seq: &Seq) {
        let at = self.find(Label::End(pc));
        self.insert(at, pc, seq, false);
    }

    pub(crate) fn delete(&mut self, pc: Pc) {
        let at = self.find_insn(pc);
        self.items.remove(at);
    }

    fn find(&self, label: Label) -> usize {
        let is_it = |item: &Item| matches!(item, Item::Label(it) if *it == label);
        self.items.iter().position(is_it).expect("it is in the list")
    }

    fn find_insn(&self, pc: Pc) -> usize {
        let is_it = |item: &Item| matches!(item, Item::Insn { origin, is_origin: true, .. } if *origin == pc);
        self.items.iter().position(is_it).expect("it is in the list")
    }

    fn is_replacement_label(&self, at: usize, pc: Pc) -> bool {
        let first =
            matches!(&self.items[at], Item::Insn { origin, is_origin: true, .. } if *origin == pc);
        first && matches!(self.items[at - 1], Item::Label(Label::Local(_, 0)))
    }

    fn insert(&mut self, at: usize, pc: Pc, seq: &Seq, replaces: bool) {
        let number = self.sequences;
        self.sequences += 1;
        let mut new = Vec::new();
        let mut slot = 0;
        let len: u32 = seq.iter().map(|(insn, _)| insn.slots()).sum();
        for &(insn, target) in seq {
            new.push(Item::Label(Label::Local(number, slot)));
            let label = match target {
                None => leads_to(insn),
                Some(Target::Pc(pc)) => Some(Label::Landing(pc)),
                Some(Target::Local(slot)) => Some(Label::Local(number, slot as usize)),
                Some(Target::Next) => Some(Label::Local(number, usize::MAX)),
                Some(Target::Over(slots)) => {
                    let target = slot + 1 + slots as usize;
                    Some(Label::Local(
                        number,
                        if target == len as usize { usize::MAX } else { target },
                    ))
                }
            };
            let is_origin = replaces && slot == 0;
            new.push(Item::Insn { insn, leads_to: label, origin: pc, is_origin });
            slot += insn.slots() as usize;
        }
        new.push(Item::Label(Label::Local(number, usize::MAX)));
        for item in new.into_iter().rev() {
            self.items.insert(at, item);
        }
    }

    /// `None` where the edited program is not sound.
    pub(crate) fn finish(self) -> Option<Outcome> {
        let mut slots = Vec::new();
        let mut olds = Vec::new();
        for (index, item) in self.items.iter().enumerate() {
            let Item::Insn { insn, leads_to, origin, is_origin } = item else { continue };
            let insn = match leads_to {
                Some(label) => lead(*insn, Pc(self.resolve(*label, *origin)?)),
                None => *insn,
            };
            slots.push(Some(insn));
            olds.push(is_origin.then_some(*origin));
            slots.resize(slots.len() + insn.slots() as usize - 1, None);
            olds.resize(slots.len(), None);
            if self.is_last_of_subprog(index, *origin)
                && !matches!(insn, Insn::Exit | Insn::Jump { .. })
            {
                return None;
            }
        }
        let main = self.program.subprogs().first()?;
        let first = self.items.iter().find_map(Item::origin)?;
        if first >= main.end {
            return None;
        }
        let program = Program::new(slots.clone(), self.infos(&slots), self.lines()).ok()?;
        Some((program, olds))
    }

    fn is_last_of_subprog(&self, index: usize, origin: Pc) -> bool {
        let next = self.items[index + 1..].iter().find_map(Item::origin);
        let subprog = self.program.subprog_of(origin);
        next.is_none_or(|next| self.program.subprog_of(next) != subprog)
    }

    /// The slot that `label` is at, for a jump or call at `from`.
    fn resolve(&self, label: Label, from: Pc) -> Option<u32> {
        let at = self.find(label);
        match label {
            Label::Entry(pc) => {
                let (slot, origin) = self.next_insn(at)?;
                let same = self.program.subprog_of(origin) == self.program.subprog_of(pc);
                same.then_some(slot)
            }
            Label::Landing(pc) => {
                let end = self.find(Label::End(pc));
                if self.items[at..end].iter().any(|item| item.origin().is_some()) {
                    return Some(self.next_insn(at)?.0);
                }
                let (next, _) = self.program.insns().find(|(next, _)| *next > pc)?;
                if self.program.subprog_of(next) != self.program.subprog_of(pc) {
                    return None;
                }
                self.resolve(Label::Landing(next), from)
            }
            Label::End(_) | Label::Local(..) => {
                let (slot, origin) = self.next_insn(at)?;
                let same = self.program.subprog_of(origin) == self.program.subprog_of(from);
                same.then_some(slot)
            }
        }
    }

    /// The slot and origin of the first instruction at or behind an item.
    fn next_insn(&self, at: usize) -> Option<(u32, Pc)> {
        let slots = self.items[..at].iter().map(Item::slots).sum();
        Some((slots, self.items[at..].iter().find_map(Item::origin)?))
    }

    /// What is known about the subprograms that are left and referred to.
    fn infos(&self, slots: &[Option<Insn>]) -> BTreeMap<Pc, SubprogInfo> {
        let mut infos = BTreeMap::new();
        for subprog in self.program.subprogs() {
            let Some(start) = self.resolve(Label::Entry(subprog.start), Pc(0)) else { continue };
            let refers = |insn: &Insn| insn.subprog_ref() == Some(Pc(start));
            if start == 0 || slots.iter().flatten().any(refers) {
                infos.insert(Pc(start), subprog.info.clone());
            }
        }
        infos
    }

    /// An entry wherever an instruction's old line is another one than that before it.
    fn lines(&self) -> ebpf_isa::LineTable {
        let old = self.program.lines();
        let mut entries = Vec::new();
        let (mut slot, mut current) = (0, None);
        for item in &self.items {
            if let Some(origin) = item.origin() {
                let line = old.entries().iter().rfind(|line| line.pc <= origin).copied();
                if line != current {
                    entries.extend(line.map(|line| LineInfo { pc: Pc(slot), ..line }));
                    current = line;
                }
            }
            slot += item.slots();
        }
        old.with_entries(entries)
    }
}

impl Item {
    fn origin(&self) -> Option<Pc> {
        match self {
            Self::Insn { origin, .. } => Some(*origin),
            Self::Label(_) => None,
        }
    }

    fn slots(&self) -> u32 {
        match self {
            Self::Insn { insn, .. } => insn.slots(),
            Self::Label(_) => 0,
        }
    }
}

fn leads_to(insn: Insn) -> Option<Label> {
    insn.jump_target().map(Label::Landing).or(insn.subprog_ref().map(Label::Entry))
}

fn lead(mut insn: Insn, to: Pc) -> Insn {
    match &mut insn {
        Insn::Jump { target, .. } | Insn::Branch { target, .. } | Insn::MayGoto { target } => {
            *target = to;
        }
        Insn::Call(CallTarget::Subprog(target))
        | Insn::LoadWide { source: WideSource::Func(target), .. } => *target = to,
        _ => panic!("{insn:?} leads nowhere"),
    }
    insn
}
