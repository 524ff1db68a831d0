//! Any sequence of operations, with any policy and budget, against a map with a clock. What fails is made as short as
//! it gets. The same operations are a fuzz target.

mod model;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { ProptestConfig::default().cases },
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_shard_returns_what_a_map_does(
        policy in 0_u8..9,
        mib in 0_u8..5,
        operations in prop::collection::vec(any::<[u8; 6]>(), 0..if cfg!(miri) { 50 } else { 4_000 }),
    ) {
        model::check(&[&[policy, mib][..], operations.as_flattened()].concat());
    }

    /// Values are large, and most operations store: the budget is used up many times.
    #[test]
    fn a_full_shard_returns_what_a_map_does_or_nothing(
        policy in 0_u8..9,
        mib in 1_u8..3,
        operations in prop::collection::vec((0_u8..9, any::<[u8; 2]>(), 200_u8..244, any::<[u8; 2]>()), 1_000..4_000),
    ) {
        let operation = |(kind, [high, low], len, [fill, time]): &(u8, [u8; 2], u8, [u8; 2])| {
            [*kind, *high, *low, *len, *fill, *time]
        };
        let operations: Vec<[u8; 6]> = operations.iter().map(operation).collect();
        model::check(&[&[policy, mib][..], operations.as_flattened()].concat());
    }
}
