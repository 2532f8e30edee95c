//! Trials one after the other on one cluster, with other orders around them, and what came of it all.

use std::time::{Duration, Instant};

use nemordp_model::SagaKind;

use super::onstage::{self, OnStage};
use super::{Blow, Dice, Trial, Wish, blow};
use crate::cluster::audit::{Findings, Ledger};
use crate::cluster::{Cluster, Database, Ending, Result, Shape, Weather};

/// Everything has to be over by then, pauses between tries included.
const SETTLE: Duration = Duration::from_secs(90);
/// Desktops that are kept from one trial to the next, so that there is always something to lose.
const KEPT: usize = 6;

/// What came of trials.
#[derive(Debug, Default)]
pub struct Score {
    /// Trials made.
    pub trials: u64,
    /// Programs killed with `kill -9`.
    pub kills: u64,
    /// Networks cut.
    pub cuts: u64,
    /// Times that PostgreSQL was brought down.
    pub restarts: u64,
    /// Orders placed.
    pub orders: u64,
    /// Sagas that ended undone, cleanly.
    pub unwound: u64,
    /// Blows that hit their step while it was open.
    pub hits: u64,
    /// What the check compared and found.
    pub findings: Findings,
    /// From `kill -9` of a replica until another one had its work.
    pub adoptions: Vec<Duration>,
}

impl Score {
    /// Adds another campaign's.
    pub fn add(&mut self, other: Self) {
        self.trials += other.trials;
        self.kills += other.kills;
        self.cuts += other.cuts;
        self.restarts += other.restarts;
        self.orders += other.orders;
        self.unwound += other.unwound;
        self.hits += other.hits;
        self.findings.add(other.findings);
        self.adoptions.extend(other.adoptions);
    }
}

impl std::fmt::Display for Score {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} trials, {} kills, {} cuts, {} store restarts, {} orders, {} hits, {} undone, {} invariants checked, \
             violations: {}",
            self.trials,
            self.kills,
            self.cuts,
            self.restarts,
            self.orders,
            self.hits,
            self.unwound,
            self.findings.checked,
            self.findings.violations.len()
        )
    }
}

/// A cluster under attack.
#[derive(Debug)]
pub struct Campaign {
    cluster: Cluster,
    database: Database,
    ledger: Ledger,
    dice: Dice,
    kept: Vec<String>,
    score: Score,
}

impl Campaign {
    /// Starts a cluster.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(shape: Shape, seed: u64) -> Result<Self> {
        let cluster = Cluster::start(shape).await?;
        let database = cluster.database().await?;
        let (ledger, dice, score) = (Ledger::default(), Dice::new(seed), Score::default());
        Ok(Self { cluster, database, ledger, dice, kept: Vec::new(), score })
    }

    /// How long the cluster took to start.
    #[must_use]
    pub const fn started_in(&self) -> Duration {
        self.cluster.started_in
    }

    /// What the check found until now.
    #[must_use]
    pub fn violations(&self) -> &[String] {
        &self.score.findings.violations
    }

    /// Makes one trial, lets everything settle, and checks.
    ///
    /// # Errors
    /// Something did not settle or cannot be read: as bad as a violation.
    pub async fn trial(&mut self, trial: &Trial) -> Result<()> {
        let target = self.opening(trial).await?;
        self.strike(trial, &target).await?;
        self.cluster.recover().await?;
        self.cluster.settle(SETTLE).await?;
        let ended = onstage::ended(&self.database, &target.saga).await?;
        self.score.unwound += u64::from(ended.status != "done");
        self.score.trials += 1;
        let before = self.score.findings.violations.len();
        self.score.findings.add(self.cluster.audit(&self.ledger).await?);
        for violation in self.score.findings.violations.iter_mut().skip(before) {
            *violation = format!("after `{trial}`: {violation}");
        }
        self.tidy(trial, &target.instance).await
    }

    /// Ends it: opens every credential, and gives the score. The directory stays when something was found.
    ///
    /// # Errors
    /// The last check cannot be made.
    pub async fn finish(mut self) -> Result<Score> {
        self.score.findings.add(self.cluster.reveal_all().await?);
        let programs = self.cluster.replicas.iter().chain(self.cluster.nodes.iter().map(|node| &node.agent));
        self.score.kills = programs.map(|program| program.kills).sum();
        self.score.restarts = self.cluster.postgres.as_ref().map_or(0, |postgres| postgres.restarts);
        if !self.score.findings.violations.is_empty() {
            let dir = self.cluster.keep();
            self.score.findings.violations.push(format!("logs and store are kept in {}", dir.display()));
        }
        Ok(self.score)
    }

    /// Leaves everything where it is, for who wants to look.
    #[must_use]
    pub fn abandon(self) -> std::path::PathBuf {
        self.cluster.keep()
    }

    async fn order(&mut self) -> Result<OnStage> {
        self.score.orders += 1;
        onstage::order(&self.cluster, &mut self.ledger).await
    }

    /// What is hit, with its step made long enough to be hit, and two orders beside it.
    async fn opening(&mut self, trial: &Trial) -> Result<OnStage> {
        let instance = if trial.kind == SagaKind::Provision {
            None
        } else if let Some(kept) = self.kept.pop() {
            Some(kept)
        } else {
            self.score.orders += 1;
            Some(onstage::delivered(&self.cluster, &self.database, &mut self.ledger).await?)
        };
        if let (Some(instance), Some(before)) = (&instance, Wish::of(trial.kind).and_then(|wish| wish.before())) {
            let begun = onstage::begin(&self.cluster, before, instance).await?;
            onstage::ended(&self.database, &begun.saga).await?;
        }
        let faults = faults(trial);
        for node in &self.cluster.nodes {
            node.faults(&faults)?;
        }
        let target = match instance {
            None => self.order().await?,
            Some(instance) => onstage::begin(&self.cluster, trial.kind, &instance).await?,
        };
        let beside = self.order().await?;
        if self.dice.one_in(3) {
            // A customer who thinks again, whatever the order is doing just now.
            let query = format!("SELECT #id# AS id FROM customer_order WHERE #instance_id# = '{}'", beside.instance);
            let order = self.database.rows(&query).await?.first().map(|row| onstage::dashed(row.text("id")));
            let path = format!("/v1/orders/{}/cancel", order.unwrap_or_default());
            let body = serde_json::json!({});
            self.cluster.api.insist(reqwest::Method::POST, &path, Some(&body), &self.cluster.api.intention()).await?;
        }
        Ok(target)
    }

    async fn strike(&mut self, trial: &Trial, target: &OnStage) -> Result<()> {
        let (saga, position) = (target.saga.as_str(), trial.position);
        let begun = onstage::watch(&self.database, saga, position, |now| now.step == "running").await?;
        self.score.hits += u64::from(begun.is_open());
        let node = onstage::place(&self.cluster, &self.database, &target.instance).await?;
        match trial.blow {
            Blow::Fails | Blow::RunsTwice => Ok(()),
            Blow::UndoneTwice => {
                for _ in 0..2 {
                    onstage::watch(&self.database, saga, position, |now| now.status == "unwinding").await?;
                    self.kill_replicas(&begun.owner, saga).await?;
                    self.cluster.start_replicas().await?;
                }
                Ok(())
            }
            Blow::ControlBefore => self.kill_replicas(&begun.owner, saga).await,
            Blow::ControlAfter => {
                self.weather(node, Weather::AnswersLost);
                self.pause(300).await;
                self.kill_replicas(&begun.owner, saga).await
            }
            Blow::AgentBefore => {
                self.cluster.kill_agent(node);
                self.pause(400).await;
                Ok(())
            }
            Blow::AgentAfter => {
                onstage::watch(&self.database, saga, position, |now| now.step != "running").await?;
                self.cluster.kill_agent(node);
                self.pause(400).await;
                Ok(())
            }
            Blow::Network => {
                let weathers = [Weather::Cut, Weather::Stalled, Weather::AnswersLost];
                let weather = weathers.get(self.dice.below(3)).copied().unwrap_or(Weather::Cut);
                self.weather(node, weather);
                tokio::time::sleep(self.cluster.shape.lease.mul_f64(1.6)).await;
                Ok(())
            }
            Blow::Both => {
                self.pause(150).await;
                self.cluster.kill_agent(node);
                self.kill_replicas(&begun.owner, saga).await
            }
            Blow::Store => self.restart_store().await,
        }
    }

    async fn restart_store(&mut self) -> Result<()> {
        self.pause(150).await;
        let endings = [Ending::Fast, Ending::Immediate, Ending::Killed];
        let ending = endings.get(self.dice.below(3)).copied().unwrap_or(Ending::Fast);
        let Some(postgres) = &mut self.cluster.postgres else { return Ok(()) };
        postgres.stop(ending);
        tokio::time::sleep(Duration::from_millis(300)).await;
        postgres.start_if_gone().await
    }

    /// Kills whoever has the lease; with several replicas the others adopt, and the time until then is noted. Sometimes
    /// all are killed.
    async fn kill_replicas(&mut self, owner: &str, saga: &str) -> Result<()> {
        let holder = (0..self.cluster.replicas.len()).find(|index| self.is_owner(*index, owner));
        let alone = self.cluster.replicas.len() == 1 || self.dice.one_in(3);
        let Some(holder) = holder.filter(|_| !alone) else {
            for index in 0..self.cluster.replicas.len() {
                self.cluster.kill_replica(index);
            }
            self.pause(200).await;
            return Ok(());
        };
        self.cluster.kill_replica(holder);
        let killed = Instant::now();
        let adopted =
            onstage::watch(&self.database, saga, 0, |now| !now.owner.is_empty() && now.owner != owner).await?;
        if adopted.is_open() {
            self.score.adoptions.push(killed.elapsed());
        }
        Ok(())
    }

    /// Every replica says in its log under which name it takes leases.
    fn is_owner(&self, index: usize, owner: &str) -> bool {
        let log = self.cluster.dir().join(format!("replica-{index}.log"));
        !owner.is_empty() && std::fs::read_to_string(log).is_ok_and(|text| text.contains(owner))
    }

    fn weather(&mut self, node: usize, weather: Weather) {
        self.score.cuts += 1;
        if let Some(node) = self.cluster.nodes.get(node) {
            node.downlink.set(weather);
            node.uplink.set(weather);
        }
    }

    async fn pause(&mut self, most_milliseconds: usize) {
        let milliseconds = u64::try_from(self.dice.below(most_milliseconds)).unwrap_or_default();
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }

    /// Keeps a few desktops as they were delivered, deletes the rest.
    async fn tidy(&mut self, trial: &Trial, target: &str) -> Result<()> {
        let query = "SELECT #id# AS id FROM instance WHERE lifecycle = 'active' ORDER BY id";
        let rows = self.database.rows(query).await?;
        let mut live: Vec<String> = rows.iter().map(|row| row.text("id").to_owned()).collect();
        self.dice.shuffle(&mut live);
        let neutral = Wish::of(trial.kind).is_some_and(|wish| wish.neutral);
        // What was changed, or could not be, goes first.
        live.sort_by_key(|instance| !neutral && instance == target);
        let keep = KEPT.min(live.len() - usize::from(!neutral && live.iter().any(|instance| instance == target)));
        let surplus = live.split_off(keep);
        for instance in &surplus {
            let begun = onstage::begin(&self.cluster, SagaKind::Delete, instance).await?;
            onstage::ended(&self.database, &begun.saga).await?;
        }
        self.kept = live;
        Ok(())
    }
}

/// Makes the hit step of every hypervisor last, or go wrong.
fn faults(trial: &Trial) -> String {
    let calls = blow::calls(trial.step);
    let fault = |call: &str, effect: &str| format!("[[faults]]\ncall = \"{call}\"\n{effect}\n");
    let (first, slow) = (calls.first(), "effect = \"delay\"\ndelay_ms = 90");
    match trial.blow {
        Blow::Fails => {
            first.map(|call| fault(call, "effect = \"fail\"\nreason = \"host_failure\"\ntimes = 2")).unwrap_or_default()
        }
        Blow::RunsTwice => calls.iter().map(|call| fault(call, "effect = \"lose_answer\"\ntimes = 1")).collect(),
        Blow::UndoneTwice => {
            let call = match (trial.step, trial.kind) {
                ("power", SagaKind::Start) => Some("domain_start"),
                ("power", _) => Some("domain_shutdown"),
                ("reconfigure", _) => Some("domain_define"),
                _ => calls.last().copied(),
            };
            let fails = call.map(|call| fault(call, "effect = \"fail\"\nreason = \"not_ours\"\ntimes = 1"));
            let undo = blow::calls("delete_instance").iter().map(|call| fault(call, slow));
            fails.into_iter().chain(undo).collect()
        }
        Blow::ControlBefore
        | Blow::ControlAfter
        | Blow::AgentBefore
        | Blow::AgentAfter
        | Blow::Network
        | Blow::Both
        | Blow::Store => calls.iter().map(|call| fault(call, slow)).collect(),
    }
}
