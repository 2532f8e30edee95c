//! Traces of virtual machines: arrivals, amounts and lifetimes.

use crate::amounts::Amounts;

/// One virtual machine of a trace.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// When it comes, seconds.
    pub at: f64,
    /// When it leaves, seconds; infinite when it outlives the trace.
    pub until: f64,
    /// What it takes.
    pub amounts: Amounts,
    /// Its flavour: index into the trace's list.
    pub flavour: u32,
    /// What arrived together for one customer.
    pub batch: u32,
}

/// Arrivals in their order, with the flavours that occur.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    /// The machines, by time.
    pub arrivals: Vec<Arrival>,
    /// The distinct amounts.
    pub flavours: Vec<Amounts>,
}

/// Why a trace cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("line {line} of the trace: {why}")]
pub struct TraceError {
    /// Which line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

/// A machine that is gone within the five minutes in which it came is taken to live half of them.
const SHORTEST: f64 = 150.0;

impl Trace {
    /// Reads the columns vm_id, batch_id, arrive_s, vcpu, mem_gib, duration_s, censored (the Azure trace of Cortez et al.,
    /// SOSP'17, as published in AzurePublicDataset); the first line names them.
    ///
    /// # Errors
    /// The line that cannot be read.
    pub fn parse(text: &str) -> Result<Self, TraceError> {
        let mut trace = Self::default();
        for (index, line) in text.lines().enumerate().skip(1).filter(|(_, line)| !line.is_empty()) {
            let bad = |why: &str| TraceError { line: index + 1, why: why.to_owned() };
            let fields: Vec<f64> = line
                .split(',')
                .map(|field| field.trim().parse().map_err(|_| bad("a field is no number")))
                .collect::<Result<_, _>>()?;
            let [_, batch, at, vcpu, memory, life, censored, ..] = fields[..] else {
                return Err(bad("seven columns are needed"));
            };
            let amounts = Amounts([whole(vcpu), whole(memory * 1_024.0), 0, 0]);
            let until = if censored > 0.0 { f64::INFINITY } else { at + life.max(SHORTEST) };
            let flavour = trace.flavour(amounts);
            trace.arrivals.push(Arrival { at, until, amounts, flavour, batch: whole(batch) });
        }
        trace.arrivals.sort_by(|a, b| a.at.total_cmp(&b.at));
        Ok(trace)
    }

    fn flavour(&mut self, amounts: Amounts) -> u32 {
        let known = self.flavours.iter().position(|other| *other == amounts);
        let index = known.unwrap_or_else(|| {
            self.flavours.push(amounts);
            self.flavours.len() - 1
        });
        u32::try_from(index).unwrap_or(u32::MAX)
    }

    /// The part of the trace that a rule keeps.
    #[must_use]
    pub fn filter(&self, keep: impl Fn(&Arrival) -> bool) -> Self {
        let arrivals = self.arrivals.iter().copied().filter(|arrival| keep(arrival)).collect();
        Self { arrivals, flavours: self.flavours.clone() }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, as a float cast does")]
fn whole(value: f64) -> u32 {
    value.round() as u32
}
