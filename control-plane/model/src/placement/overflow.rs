//! Which cloud takes what no node takes: the cheapest offer that satisfies the order, over the time that it is expected to
//! live.
//!
//! Clouds bill differently: some by the hour up to a monthly cap, some by whole months with a fee for setting up, so the
//! cheapest for a day is often not the cheapest for a year.

use std::collections::{BTreeMap, BTreeSet};

use nemordp_types::{GiB, GpuModel, MiB, RegionName, Vcpu};
use serde::{Deserialize, Serialize};

use super::PlacementRequest;
use crate::label::Label;
use crate::words;

/// Hours of a month where clouds cap or charge by it.
const HOURS_PER_MONTH: u64 = 672;

words! {
    /// What kind of system a template holds; a cloud may lack the licence for one.
    GuestSystem {
        /// Any Linux.
        Linux = "linux",
        /// Windows, which needs a licence.
        Windows = "windows",
    }
}

words! {
    /// Why an offer was passed over; the first of them that applies, in this order.
    OfferRefusal {
        /// Its data centre serves another region.
        Region = "region",
        /// It is not offered with this system.
        System = "system",
        /// It is sold out.
        Stock = "stock",
        /// Too few processors.
        Vcpu = "vcpu",
        /// Too little memory.
        Memory = "memory",
        /// Too small a disk.
        Disk = "disk",
        /// No GPU, too few, or of another model.
        Gpu = "gpu",
    }
}

/// Money in millionths of the installation's currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MicroMoney(pub u64);

/// How an offer is billed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tariff {
    /// By each begun hour, up to a cap per month.
    Hourly {
        /// An hour.
        hour: MicroMoney,
        /// A month at most; no cap when absent.
        month_cap: Option<MicroMoney>,
    },
    /// By whole months, with a fee at the beginning.
    Monthly {
        /// Once.
        setup: MicroMoney,
        /// Each begun month.
        month: MicroMoney,
    },
}

impl Tariff {
    /// What so many hours cost; at least one is billed.
    #[must_use]
    pub fn costs(self, hours: u64) -> MicroMoney {
        let hours = hours.max(1);
        let (months, rest) = (hours / HOURS_PER_MONTH, hours % HOURS_PER_MONTH);
        MicroMoney(match self {
            Self::Hourly { hour, month_cap: None } => hour.0.saturating_mul(hours),
            Self::Hourly { hour, month_cap: Some(cap) } => {
                let whole = hour.0.saturating_mul(HOURS_PER_MONTH).min(cap.0).saturating_mul(months);
                whole.saturating_add(hour.0.saturating_mul(rest).min(cap.0))
            }
            Self::Monthly { setup, month } => {
                month.0.saturating_mul(hours.div_ceil(HOURS_PER_MONTH)).saturating_add(setup.0)
            }
        })
    }
}

/// A machine that a cloud sells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloudOffer {
    /// Which cloud.
    pub cloud: Label,
    /// Its data centre, in its own words.
    pub location: Label,
    /// Its plan, in its own words.
    pub plan: Label,
    /// Our regions that this data centre serves.
    pub regions: BTreeSet<RegionName>,
    /// Systems that it can be had with.
    pub systems: BTreeSet<GuestSystem>,
    /// Processors.
    pub vcpu: Vcpu,
    /// Memory.
    pub memory: MiB,
    /// Disk.
    pub disk: GiB,
    /// GPUs of one model.
    pub gpus: Option<(GpuModel, u32)>,
    /// Whether it can be had now.
    pub in_stock: bool,
    /// How it is billed.
    pub tariff: Tariff,
}

/// The choice among the offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overflow<'o> {
    /// The cheapest.
    pub offer: &'o CloudOffer,
    /// What it costs over the expected hours.
    pub cost: MicroMoney,
}

/// The cheapest offer that satisfies the order over so many hours; of equally cheap ones the largest, then the first by
/// name, so that the order of the list does not matter.
///
/// # Errors
/// How often each reason spoke against an offer, when none satisfies it.
pub fn cheapest<'o>(
    request: &PlacementRequest,
    system: GuestSystem,
    hours: u64,
    offers: &'o [CloudOffer],
) -> Result<Overflow<'o>, BTreeMap<OfferRefusal, usize>> {
    let mut refusals = BTreeMap::new();
    let mut suitable = Vec::new();
    for offer in offers {
        match satisfies(request, system, offer) {
            Ok(()) => suitable.push(Overflow { offer, cost: offer.tariff.costs(hours) }),
            Err(refusal) => *refusals.entry(refusal).or_insert(0) += 1,
        }
    }
    let best = suitable.into_iter().min_by(|a, b| {
        let size = |offer: &CloudOffer| (offer.memory, offer.vcpu, offer.disk);
        let name = |offer: &'o CloudOffer| (offer.cloud.as_str(), offer.location.as_str(), offer.plan.as_str());
        a.cost.cmp(&b.cost).then(size(b.offer).cmp(&size(a.offer))).then(name(a.offer).cmp(&name(b.offer)))
    });
    best.ok_or(refusals)
}

fn satisfies(request: &PlacementRequest, system: GuestSystem, offer: &CloudOffer) -> Result<(), OfferRefusal> {
    if !offer.regions.contains(&request.region) {
        return Err(OfferRefusal::Region);
    }
    if !offer.systems.contains(&system) {
        return Err(OfferRefusal::System);
    }
    if !offer.in_stock {
        return Err(OfferRefusal::Stock);
    }
    if offer.vcpu < request.vcpu {
        return Err(OfferRefusal::Vcpu);
    }
    if offer.memory < request.memory {
        return Err(OfferRefusal::Memory);
    }
    if offer.disk < request.disk {
        return Err(OfferRefusal::Disk);
    }
    let Some(wanted) = &request.gpus else { return Ok(()) };
    let suits = offer.gpus.as_ref().is_some_and(|(model, count)| {
        *count >= wanted.count && wanted.model.as_ref().is_none_or(|named| named == model)
    });
    if suits { Ok(()) } else { Err(OfferRefusal::Gpu) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Demand;
    use super::*;

    fn label(text: &str) -> Label {
        Label::new(text, "label").unwrap()
    }

    fn fsn1() -> RegionName {
        RegionName::new("fsn1").unwrap()
    }

    fn offer(plan: &str, size: (u32, u64, u64), tariff: Tariff) -> CloudOffer {
        CloudOffer {
            cloud: label("cloud"),
            location: label("somewhere"),
            plan: label(plan),
            regions: BTreeSet::from([fsn1()]),
            systems: BTreeSet::from([GuestSystem::Linux]),
            vcpu: Vcpu(size.0),
            memory: MiB(size.1),
            disk: GiB(size.2),
            gpus: None,
            in_stock: true,
            tariff,
        }
    }

    fn request() -> PlacementRequest {
        let storage_class = nemordp_types::StorageClass::new("nvme").unwrap();
        let demand = Demand { vcpu: Vcpu(2), memory: MiB(4_096), disk: GiB(50), storage_class, gpus: None };
        PlacementRequest::new(fsn1(), demand)
    }

    const HOURLY: Tariff = Tariff::Hourly { hour: MicroMoney(30_000), month_cap: Some(MicroMoney(20_000_000)) };
    const MONTHLY: Tariff = Tariff::Monthly { setup: MicroMoney(5_000_000), month: MicroMoney(6_000_000) };

    #[test]
    fn the_expected_life_decides_between_hours_and_months() {
        let offers = [offer("hourly", (2, 4_096, 50), HOURLY), offer("monthly", (4, 8_192, 100), MONTHLY)];
        let chosen = |hours| cheapest(&request(), GuestSystem::Linux, hours, &offers).unwrap();
        assert_eq!(chosen(24).offer.plan, label("hourly"));
        assert_eq!(chosen(24).cost, MicroMoney(720_000));
        assert_eq!(chosen(672).offer.plan, label("monthly"));
        assert_eq!(chosen(673).cost, MicroMoney(17_000_000));
        assert_eq!(HOURLY.costs(673), MicroMoney(20_030_000), "the cap, and an hour of the next month");
    }

    #[test]
    fn each_reason_against_an_offer_is_found() {
        type Spoil = fn(&mut CloudOffer, &mut PlacementRequest);
        let cases: [(OfferRefusal, Spoil); 7] = [
            (OfferRefusal::Region, |o, _| o.regions.clear()),
            (OfferRefusal::System, |o, _| o.systems = BTreeSet::from([GuestSystem::Windows])),
            (OfferRefusal::Stock, |o, _| o.in_stock = false),
            (OfferRefusal::Vcpu, |o, _| o.vcpu = Vcpu(1)),
            (OfferRefusal::Memory, |o, _| o.memory = MiB(4_095)),
            (OfferRefusal::Disk, |o, _| o.disk = GiB(49)),
            (OfferRefusal::Gpu, |o, r| {
                o.gpus = Some((GpuModel::new("l40s").unwrap(), 1));
                let model = Some(GpuModel::new("rtx4000").unwrap());
                r.gpus = Some(super::super::GpuDemand { count: 1, model });
            }),
        ];
        assert_eq!(cases.len(), OfferRefusal::ALL.len());
        for (refusal, spoil) in cases {
            let (mut one, mut request) = (offer("one", (2, 4_096, 50), HOURLY), request());
            spoil(&mut one, &mut request);
            let refused = cheapest(&request, GuestSystem::Linux, 1, &[one]).unwrap_err();
            assert_eq!(refused, BTreeMap::from([(refusal, 1)]));
        }
    }

    proptest! {
        #[test]
        fn nothing_that_satisfies_is_cheaper_and_the_list_has_no_order(
            sizes in prop::collection::vec((1u32..8, 1u64..16_384, 1u64..200, any::<bool>(), 1u64..100_000), 0..12),
            hours in 0u64..10_000,
        ) {
            let mut offers: Vec<CloudOffer> = sizes.into_iter().enumerate().map(|(index, (vcpu, memory, disk, hourly, price))| {
                let hour = Tariff::Hourly { hour: MicroMoney(price), month_cap: None };
                let month = Tariff::Monthly { setup: MicroMoney(price), month: MicroMoney(price * 300) };
                offer(&format!("p{index}"), (vcpu, memory, disk), if hourly { hour } else { month })
            }).collect();
            let fits = |o: &CloudOffer| o.vcpu >= Vcpu(2) && o.memory >= MiB(4_096) && o.disk >= GiB(50);
            let least = offers.iter().filter(|o| fits(o)).map(|o| o.tariff.costs(hours)).min();
            let chosen = cheapest(&request(), GuestSystem::Linux, hours, &offers).ok();
            prop_assert_eq!(chosen.map(|overflow| overflow.cost), least);
            let plan = chosen.map(|overflow| overflow.offer.plan.clone());
            offers.reverse();
            let backward = cheapest(&request(), GuestSystem::Linux, hours, &offers).ok();
            prop_assert_eq!(backward.map(|overflow| overflow.offer.plan.clone()), plan);
        }
    }
}
