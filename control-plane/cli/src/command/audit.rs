//! The money-leak check.

use nemordp_api::{AuditFinding, AuditReport};

use crate::client::Client;
use crate::error::Error;
use crate::output::{Output, Row, cell};

/// Runs it, shows what does not fit, and fails when something does not.
pub(super) async fn run(client: &Client, output: &Output) -> Result<(), Error> {
    let report: AuditReport = client.post_plain("v1/audit").await?;
    let AuditReport { orders, instances, nodes, findings, .. } = &report;
    if findings.is_empty() {
        let text = format!("everything fits together: {orders} orders, {instances} instances, {nodes} nodes");
        return output.text(&text, &report);
    }
    if output.is_for_people() {
        output.rows(findings)?;
    } else {
        output.text("", &report)?;
    }
    Err(Error::Findings { count: findings.len() })
}

impl Row for AuditFinding {
    const HEADS: &'static [&'static str] = &["FINDING", "ORDER", "INSTANCE", "NODE", "OPERATION", "DETAIL", "FIX"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.finding.clone(),
            cell(self.order_id),
            cell(self.instance_id),
            cell(self.node_id),
            cell(self.operation_id),
            self.detail.clone(),
            self.fix.clone(),
        ]
    }
}
