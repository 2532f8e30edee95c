//! Where orders go, and where they would go if the fleet were another one.

use clap::Args;
use nemordp_api::{
    CapacityChange, Gpus, InstanceMove, OrderPlacement, Placement, PlacementNode, SupposedNode, SupposedPlan, WhatIf,
    WhatIfRequest,
};
use nemordp_types::{GiB, GpuModel, MiB, NodeId, OrderId, PlanName, RegionName, StorageClass, TemplateName, Vcpu};

use crate::client::Client;
use crate::error::Error;
use crate::output::{Output, Row, cell};

/// A question about another fleet.
#[derive(Debug, Args)]
pub struct Question {
    /// Where the order would be placed.
    #[arg(long)]
    region: RegionName,
    /// What would be ordered.
    #[arg(long)]
    plan: PlanName,
    /// What it would be made from; no node has to fetch one when absent.
    #[arg(long)]
    template: Option<TemplateName>,
    /// Until when it would be paid for, like 2027-01-31T00:00:00Z.
    #[arg(long)]
    paid_until: Option<jiff::Timestamp>,
    /// Machines more: `3:64/131072/1920/nvme` is three with 64 processors, 131072 MiB of memory and 1920 GiB of disk of
    /// this kind to sell, with `/4xrtx4000` behind it also four GPUs of this model; `2:like=ID` is two like that node, but
    /// empty. May be given again.
    #[arg(long = "add-node", value_name = "COUNT:AMOUNTS", value_parser = machines)]
    add_nodes: Vec<SupposedNode>,
    /// A machine less. May be given again.
    #[arg(long = "remove-node", value_name = "ID")]
    remove_nodes: Vec<NodeId>,
    /// A plan more: `gold=8/16384/200/nvme`, `…/nvme@40` with 40 expected orders a month, `…/nvme/1xrtx4000` with a GPU of this
    /// model, `…/nvme/1` of any model. May be given again.
    #[arg(long = "add-plan", value_name = "NAME=AMOUNTS", value_parser = offer)]
    add_plans: Vec<SupposedPlan>,
    /// A plan less. May be given again.
    #[arg(long = "remove-plan", value_name = "NAME")]
    remove_plans: Vec<PlanName>,
}

/// Processors, memory in MiB, disk in GiB, storage class, GPUs.
type AllAmounts = (Vcpu, MiB, GiB, StorageClass, Option<Gpus>);

fn amounts(text: &str) -> Result<AllAmounts, String> {
    let parts: Vec<&str> = text.split('/').collect();
    let ([vcpu, memory, disk, class], rest) = parts.split_first_chunk().ok_or(AMOUNTS)?;
    let gpus = match rest {
        [] => None,
        [text] => Some(gpus(text)?),
        _ => return Err(AMOUNTS.to_owned()),
    };
    let number = |what: &str, text: &str| text.parse::<u64>().map_err(|_| format!("{what}: `{text}` is no amount"));
    let vcpu = u32::try_from(number("processors", vcpu)?).map_err(|_| "that many processors has no machine")?;
    let class = StorageClass::new(*class).map_err(|failure| failure.message)?;
    Ok((Vcpu(vcpu), MiB(number("memory", memory)?), GiB(number("disk", disk)?), class, gpus))
}

const AMOUNTS: &str =
    "use VCPU/MEMORY_MIB/DISK_GIB/STORAGE_CLASS, like 64/131072/1920/nvme, and /4xrtx4000 behind it for GPUs";

/// `4xrtx4000`, or `4` of any model.
fn gpus(text: &str) -> Result<Gpus, String> {
    let (count, model) = match text.split_once('x') {
        Some((count, model)) => (count, Some(GpuModel::new(model).map_err(|failure| failure.message)?)),
        None => (text, None),
    };
    let count = count.parse().map_err(|_| format!("GPUs: `{count}` is no count"))?;
    Ok(Gpus { count, model })
}

fn machines(text: &str) -> Result<SupposedNode, String> {
    let (count, rest) = text.split_once(':').unwrap_or(("1", text));
    let count = count.parse().map_err(|_| format!("`{count}` is no count"))?;
    let nothing = SupposedNode {
        like: None,
        region: None,
        vcpu: None,
        memory_mib: None,
        disk_gib: None,
        storage_class: None,
        gpus: None,
        count,
    };
    if let Some(id) = rest.strip_prefix("like=") {
        let like = id.parse::<NodeId>().map_err(|failure| failure.message)?;
        return Ok(SupposedNode { like: Some(like), ..nothing });
    }
    let (vcpu, memory, disk, class, gpus) = amounts(rest)?;
    Ok(SupposedNode {
        vcpu: Some(vcpu),
        memory_mib: Some(memory),
        disk_gib: Some(disk),
        storage_class: Some(class),
        gpus,
        ..nothing
    })
}

fn offer(text: &str) -> Result<SupposedPlan, String> {
    let (name, rest) = text.split_once('=').ok_or("use NAME=VCPU/MEMORY_MIB/DISK_GIB/STORAGE_CLASS")?;
    let (rest, orders) = match rest.split_once('@') {
        Some((rest, orders)) => (rest, orders.parse().map_err(|_| format!("`{orders}` is no number of orders"))?),
        None => (rest, 0),
    };
    let name = PlanName::new(name).map_err(|failure| failure.message)?;
    let (vcpu, memory_mib, disk_gib, storage_class, gpus) = amounts(rest)?;
    Ok(SupposedPlan { name, vcpu, memory_mib, disk_gib, storage_class, gpus, orders })
}

impl Question {
    pub(super) async fn ask(self, client: &Client, output: &Output) -> Result<(), Error> {
        let request = WhatIfRequest {
            region: self.region,
            plan: self.plan,
            template: self.template,
            paid_until: self.paid_until,
            add_nodes: self.add_nodes,
            remove_nodes: self.remove_nodes,
            add_plans: self.add_plans,
            remove_plans: self.remove_plans,
        };
        let answer: WhatIf = client.post("v1/placements/what-if", &request).await?;
        if !output.is_for_people() {
            return output.text("", &answer);
        }
        output.text(&format!("NOW: {}", summary(&answer.now)), &())?;
        output.rows(&answer.now.nodes)?;
        if let Some(plan) = &answer.room_by_moving {
            let node = plan.node_id;
            output.text(&format!("\nTHESE MOVES WOULD MAKE ROOM ON {node} (nothing is moved)"), &())?;
            output.rows(&plan.moves)?;
        }
        output.text(&format!("\nTHEN: {}", summary(&answer.then)), &())?;
        output.rows(&answer.then.nodes)?;
        output.text("\nHOW MANY MORE OF EACH PLAN FIT", &())?;
        output.rows(&answer.capacity)
    }
}

/// Explains an order: the decision that was kept, or every node's verdict now.
pub(super) async fn explain(client: &Client, output: &Output, id: OrderId, now: bool) -> Result<(), Error> {
    let found: OrderPlacement = client.get(&format!("v1/orders/{id}/placement"), &[]).await?;
    if !output.is_for_people() {
        return output.text("", &found);
    }
    let Some(decided) = found.decided.filter(|_| !now) else {
        output.text(&format!("the same request now: {}", summary(&found.now)), &())?;
        return output.rows(&found.now.nodes);
    };
    output.text(&format!("decided: {}", summary(&decided)), &())?;
    output.rows(&decided.nodes)?;
    output.text("\n--now shows every node's verdict on the same request now", &())
}

/// One line for people.
fn summary(placement: &Placement) -> String {
    let node = placement.node_id.map(|id| {
        let named = placement.nodes.iter().find(|node| node.node_id == id).and_then(|node| node.name.clone());
        named.map_or_else(|| id.to_string(), |name| format!("{name} ({id})"))
    });
    let outcome = match (placement.placed, node, &placement.message) {
        (true, Some(node), _) => format!("placed on {node}"),
        (true, None, _) => "placed".to_owned(),
        (false, _, Some(message)) => format!("refused: {message}"),
        (false, _, None) => "refused".to_owned(),
    };
    let refusals: Vec<String> = placement.refusals.iter().map(|(word, count)| format!("{word} {count}")).collect();
    let refusals = if refusals.is_empty() { "no node refused".to_owned() } else { refusals.join(", ") };
    let digest: String = placement.snapshot.chars().take(16).collect();
    format!("{outcome}; {refusals}; snapshot {digest}")
}

impl Row for InstanceMove {
    const HEADS: &'static [&'static str] = &["INSTANCE", "FROM", "TO"];

    fn cells(&self) -> Vec<String> {
        vec![self.instance_id.to_string(), self.from_node.to_string(), self.to_node.to_string()]
    }
}

impl Row for PlacementNode {
    const HEADS: &'static [&'static str] = &["NODE", "NAME", "SCORE", "WHY"];

    fn cells(&self) -> Vec<String> {
        let terms = self.terms.iter().filter(|(_, amount)| **amount > 0);
        let terms: Vec<String> = terms.map(|(word, amount)| format!("{word} {amount}")).collect();
        let why = self.refusal.as_ref().map_or_else(|| terms.join(", "), |refusal| format!("refused: {refusal}"));
        vec![self.node_id.to_string(), cell(self.name.as_ref()), cell(self.score), why]
    }
}

impl Row for CapacityChange {
    const HEADS: &'static [&'static str] = &["REGION", "PLAN", "NOW", "THEN"];

    fn cells(&self) -> Vec<String> {
        vec![self.region.to_string(), self.plan.to_string(), cell(self.now), cell(self.then)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_and_plans_are_read_from_one_word() {
        let node = machines("3:64/131072/1920/nvme").unwrap();
        assert_eq!((node.count, node.vcpu, node.memory_mib), (3, Some(Vcpu(64)), Some(MiB(131_072))));
        assert_eq!(machines("64/131072/1920/nvme").unwrap().count, 1);
        let like = machines("2:like=01890000-0000-7000-8000-000000000001").unwrap();
        assert!(like.like.is_some() && like.vcpu.is_none() && like.count == 2);
        let plan = offer("gold=8/16384/200/nvme@40").unwrap();
        assert_eq!((plan.name.as_str(), plan.disk_gib, plan.orders), ("gold", GiB(200), 40));
        let cards = Gpus { count: 4, model: Some(GpuModel::new("rtx4000").unwrap()) };
        assert_eq!(machines("2:64/131072/1920/nvme/4xrtx4000").unwrap().gpus, Some(cards));
        let any = offer("gpu=8/16384/200/nvme/1@3").unwrap();
        assert_eq!((any.gpus, any.orders), (Some(Gpus { count: 1, model: None }), 3));
        for bad in [
            "",
            "1/2/3/nvme/x",
            "1/2/3/nvme/2xRTX",
            "1/2/3/nvme/1/2",
            "x:1/2/3/nvme",
            "1/2/3",
            "1/2/-3/nvme",
            "like=x",
            "99999999999/1/1/nvme",
        ] {
            assert!(machines(bad).is_err(), "{bad}");
        }
        assert!(offer("gold").is_err() && offer("gold=1/1/1/nvme@many").is_err());
    }
}
