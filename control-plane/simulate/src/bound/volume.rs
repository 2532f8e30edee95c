//! Volume over time: at no instant may less be sold than is in use.

use crate::amounts::{Amounts, DIMENSIONS};
use crate::bound::configuration;
use crate::trace::Trace;

/// The least number of identical nodes that can host a trace: the larger of the volume of each dimension at each instant and
/// the configuration bound at the instants where one of them peaks.
#[must_use]
pub fn nodes_at_least(trace: &Trace, capacity: Amounts) -> u32 {
    let mut events: Vec<(f64, bool, usize)> = Vec::with_capacity(trace.arrivals.len() * 2);
    for (index, arrival) in trace.arrivals.iter().enumerate() {
        events.push((arrival.at, true, index));
        if arrival.until.is_finite() {
            events.push((arrival.until, false, index));
        }
    }
    events.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let weights: [f64; DIMENSIONS] =
        std::array::from_fn(|d| if capacity.0[d] == 0 { 0.0 } else { 1.0 / f64::from(capacity.0[d]) });
    let mut counts = vec![0u32; trace.flavours.len()];
    let mut used = [0.0f64; DIMENSIONS];
    // The peaks of each dimension, and of all together.
    let mut peaks = vec![(0.0f64, counts.clone()); DIMENSIONS + 1];
    for (_, arrives, index) in events {
        let arrival = &trace.arrivals[index];
        let flavour = usize::try_from(arrival.flavour).unwrap_or(0);
        let sign = if arrives { 1.0 } else { -1.0 };
        for d in 0..DIMENSIONS {
            used[d] += sign * f64::from(arrival.amounts.0[d]) * weights[d];
        }
        if arrives {
            counts[flavour] += 1
        } else {
            counts[flavour] -= 1
        }
        let all: f64 = used.iter().sum();
        for (peak, level) in peaks.iter_mut().zip(used.iter().copied().chain([all])) {
            if level > peak.0 {
                peak.0 = level;
                peak.1.clone_from(&counts);
            }
        }
    }
    let volume = peaks[..DIMENSIONS].iter().map(|peak| peak.0).fold(0.0, f64::max);
    let configurations = peaks.iter().map(|peak| configuration::nodes_at_least(capacity, &trace.flavours, &peak.1));
    let bound = configurations.fold(volume, f64::max);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of nodes")]
    let nodes = (bound - 1e-6).ceil() as u32;
    nodes
}
