//! Generated filters and those of the fixtures.

use ebpf_classic::seccomp::{Action, SeccompData, SeccompFilter};
use ebpf_classic::{Filter, Packet, Target, text};
use ebpf_testkit::fixtures_dir;
use proptest::prelude::*;

use crate::engines::{Engines, Judge, flat};
use crate::generate::{filter, packet};

fn fixture(name: &str) -> Filter {
    let path = fixtures_dir().join(format!("classic/{name}.c"));
    Filter::new(text::parse(&std::fs::read_to_string(path).unwrap()).unwrap()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Each filter is accepted as XDP and as traffic control, and all engines agree.
    #[test]
    fn converted_filters_do_the_same(filter in filter(), packets in prop::collection::vec(packet(), 8)) {
        let engines = Engines::new(&filter);
        for packet in &packets {
            engines.assert_agree(packet);
        }
    }
}
