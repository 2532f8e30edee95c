//! Placements as the API shows them.

use std::collections::BTreeMap;

use nemordp_api as api;
use nemordp_model::{Explained, Move, MovePlan, Refusal, Terms, Verdict};
use nemordp_store::Decision;
use nemordp_types::{NodeId, PlanName, RegionName};

use crate::app::{Foresight, OrderPlacement};

type Names = BTreeMap<NodeId, String>;

/// `operator`: nodes are the operator's affair.
pub(in crate::http) fn order(found: &OrderPlacement, operator: bool) -> api::OrderPlacement {
    let decided = found.decided.as_ref().map(|decision| decided(decision, &found.names));
    let shown = |placement: api::Placement| if operator { placement } else { without_nodes(placement) };
    api::OrderPlacement {
        order_id: found.order_id,
        node_id: operator.then_some(found.node_id),
        decided: decided.map(shown),
        now: shown(explained(&found.now, &found.names)),
    }
}

/// How many orders more fit now, and after the change.
type NowAndThen = (Option<u64>, Option<u64>);

pub(in crate::http) fn what_if(foresight: &Foresight) -> api::WhatIf {
    let mut capacity: BTreeMap<(&RegionName, &PlanName), NowAndThen> = BTreeMap::new();
    for now in &foresight.capacity_now {
        capacity.entry((&now.region, &now.plan)).or_default().0 = Some(now.more);
    }
    for then in &foresight.capacity_then {
        capacity.entry((&then.region, &then.plan)).or_default().1 = Some(then.more);
    }
    let capacity = capacity.into_iter().map(|((region, plan), (now, then))| api::CapacityChange {
        region: region.clone(),
        plan: plan.clone(),
        now,
        then,
    });
    api::WhatIf {
        now: explained(&foresight.now, &foresight.names),
        then: explained(&foresight.then, &foresight.names),
        capacity: capacity.collect(),
        room_by_moving: foresight.room_by_moving.as_ref().map(moves),
    }
}

fn moves(plan: &MovePlan) -> api::MovePlan {
    let one = |step: &Move| api::InstanceMove { instance_id: step.instance_id, from_node: step.from, to_node: step.to };
    api::MovePlan { moves: plan.moves.iter().map(one).collect(), node_id: plan.node_id }
}

fn without_nodes(placement: api::Placement) -> api::Placement {
    api::Placement { node_id: None, nodes: Vec::new(), ..placement }
}

fn decided(decision: &Decision, names: &Names) -> api::Placement {
    api::Placement {
        placed: decision.reserved.is_some(),
        node_id: decision.reserved,
        snapshot: decision.snapshot.clone(),
        refusals: counts(&decision.refusals),
        message: None,
        nodes: decision.best.iter().map(|best| scored(best.node_id, best.terms, names)).collect(),
    }
}

fn explained(explained: &Explained, names: &Names) -> api::Placement {
    let nodes = explained.nodes.iter().map(|found| match found.verdict {
        Verdict::Scored(terms) => scored(found.node, terms, names),
        Verdict::Refused(refusal) => api::PlacementNode {
            node_id: found.node,
            name: names.get(&found.node).cloned(),
            score: None,
            terms: BTreeMap::new(),
            refusal: Some(refusal.word().to_owned()),
        },
    });
    api::Placement {
        placed: explained.choice.is_some(),
        node_id: explained.choice,
        snapshot: explained.snapshot.to_string(),
        refusals: counts(&explained.counts()),
        message: explained.choice.is_none().then(|| explained.refusals().into_failure().message),
        nodes: nodes.collect(),
    }
}

fn scored(node_id: NodeId, terms: Terms, names: &Names) -> api::PlacementNode {
    api::PlacementNode {
        node_id,
        name: names.get(&node_id).cloned(),
        score: Some(terms.total()),
        terms: terms.parts().into_iter().map(|(word, amount)| (word.to_owned(), amount)).collect(),
        refusal: None,
    }
}

fn counts(refusals: &BTreeMap<Refusal, usize>) -> BTreeMap<String, u64> {
    let count = |nodes: usize| u64::try_from(nodes).unwrap_or(u64::MAX);
    refusals.iter().map(|(refusal, nodes)| (refusal.word().to_owned(), count(*nodes))).collect()
}
