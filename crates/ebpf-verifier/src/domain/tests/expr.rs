//! Terms of the theory of bit vectors, as SMT-LIB writes them.
//!
//! Equal terms are one node. Operations on numbers are computed at once, and conditions are
//! simplified as far as it takes to see that both ways of a choice are one.

use core::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;

/// A bit vector or a truth value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Expr {
    /// A number of so many bits.
    Number(u64, u32),
    Truth(bool),
    /// A place in the table of nodes.
    Node(u32),
}

/// `(head arguments...)`, or a variable if there are no arguments. `bits` is 0 for truth values.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Node {
    head: String,
    arguments: Vec<Expr>,
    bits: u32,
}

#[derive(Default)]
struct Nodes {
    all: Vec<Node>,
    places: HashMap<Node, u32>,
}

thread_local! {
    static NODES: RefCell<Nodes> = RefCell::default();
}

fn node(head: &str, arguments: &[Expr], bits: u32) -> Expr {
    NODES.with_borrow_mut(|nodes| {
        let node = Node { head: head.to_string(), arguments: arguments.to_vec(), bits };
        if let Some(&place) = nodes.places.get(&node) {
            return Expr::Node(place);
        }
        let place = u32::try_from(nodes.all.len()).unwrap();
        nodes.all.push(node.clone());
        nodes.places.insert(node, place);
        Expr::Node(place)
    })
}

/// A variable; the same name is the same variable.
pub(super) fn variable(name: &str, bits: u32) -> Expr {
    node(name, &[], bits)
}

/// An operation on bit vectors, of its name in SMT-LIB.
pub(super) fn apply(head: &str, arguments: &[Expr], bits: u32) -> Expr {
    let numbers: Vec<(u64, u32)> = arguments
        .iter()
        .filter_map(|argument| match argument {
            Expr::Number(value, bits) => Some((*value, *bits)),
            _ => None,
        })
        .collect();
    // Extended words may be wider than what we compute with.
    if numbers.len() == arguments.len()
        && bits <= 64
        && let Some(value) = compute(head, &numbers)
    {
        return match bits {
            0 => Expr::Truth(value != 0),
            _ => Expr::Number(value & ones(bits), bits),
        };
    }
    node(head, arguments, bits)
}

fn ones(bits: u32) -> u64 {
    u64::MAX >> (64 - bits)
}

fn compute(head: &str, numbers: &[(u64, u32)]) -> Option<u64> {
    let signed = |(value, bits): (u64, u32)| ((value << (64 - bits)).cast_signed()) >> (64 - bits);
    let (a, b) = (*numbers.first()?, numbers.get(1).copied().unwrap_or((0, 1)));
    Some(match head {
        "bvnot" => !a.0,
        "bvand" => a.0 & b.0,
        "bvor" => a.0 | b.0,
        "bvxor" => a.0 ^ b.0,
        "bvadd" => a.0.wrapping_add(b.0),
        "bvsub" => a.0.wrapping_sub(b.0),
        "bvmul" => a.0.wrapping_mul(b.0),
        "bvshl" if b.0 < 64 => a.0 << b.0,
        "bvlshr" if b.0 < 64 => a.0 >> b.0,
        "bvashr" if b.0 < 64 => (signed(a) >> b.0).cast_unsigned(),
        "=" => u64::from(a.0 == b.0),
        "bvult" => u64::from(a.0 < b.0),
        "bvslt" => u64::from(signed(a) < signed(b)),
        "concat" => a.0 << b.1 | b.0,
        _ => {
            // The only other operations are extractions and extensions.
            let words: Vec<&str> = head.trim_matches(['(', ')']).split(' ').collect();
            match words[..] {
                ["_", "extract", _, low] => a.0 >> low.parse::<u32>().ok()?,
                ["_", "zero_extend", _] => a.0,
                ["_", "sign_extend", _] => signed(a).cast_unsigned(),
                _ => return None,
            }
        }
    })
}

pub(super) fn equal(a: Expr, b: Expr) -> Expr {
    if a == b { Expr::Truth(true) } else { apply("=", &[a, b], 0) }
}

pub(super) fn less(signed: bool, a: Expr, b: Expr) -> Expr {
    match a == b {
        true => Expr::Truth(false),
        false => apply(if signed { "bvslt" } else { "bvult" }, &[a, b], 0),
    }
}

pub(super) fn not(condition: Expr) -> Expr {
    match condition {
        Expr::Truth(truth) => Expr::Truth(!truth),
        _ => negated(condition).unwrap_or_else(|| node("not", &[condition], 0)),
    }
}

/// What a negation negates.
pub(super) fn negated(condition: Expr) -> Option<Expr> {
    let Expr::Node(place) = condition else { return None };
    NODES.with_borrow(|nodes| {
        let node = &nodes.all[place as usize];
        (node.head == "not").then(|| node.arguments[0])
    })
}

/// What the condition is the conjunction of.
pub(super) fn conjuncts(condition: Expr) -> Vec<Expr> {
    let parts = NODES.with_borrow(|nodes| match condition {
        Expr::Node(place) if nodes.all[place as usize].head == "and" => {
            nodes.all[place as usize].arguments.clone()
        }
        _ => vec![],
    });
    match parts.is_empty() {
        true => vec![condition],
        false => parts.into_iter().flat_map(conjuncts).collect(),
    }
}

pub(super) fn both(a: Expr, b: Expr) -> Expr {
    choice(a, b, Expr::Truth(false))
}

/// `then` where the condition holds, `other` elsewhere.
pub(super) fn choice(condition: Expr, then: Expr, other: Expr) -> Expr {
    match (condition, then, other) {
        (Expr::Truth(true), ..) => then,
        (Expr::Truth(false), ..) => other,
        _ if then == other => then,
        (_, Expr::Truth(true), Expr::Truth(false)) => condition,
        (_, Expr::Truth(false), Expr::Truth(true)) => not(condition),
        (_, _, Expr::Truth(false)) => node("and", &[condition, then], 0),
        (_, Expr::Truth(true), _) => node("or", &[condition, other], 0),
        (_, Expr::Truth(false), _) => node("and", &[not(condition), other], 0),
        (_, _, Expr::Truth(true)) => node("or", &[not(condition), then], 0),
        _ => node("ite", &[condition, then, other], bits(then)),
    }
}

/// The first bit vector above the second.
pub(super) fn concat(high: Expr, low: Expr) -> Expr {
    apply("concat", &[high, low], bits(high) + bits(low))
}

fn bits(expr: Expr) -> u32 {
    match expr {
        Expr::Number(_, bits) => bits,
        Expr::Truth(_) => 0,
        Expr::Node(place) => NODES.with_borrow(|nodes| nodes.all[place as usize].bits),
    }
}

/// The commands that assert all of these, with a definition for each node they are made of.
pub(super) fn assertions(asserted: &[Expr]) -> String {
    let mut text = String::new();
    NODES.with_borrow(|nodes| {
        let mut reached = BTreeSet::new();
        let mut open: Vec<Expr> = asserted.to_vec();
        while let Some(expr) = open.pop() {
            if let Expr::Node(place) = expr
                && reached.insert(place)
            {
                open.extend(&nodes.all[place as usize].arguments);
            }
        }
        // Arguments have been made before the nodes they are in.
        for place in reached {
            let Node { head, arguments, bits } = &nodes.all[place as usize];
            let sort = match bits {
                0 => "Bool".to_string(),
                _ => format!("(_ BitVec {bits})"),
            };
            let written = match arguments.is_empty() {
                true => writeln!(
                    text,
                    "(declare-const {head} {sort})\n(define-fun n{place} () {sort} {head})"
                ),
                false => {
                    let arguments: Vec<String> = arguments.iter().map(|&a| name(a)).collect();
                    let arguments = arguments.join(" ");
                    writeln!(text, "(define-fun n{place} () {sort} ({head} {arguments}))")
                }
            };
            written.unwrap();
        }
    });
    for &expr in asserted {
        writeln!(text, "(assert {})", name(expr)).unwrap();
    }
    text
}

fn name(expr: Expr) -> String {
    match expr {
        Expr::Number(value, bits) => format!("(_ bv{value} {bits})"),
        Expr::Truth(truth) => truth.to_string(),
        Expr::Node(place) => format!("n{place}"),
    }
}

#[test]
fn terms_are_written_with_their_parts_defined_first() {
    let (a, b) = (variable("a", 8), variable("b", 8));
    let text = assertions(&[equal(apply("bvadd", &[a, b], 8), Expr::Number(7, 8))]);
    let mut lines = text.lines().map(|line| line.split(' ').next().unwrap());
    assert!(lines.by_ref().take(4).all(|word| word != "(assert"));
    assert!(text.contains("(bvadd n"), "{text}");
    assert!(text.ends_with(")\n") && text.contains("(_ bv7 8)"), "{text}");
}

#[test]
fn numbers_are_computed() {
    let number = |value| Expr::Number(value, 8);
    assert_eq!(apply("bvadd", &[number(200), number(100)], 8), number(44));
    assert_eq!(apply("bvashr", &[number(0x80), number(3)], 8), number(0xf0));
    assert_eq!(apply("(_ sign_extend 8)", &[number(0x80)], 16), Expr::Number(0xff80, 16));
    assert_eq!(apply("(_ extract 7 4)", &[number(0xa5)], 4), Expr::Number(0xa, 4));
    assert_eq!(apply("concat", &[number(1), number(2)], 16), Expr::Number(0x102, 16));
    assert_eq!(less(true, number(0x80), number(0)), Expr::Truth(true));
    assert_eq!(less(false, number(0x80), number(0)), Expr::Truth(false));
}

#[test]
fn choices_between_equals_are_none() {
    let (condition, a) = (variable("c", 0), variable("a", 8));
    assert_eq!(choice(condition, a, a), a);
    assert_eq!(choice(condition, Expr::Truth(true), Expr::Truth(false)), condition);
    assert_eq!(not(not(condition)), condition);
}
