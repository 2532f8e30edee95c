//! Nodes by free processors and memory: where every order has other amounts, the best fit without a look at every node.
//!
//! Exact for the sum of the shares of processors and memory that would be left: a node with more free processors can only
//! win by memory, so the search ends where the processors alone are worse than the best so far.

use crate::amounts::{Amounts, GPU, MEMORY, VCPU};
use crate::fleet::{Fleet, NodeIndex};

/// The nodes of one capacity.
struct Shape {
    capacity: Amounts,
    /// By free processors: free memory and index, sorted.
    by_vcpu: Vec<Vec<(u32, u32)>>,
}

/// All nodes that are up, by shape and room.
pub(super) struct Ordered {
    shapes: Vec<Shape>,
    shape: Vec<u32>,
    /// Under what each node stands, when it is up.
    keys: Vec<Option<(u32, u32)>>,
}

impl Ordered {
    pub(super) fn new(fleet: &Fleet) -> Self {
        let count = fleet.nodes().len();
        let mut ordered = Self { shapes: Vec::new(), shape: Vec::with_capacity(count), keys: vec![None; count] };
        for node in fleet.nodes() {
            let known = ordered.shapes.iter().position(|shape| shape.capacity == node.capacity);
            let shape = known.unwrap_or_else(|| {
                let vcpus = usize::try_from(node.capacity.0[VCPU]).unwrap_or(0);
                ordered.shapes.push(Shape { capacity: node.capacity, by_vcpu: vec![Vec::new(); vcpus + 1] });
                ordered.shapes.len() - 1
            });
            ordered.shape.push(u32::try_from(shape).unwrap_or(0));
        }
        (0..count).for_each(|index| ordered.changed(index, fleet.node(index).up, fleet.node(index).free));
        ordered
    }

    /// A node's room has changed, or it went or came.
    pub(super) fn changed(&mut self, index: NodeIndex, up: bool, free: Amounts) {
        let node = u32::try_from(index).unwrap_or(u32::MAX);
        let shape = &mut self.shapes[wide(self.shape[index])];
        if let Some((vcpu, memory)) = self.keys[index].take() {
            let bucket = &mut shape.by_vcpu[wide(vcpu)];
            if let Ok(position) = bucket.binary_search(&(memory, node)) {
                bucket.remove(position);
            }
        }
        if up {
            let (vcpu, memory) = (free.0[VCPU], free.0[MEMORY]);
            let bucket = &mut shape.by_vcpu[wide(vcpu)];
            if let Err(position) = bucket.binary_search(&(memory, node)) {
                bucket.insert(position, (memory, node));
            }
            self.keys[index] = Some((vcpu, memory));
        }
    }

    /// The best fit; nodes with GPUs only for orders that need one, or when no other has room.
    pub(super) fn best(&self, fleet: &Fleet, amounts: Amounts) -> Option<NodeIndex> {
        let with = |gpus: bool| {
            let shapes = self.shapes.iter().filter(|shape| (shape.capacity.0[GPU] > 0) == gpus);
            let fits = shapes.filter_map(|shape| shape.best(fleet, amounts));
            fits.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, node)| node)
        };
        if amounts.0[GPU] > 0 { with(true) } else { with(false).or_else(|| with(true)) }
    }
}

impl Shape {
    fn best(&self, fleet: &Fleet, amounts: Amounts) -> Option<(f64, NodeIndex)> {
        let per = |d: usize| 1.0 / f64::from(self.capacity.0[d].max(1));
        let (per_vcpu, per_memory) = (per(VCPU), per(MEMORY));
        let mut best: Option<(f64, NodeIndex)> = None;
        let first = wide(amounts.0[VCPU]);
        let buckets = self.by_vcpu.get(first..).unwrap_or_default();
        let mut vcpu_left = 0.0;
        for bucket in buckets {
            if best.is_some_and(|(least, _)| vcpu_left >= least) {
                break;
            }
            let from = bucket.partition_point(|(memory, _)| *memory < amounts.0[MEMORY]);
            let fit = bucket[from..].iter().find(|(_, node)| fleet.takes(wide(*node), amounts));
            if let Some((memory, node)) = fit {
                let score = vcpu_left + f64::from(memory - amounts.0[MEMORY]) * per_memory;
                if best.is_none_or(|(least, _)| score < least) {
                    best = Some((score, wide(*node)));
                }
            }
            vcpu_left += per_vcpu;
        }
        best
    }
}

fn wide(value: u32) -> usize {
    // Nowhere does NemoRDP run with pointers of less than 32 bits.
    usize::try_from(value).unwrap_or(usize::MAX)
}
