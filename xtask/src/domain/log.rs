//! The kernel's log at level 2: registers after instructions.

use std::collections::HashMap;

use ebpf_runtime::isa::{Pc, Reg};

/// The lines of a log that show registers. Of an instruction that is explored more than once, the
/// first time counts.
#[derive(Debug, Default)]
pub(super) struct Log<'t> {
    behind: HashMap<Pc, &'t str>,
    waiting: HashMap<(Pc, Pc), &'t str>,
}

impl<'t> Log<'t> {
    pub(super) fn parse(text: &'t str) -> Self {
        let mut log = Self::default();
        for line in text.lines() {
            if let Some((way, state)) = line.strip_prefix("from ").and_then(|l| l.split_once(": "))
                && let Some((from, to)) = way.split_once(" to ")
                && let (Some(from), Some(to)) = (position(from), position(to))
            {
                log.waiting.entry((from, to)).or_insert(state);
            } else if let Some((at, rest)) = line.split_once(": ")
                && let Some(at) = position(at)
            {
                let state = rest.split_once(" ; ").map(|(_, state)| state);
                if rest.starts_with('(') {
                    log.behind.entry(at).or_insert(state.unwrap_or_default());
                } else if log.behind.get(&at) == Some(&"") {
                    // Something else was said between the instruction and its registers.
                    log.behind.insert(at, rest);
                }
            }
        }
        log
    }

    /// What a register holds behind the instruction, on the way that goes on.
    pub(super) fn behind(&self, at: Pc, reg: Reg) -> Option<String> {
        self.behind.get(&at).and_then(|state| value(state, reg))
    }

    /// What a register holds where the way goes on, to there, that waited here.
    pub(super) fn waiting(&self, from: Pc, to: Pc, reg: Reg) -> Option<String> {
        self.waiting.get(&(from, to)).and_then(|state| value(state, reg))
    }

    /// Whether the instruction was explored.
    pub(super) fn reaches(&self, at: Pc) -> bool {
        self.behind.contains_key(&at)
    }
}

fn position(text: &str) -> Option<Pc> {
    text.parse().ok().map(Pc)
}

/// The register's value in `R0=0 R6=scalar(id=1,umax=4) R10=fp0`, without what ties it to others.
fn value(state: &str, reg: Reg) -> Option<String> {
    let name = format!("R{}=", reg.number());
    let starts = |&at: &usize| at == 0 || state.as_bytes()[at - 1] == b' ';
    let at = state.match_indices(&name).map(|(at, _)| at).find(starts)?;
    let rest = &state[at + name.len()..];
    let mut depth = 0;
    let ends = |byte: u8| {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {}
        }
        byte == b' ' && depth == 0
    };
    let end = rest.bytes().position(ends).unwrap_or(rest.len());
    // `P` marks what was found to matter.
    let text = rest[..end].trim_start_matches('P');
    let Some((before, tied)) = text.split_once("(id=") else {
        return Some(text.to_owned());
    };
    let end = tied.find([',', ')'])?;
    let bounds = tied[end..].trim_start_matches(',');
    Some(format!("{before}({bounds}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
        0: R1=ctx() R10=fp0\n\
        0: (85) call bpf_get_prandom_u32#7      ; R0=scalar()\n\
        1: (bf) r6 = r0                       ; R0=scalar(id=1) R6=scalar(id=1)\n\
        2: (57) r6 &= 7                       ; R6=scalar(smin=0,smax=7,var_off=(0x0; 0x7))\n\
        3: (25) if r6 > 0x3 goto pc+2         ; R6=P2\n\
        4: (b7) r0 = 0\n\
        verifier bug\n\
        4: R0=0 R6=3\n\
        from 3 to 6: R0=0 R6=scalar(id=2,umin=4) R10=fp0\n\
        6: (95) exit\n";

    #[test]
    fn registers_are_found_where_they_are_shown() {
        let log = Log::parse(LOG);
        let behind = |at, reg| log.behind(Pc(at), reg);
        assert_eq!(behind(0, Reg::R0).as_deref(), Some("scalar()"));
        assert_eq!(behind(1, Reg::R6).as_deref(), Some("scalar()"));
        let masked = "scalar(smin=0,smax=7,var_off=(0x0; 0x7))";
        assert_eq!(behind(2, Reg::R6).as_deref(), Some(masked));
        assert_eq!(behind(3, Reg::R6).as_deref(), Some("2"));
        assert_eq!(behind(4, Reg::R6).as_deref(), Some("3"));
        assert_eq!(behind(2, Reg::R0), None);
        assert_eq!(log.waiting(Pc(3), Pc(6), Reg::R6).as_deref(), Some("scalar(umin=4)"));
        assert_eq!(log.waiting(Pc(2), Pc(6), Reg::R6), None);
        assert!(log.reaches(Pc(6)) && !log.reaches(Pc(5)));
    }
}
