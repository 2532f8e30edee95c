//! Orders.

use clap::{Args, Subcommand};
use nemordp_api::{Affinity, NewOrder, Order, OrderState};
use nemordp_types::{HostName, KeyboardLayout, OrderId, PlanName, RegionName, TemplateName, TimeZoneName};

use crate::client::Client;
use crate::error::Error;
use crate::output::{Output, Row, cell};
use crate::watch;

/// What can be done with orders.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Places one.
    Create(Create),
    /// Lists them, the oldest first.
    List {
        /// Only those in this state.
        #[arg(long, value_parser = state)]
        state: Option<OrderState>,
        /// Only the one with the storefront's own number.
        #[arg(long)]
        external_reference: Option<String>,
        /// How many at most.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Shows one.
    Show {
        /// Its id.
        id: OrderId,
    },
    /// Explains why one went where it went: the best nodes with what their scores are made of, and who refused.
    Explain {
        /// Its id.
        id: OrderId,
        /// Every node's verdict on the same request now, instead of the decision that was kept.
        #[arg(long)]
        now: bool,
    },
    /// Cancels one that is not active yet; what was made of it is removed.
    Cancel {
        /// Its id.
        id: OrderId,
        /// Wait until all is removed.
        #[arg(long)]
        watch: bool,
    },
}

/// A new order.
#[derive(Debug, Args)]
pub struct Create {
    /// What is bought.
    #[arg(long)]
    plan: PlanName,
    /// Which system.
    #[arg(long)]
    template: TemplateName,
    /// Where.
    #[arg(long)]
    region: RegionName,
    /// Name of the machine.
    #[arg(long)]
    host_name: Option<HostName>,
    /// Time zone of the desktop, like Europe/Berlin.
    #[arg(long)]
    time_zone: Option<TimeZoneName>,
    /// Keyboard layout, like de.
    #[arg(long)]
    keyboard: Option<KeyboardLayout>,
    /// The storefront's own number.
    #[arg(long)]
    external_reference: Option<String>,
    /// Whom it belongs together with: a name alike for all of the group.
    #[arg(long)]
    placement_group: Option<String>,
    /// Where the others of the group should be: any, prefer_apart, apart, prefer_together.
    #[arg(long, requires = "placement_group", value_parser = affinity)]
    affinity: Option<Affinity>,
    /// Until when it is paid for, like 2027-01-31T00:00:00Z.
    #[arg(long)]
    paid_until: Option<jiff::Timestamp>,
    /// Show the steps until the login is proven.
    #[arg(long)]
    watch: bool,
}

fn state(word: &str) -> Result<OrderState, String> {
    OrderState::from_word(word).ok_or_else(|| {
        let words: Vec<&str> = OrderState::ALL.iter().map(|state| state.word()).collect();
        format!("use one of {}", words.join(", "))
    })
}

fn affinity(word: &str) -> Result<Affinity, String> {
    Affinity::from_word(word).ok_or_else(|| {
        let words: Vec<&str> = Affinity::ALL.iter().map(|affinity| affinity.word()).collect();
        format!("use one of {}", words.join(", "))
    })
}

impl Action {
    pub(super) async fn run(self, client: &Client, output: &Output) -> Result<(), Error> {
        match self {
            Self::Create(create) => create.run(client, output).await,
            Self::List { state, external_reference, limit } => {
                let filter =
                    [("state", state.map(|state| state.to_string())), ("external_reference", external_reference)];
                output.rows(&client.list::<Order>("v1/orders", &filter, limit).await?)
            }
            Self::Show { id } => output.one(&fetch(client, id).await?),
            Self::Explain { id, now } => super::placement::explain(client, output, id, now).await,
            Self::Cancel { id, watch } => {
                let order: Order = client.post_empty(&format!("v1/orders/{id}/cancel")).await?;
                if watch {
                    let ended = watch::until_done(client, output, &order.operation_id.to_string()).await;
                    // An order that is cancelled ends its operation as cancelled or unwound: that is the wish here.
                    let order = fetch(client, id).await?;
                    return if order.state == OrderState::Cancelled { output.one(&order) } else { ended.map(drop) };
                }
                output.one(&order)
            }
        }
    }
}

async fn fetch(client: &Client, id: OrderId) -> Result<Order, Error> {
    client.get(&format!("v1/orders/{id}"), &[]).await
}

impl Create {
    async fn run(self, client: &Client, output: &Output) -> Result<(), Error> {
        let request = NewOrder {
            plan: self.plan,
            template: self.template,
            region: self.region,
            host_name: self.host_name,
            time_zone: self.time_zone,
            keyboard: self.keyboard,
            external_reference: self.external_reference,
            placement_group: self.placement_group,
            affinity: self.affinity,
            paid_until: self.paid_until,
        };
        let mut order: Order = client.post("v1/orders", &request).await?;
        if self.watch {
            watch::until_done(client, output, &order.operation_id.to_string()).await?;
            order = fetch(client, order.id).await?;
        }
        output.one(&order)
    }
}

impl Row for Order {
    const HEADS: &'static [&'static str] = &[
        "ID",
        "STATE",
        "PLAN",
        "TEMPLATE",
        "REGION",
        "HOST NAME",
        "REFERENCE",
        "INSTANCE",
        "OPERATION",
        "CREATED",
        "CAUSE",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.state.to_string(),
            self.plan.to_string(),
            self.template.to_string(),
            self.region.to_string(),
            self.host_name.to_string(),
            cell(self.external_reference.as_ref()),
            self.instance_id.to_string(),
            self.operation_id.to_string(),
            self.created_at.to_string(),
            cell(self.failure.as_ref().map(|fault| format!("{} ({})", fault.message, fault.reason))),
        ]
    }
}
