//! What the node is, and its templates.

use nemordp_types::node::NodeLoad;
use nemordp_types::{Failure, Template};
use nemordp_wire::v1;

use super::AgentService;
use crate::host::Host;

impl<H: Host> AgentService<H> {
    pub(super) async fn inventory(&self) -> Result<v1::GetInventoryResponse, Failure> {
        let (inventory, load) = tokio::try_join!(self.shared.host.inventory(), self.shared.host.load())?;
        let load = NodeLoad { clones: self.shared.clones(), ..load };
        Ok(v1::GetInventoryResponse { inventory: Some((&inventory).into()), load: Some((&load).into()) })
    }

    pub(super) async fn templates(&self) -> Result<v1::ListTemplatesResponse, Failure> {
        let templates = self.shared.templates.list().await?.iter().map(Into::into).collect();
        Ok(v1::ListTemplatesResponse { templates })
    }

    pub(super) fn template_prepare(
        &self,
        message: v1::PrepareTemplateRequest,
    ) -> Result<v1::PrepareTemplateResponse, Failure> {
        let wanted = message.template.ok_or_else(|| Failure::field("template", "say which template"))?;
        let wanted = Template::try_from(wanted).map_err(|failure| failure.within("template"))?;
        Ok(v1::PrepareTemplateResponse { presence: Some((&self.shared.templates.prepare(&wanted)).into()) })
    }
}
